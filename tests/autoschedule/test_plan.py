"""Schedules made for scenarios: against the engine's own runs and memory."""

import numpy as np
import pytest

from simdeep.analysis.memory import GIB, memory
from simdeep.api import machine_of
from simdeep.autoschedule import auto_table, chunk_costs, plan_schedule, plan_stages
from simdeep.cost.memory import static_memory
from simdeep.cost.program import price_program
from simdeep.engine import compiled
from simdeep.errors import InputError
from simdeep.program.lower.train import lower
from simdeep.program.schedule import check, replay
from simdeep.program.search import Placement
from simdeep.spec.scenario import load_scenario


@pytest.fixture(scope="module")
def dense():
    return load_scenario("toy-dense", {})


@pytest.fixture(scope="module")
def plan(dense):
    return plan_schedule(dense, machine_of(dense))


def run(scenario, table):
    lowered = lower(scenario, table)
    return lowered, compiled.run(price_program(lowered.program, machine_of(scenario)))


def test_the_step_is_the_engines(dense, plan):
    best = plan.best
    check(best.table)
    _, timeline = run(dense, best.table)
    assert best.step_s == timeline.makespan_ns / 1e9
    assert best.step_s <= best.known_step_s
    assert best.found.bound.value <= best.found.value


def test_costs_of_chunks_add_up_to_a_step(dense, plan):
    best = plan.best
    estimate = replay(best.table, best.chunks.costs).makespan
    # The step has, after the last chunk, the reduction of gradients and the optimizer.
    assert best.step_s == pytest.approx(estimate, rel=0.05)


def test_memory_is_the_engines(dense, plan):
    best = plan.best
    lowered, timeline = run(dense, best.table)
    static = static_memory(dense, lowered).parts
    peak = memory(timeline, static, best.peak.max() / GIB).peak
    assert (peak <= best.peak * (1 + 1e-6)).all()
    assert peak == pytest.approx(best.peak, rel=0.05)
    assert (best.peak <= plan.memory).all()


def test_less_memory_takes_longer_or_does_not_fit(dense, plan):
    machine = machine_of(dense)
    tight = plan_schedule(dense, machine, memory_bytes=14.4 * GIB)
    assert tight.best.peak.max() <= 14.4 * GIB
    assert tight.best.step_s >= plan.best.step_s
    none = plan_schedule(dense, machine, memory_bytes=10 * GIB)
    assert none.best is None
    assert all("need" in option.reason for option in none.options)


def test_two_stages_a_rank_are_searched_interleaved_and_as_v():
    scenario = load_scenario("toy-dense", {"layout.vpp": "2", "train.schedule": "interleaved-1f1b"})
    plan = plan_schedule(scenario, machine_of(scenario), effort=0.2)
    assert [option.placement.name for option in plan.options] == ["interleaved", "V-shape"]
    assert plan.best.table.n_stages == 4


def test_auto_is_the_best_of_the_plan(dense, plan):
    assert auto_table(dense, machine_of(dense)).rows == plan.best.table.rows


def test_auto_says_what_does_not_fit():
    scenario = load_scenario("toy-dense", {"train.seq_len": "262144", "train.recompute": "none"})
    with pytest.raises(InputError, match="no order fits"):
        auto_table(scenario, machine_of(scenario))


def test_pairs_have_no_schedule():
    scenario = load_scenario("dsv3-fb-pair-h800", {})
    with pytest.raises(InputError, match="only training steps"):
        plan_schedule(scenario, machine_of(scenario))


def test_equal_stages_cost_the_same(dense):
    chunks = chunk_costs(dense, machine_of(dense), Placement.one_stage(2, dense.microbatches))
    # 17 and 15 layers; the head makes the second stage about as long as the first.
    assert chunks.costs.f == pytest.approx(np.mean(chunks.costs.f), rel=0.05)
    assert (chunks.after_i > chunks.after_f).all()  # full recomputation


def test_stages_are_balanced_by_time(dense):
    stages = plan_stages(dense, machine_of(dense))
    assert sum(stages.balanced.counts) == dense.model.n_layers
    assert stages.balanced.seconds.max() <= stages.seconds_now.max() * (1 + 1e-9)
    costs = chunk_costs(dense, machine_of(dense), Placement.one_stage(2, 8)).costs
    assert stages.seconds_now == pytest.approx(costs.f + costs.i + costs.w, rel=0.1)
