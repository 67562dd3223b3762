"""Every schedule lowered: stages where the table says, transfers only between ranks."""

import numpy as np
import pytest

from simdeep import api
from simdeep.program.columns import Action
from simdeep.program.lower.train import lower
from simdeep.program.schedule import find_schedule, p2p_sends
from simdeep.spec.scenario import load_scenario
from simdeep.spec.schedules import SCHEDULE_RULES

V3 = {"layout.stages": "auto", "train.gbs": "4096"}  # 32 micro-batches on 16 ranks


def check_lowered(scenario, lowered):
    program, table = lowered.program, lowered.table
    assert table.n_stages == scenario.layout.n_stages
    sends = np.flatnonzero(program.action == Action.P2P)
    assert (program.peer[sends] != program.rank[sends]).all()
    found = np.bincount(program.rank[sends], minlength=table.n_ranks)
    assert (found == p2p_sends(table).sum(axis=1)).all()
    staged = np.flatnonzero((program.stage >= 0) & (program.microbatch >= 0))
    holder = np.array(table.stage_ranks)
    way = program.microbatch[staged] * table.directions // table.n_microbatches
    assert (holder[way, program.stage[staged]] == program.rank[staged]).all()
    layers = {layer for stage in scenario.layout.stages for layer in stage.layers}
    assert set(program.layer[program.layer >= 0]) >= layers


@pytest.mark.parametrize("name", list(SCHEDULE_RULES))
def test_a_toy_runs(name):
    vpp = find_schedule(name).default_vpp
    scenario = load_scenario("toy-dense", {"train.schedule": name, "layout.vpp": str(vpp)})
    result = api.simulate(scenario)
    check_lowered(scenario, result.lowered)
    assert result.step_time_s > 0
    assert result.memory.peak_gib > 0


@pytest.mark.parametrize("name", [n for n, r in SCHEDULE_RULES.items() if r.default_vpp > 1])
def test_deepseek_v3_is_lowered(name):
    scenario = load_scenario("dsv3-train-h800", {"train.schedule": name, "layout.vpp": "2", **V3})
    check_lowered(scenario, lower(scenario, api.schedule_table(scenario)))


def test_three_stages_a_rank():
    given = {"train.schedule": "ScheduleInterleaved1F1B", "layout.vpp": "3"}
    scenario = load_scenario("toy-dense", given)
    assert scenario.train.schedule == "interleaved-1f1b"
    check_lowered(scenario, lower(scenario, api.schedule_table(scenario)))
    plain = load_scenario("toy-dense", {})
    assert api.simulate(scenario).bubbles.bubble_over_makespan < (
        api.simulate(plain).bubbles.bubble_over_makespan
    )


def test_megatrons_overlap_hides_what_interleaving_exposes():
    """The all-to-all of experts runs beside the other chunk's compute."""
    from simdeep.analysis.overlap import exposed_comm_s

    exposed = {}
    for name in ("interleaved-1f1b", "interleaved-1f1b-overlap"):
        given = {"train.schedule": name, "layout.vpp": "2", **V3}
        result = api.simulate(load_scenario("dsv3-train-h800", given))
        exposed[name] = exposed_comm_s(result.attribution).mean
    assert exposed["interleaved-1f1b-overlap"] < 0.8 * exposed["interleaved-1f1b"]
