"""The search against simulating everything, on small spaces drawn at random."""

import dataclasses

import numpy as np
import pytest

from simdeep.planner.candidates import enumerate_candidates
from simdeep.planner.judge import Choice, judge
from simdeep.planner.objective import Limits, Objective
from simdeep.planner.plan import make_plan
from simdeep.planner.search import GIB, Search
from simdeep.planner.space import space_of
from simdeep.spec.scenario import load_scenario

CHOICES = {
    "tp": (1, 2, 4, 8),
    "pp": (1, 2, 4),
    "vpp": (1, 2),
    "ep": (1, 2, 4, 8),
    "zero": (0, 1, 2, 3),
    "mbs": (1, 2),
    "schedule": ("1f1b", "interleaved-1f1b", "zb1p", "zb-v", "dualpipe", "dualpipev"),
    "recompute": ((), ("selective",), ("full",)),
    "comm_sms": (16, 20),
}
MOST = 24


def small_space(scenario, seed):
    """Some values of every key, few enough to simulate all; at least four candidates."""
    rng = np.random.default_rng(seed)
    base = space_of(scenario)
    dense = scenario.model.name.startswith("llama")
    while True:
        values = dict(base.values) | {"stages": ("auto",)}
        for key, options in CHOICES.items():
            size = int(rng.integers(1, 3))
            picked = sorted(rng.choice(len(options), size, replace=False).tolist())
            values[key] = tuple(options[i] for i in picked)
        if dense:
            values |= {"ep": (1,), "comm_sms": (0,)}
        space = dataclasses.replace(base, values=values, keep=3)
        if 4 <= enumerate_candidates([scenario], space).n <= MOST:
            return space


def exhaustive(scenario, candidates):
    found = [judge(scenario, Choice.of(candidates, row)) for row in range(candidates.n)]
    capacity = scenario.topology.gpu.hbm_bytes
    return sorted(j.step_time_s for j in found if j.memory_peak_gib * GIB <= capacity)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_of_everything_is_found(folder, seed):
    scenario = load_scenario(folder / ("moe.yaml" if seed % 2 else "dense.yaml"))
    space = small_space(scenario, seed)
    candidates = enumerate_candidates([scenario], space)
    search = Search([scenario], candidates, Objective.of([scenario], Limits()))
    found = search.run()
    best = exhaustive(scenario, candidates)
    capacity = scenario.topology.gpu.hbm_bytes
    ranked = sorted(j.step_time_s for j in found.judged if j.memory_peak_gib * GIB <= capacity)
    assert found.proved
    assert ranked[:3] == best[:3]
    booked = sum(found.pruned.values()) + len(found.judged) + len(found.refused)
    assert booked == candidates.n


def test_a_search_cut_short_says_what_it_leaves_open(folder):
    scenario = load_scenario(
        folder / "moe.yaml", {"plan.simulations": "4", "plan.tp": "1", "plan.ep": "8"}
    )
    result = make_plan(scenario)
    assert not result.found.proved
    assert result.plans == () or 0 <= result.gap < 1
    assert result.found.open_bound > 0


def test_processes_find_the_same(folder):
    text = {"plan.tp": "[1, 2]", "plan.pp": "[2, 4]", "plan.ep": "[4, 8]", "plan.keep": "3"}
    scenario = load_scenario(folder / "moe.yaml", text | {"plan.mbs": "[1]"})
    alone, many = make_plan(scenario, jobs=1), make_plan(scenario, jobs=2)
    assert [p.judged for p in alone.plans[:3]] == [p.judged for p in many.plans[:3]]
    assert alone.proved == many.proved == 3


def test_limits(folder):
    scenario = load_scenario(
        folder / "dense.yaml",
        {"plan.pp": "2", "plan.tp": "[4, 8]", "plan.keep": "1", "plan.zero": "1"},
    )
    free = make_plan(scenario)
    days = free.plans[0].days_per_ttoken
    late = make_plan(scenario, limits=Limits(deadline_s=days * 86400 * 0.5))
    assert not late.plans
    assert "deadline" in late.tightest
    poor = make_plan(scenario, limits=Limits(max_usd=free.plans[0].usd_per_ttoken * 1.01))
    assert poor.plans[0].judged == free.plans[0].judged


def test_pareto_front(folder):
    scenario = load_scenario(folder / "dense.yaml", {"plan.keep": "4", "plan.zero": "[1, 3]"})
    result = make_plan(scenario)
    figures = [(p.judged.step_time_s, -p.judged.headroom_gib) for p in result.pareto]
    assert figures == sorted(figures)
    assert [f[1] for f in figures] == sorted((f[1] for f in figures), reverse=True)
    assert result.pareto[0].judged == result.plans[0].judged
    assert result.plans[0].parts.keys() == {
        "computing",
        "exposed_comm",
        "data_parallel",
        "launch_gap",
        "bubble",
    }
    assert sum(result.plans[0].parts.values()) == pytest.approx(result.plans[0].judged.step_time_s)
