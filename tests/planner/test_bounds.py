"""Bounds against simulations: no candidate may be faster or smaller than its bound says."""

import dataclasses
from math import pi, sqrt

import numpy as np
import pytest

from simdeep import api
from simdeep.errors import InputError
from simdeep.planner.candidates import KEYS, enumerate_candidates
from simdeep.planner.judge import Choice, judge, scenario_of
from simdeep.planner.objective import Limits, Objective
from simdeep.planner.prices import expected_largest
from simdeep.planner.search import GIB, Search
from simdeep.planner.space import space_of
from simdeep.spec.scenario import load_scenario

SCHEDULES = (
    "gpipe",
    "1f1b",
    "interleaved-1f1b",
    "interleaved-1f1b-overlap",
    "zb1p",
    "zb-h2",
    "interleaved-zb",
    "zb-v",
    "v-half",
    "v-min",
    "dualpipe",
    "dualpipev",
)


def whole_space(scenario, **values):
    space = space_of(scenario)
    return dataclasses.replace(
        space,
        values=space.values | {"schedule": SCHEDULES, "zero": (0, 1, 2, 3)} | values,
        simulations=10**6,
    )


def searched(scenario, space):
    """A search with every bound computed and nothing simulated."""
    candidates = enumerate_candidates([scenario], space)
    search = Search([scenario], candidates, Objective.of([scenario], Limits()))
    search.prepare()
    return candidates, search


@pytest.mark.parametrize(("name", "seed"), [("dense", 0), ("dense", 1), ("moe", 2), ("moe", 3)])
def test_bounds_hold_for_every_sort_of_candidate(folder, name, seed):
    scenario = load_scenario(folder / f"{name}.yaml")
    candidates, search = searched(scenario, whole_space(scenario))
    rng = np.random.default_rng(seed)
    schedule = candidates["schedule"]
    # A few of each schedule, so that rare ones are there too.
    picked = np.concatenate(
        [rng.choice(np.flatnonzero(schedule == k), 2) for k in np.unique(schedule)]
    )
    rough = search.bounds.total[picked].copy()
    search.sharpen(picked)
    for before, row in zip(rough, picked, strict=True):
        found = judge(scenario, Choice.of(candidates, int(row)))
        assert before <= search.bounds.total[row] <= found.step_time_s, found.choice
        assert search.bounds.memory[row] <= found.memory_peak_gib * GIB, found.choice


def test_bounds_are_worth_having(folder):
    """Over half of the step for plain layouts, and replaying the schedule does not lose it."""
    scenario = load_scenario(folder / "moe.yaml")
    space = whole_space(scenario, zero=(1,), tp=(1,), mbs=(1,), recompute=((),))
    candidates, search = searched(scenario, space)
    rows = np.arange(0, candidates.n, max(1, candidates.n // 12))
    search.sharpen(rows)
    shares = [
        search.bounds.total[row] / judge(scenario, Choice.of(candidates, int(row))).step_time_s
        for row in rows
    ]
    assert np.median(shares) > 0.7


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_legal_is_what_a_scenario_accepts(folder, name):
    """Candidates are all the combinations that the scenario reader takes, and no others."""
    path = folder / f"{name}.yaml"
    scenario = load_scenario(path)
    ep = (1, 4, 5) if name == "moe" else (1,)
    values = {"tp": (1, 3, 8), "pp": (1, 2, 4), "vpp": (1, 2), "ep": ep, "mbs": (1, 3)}
    space = whole_space(
        scenario, **values, zero=(1,), recompute=((),), comm_sms=(16,), stages=("auto",)
    )
    candidates = enumerate_candidates([scenario], space)
    legal = {tuple(int(candidates[k][row]) for k in KEYS) for row in range(candidates.n)}
    rng = np.random.default_rng(7)
    seen = [0, 0]
    for _ in range(200):
        place = {key: int(rng.integers(len(space.values[key]))) for key in KEYS}
        value = {key: space.values[key][at] for key, at in place.items()}
        column = tuple(
            value[key] if key in values or key in ("zero", "cp", "comm_sms") else place[key]
            for key in KEYS
        )
        dp = max(1, 16 // (value["tp"] * value["pp"] * value["cp"]))
        choice = Choice(cluster=0, dp=dp, microbatches=1, **value)
        try:
            load_scenario(path, choice.overrides())
            accepted = True
        except InputError:
            accepted = False
        assert (column in legal) == accepted, choice
        seen[accepted] += 1
    assert min(seen) > 5


def test_a_plan_is_simulated_as_the_run_command_does(folder):
    path = folder / "moe.yaml"
    scenario = load_scenario(path)
    candidates = enumerate_candidates([scenario], whole_space(scenario))
    for row in np.random.default_rng(1).integers(candidates.n, size=6).tolist():
        choice = Choice.of(candidates, row)
        found = judge(scenario, choice)
        same = load_scenario(path, choice.overrides())
        result = api.simulate(same)
        assert found.step_time_s == result.step_time_s
        assert found.memory_peak_gib == result.memory.peak_gib
        assert scenario_of(scenario, choice).resolved() == same.resolved()


def test_mean_of_the_largest_of_normal_draws():
    assert expected_largest(1) == 0.0
    assert expected_largest(2) == pytest.approx(1 / sqrt(pi), abs=1e-6)
    assert expected_largest(3) == pytest.approx(1.5 / sqrt(pi), abs=1e-6)
    draws = np.random.default_rng(0).standard_normal((20_000, 64)).max(axis=1)
    assert expected_largest(64) == pytest.approx(draws.mean(), abs=4 * draws.std() / sqrt(20_000))
