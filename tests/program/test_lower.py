"""Lowering: what the passes make of a table, on a small dense model and on DeepSeek-V3's stages."""

import numpy as np
import pytest

from simdeep import api
from simdeep.program.columns import Action, Kind
from simdeep.program.lower.template import STREAMS
from simdeep.program.lower.train import Effects, lower
from simdeep.program.lower.units import stage_units
from simdeep.program.lower.works import CollectivesWork
from simdeep.spec.scenario import load_scenario

OPTIONS = {
    "full recomputation of experts": {
        "model": "deepseek-v2-lite",
        "layout.ep": "4",
        "train.recompute": "full",
    },
    "as shipped": {},
    "tensor parallel only": {"layout.sp": "false"},
    "context parallel": {"layout.tp": "1", "layout.sp": "false", "layout.cp": "2"},
    "zero 0": {"layout.zero": "0"},
    "zero 2": {"layout.zero": "2"},
    "fully sharded": {"layout.zero": "3"},
    "zb1p": {"train.schedule": "zb1p"},
    "dualpipe": {"train.schedule": "dualpipe"},
    "overlapped reduction": {"train.grad_sync": "overlap"},
    "experts": {"model": "deepseek-v2-lite", "layout.ep": "4"},
    "experts under dualpipe": {
        "model": "mixtral-8x7b",
        "layout.ep": "4",
        "train.schedule": "dualpipe",
        "layout.tp": "2",
    },
    "no recomputation": {"train.recompute": "none"},
}


@pytest.fixture(params=OPTIONS.values(), ids=OPTIONS)
def result(request):
    return api.simulate(load_scenario("toy-dense", request.param))


def rows_of(program, component=None, action=None, stream=None):
    keep = np.ones(program.n, bool)
    if component is not None:
        keep &= program.component == program.components.index(component)
    if action is not None:
        keep &= program.action == action
    if stream is not None:
        keep &= program.stream == STREAMS.index(stream)
    return np.flatnonzero(keep)


def test_every_layer_runs_f_i_and_w_once_for_every_microbatch(result):
    program, scenario = result.timeline.program, result.scenario
    expected = scenario.model.n_layers * scenario.microbatches
    for component in ("attn", "mlp"):
        for action in (Action.F, Action.I, Action.W):
            rows = rows_of(program, component, action)
            pairs = np.stack([program.layer[rows], program.microbatch[rows]], axis=1)
            assert len(np.unique(pairs, axis=0)) == len(rows) == expected


def test_order_of_data(result):
    """F goes down the layers, I up; W comes after I of the same half."""
    program, timeline = result.timeline.program, result.timeline
    layers, microbatches = result.scenario.model.n_layers, result.scenario.microbatches
    shape = (layers, microbatches)
    start, end = {}, {}
    for half in ("attn", "mlp"):
        for action in (Action.F, Action.I, Action.W):
            rows = rows_of(program, half, action)
            at = (program.layer[rows], program.microbatch[rows])
            start[half, action], end[half, action] = np.zeros(shape), np.zeros(shape)
            start[half, action][at] = timeline.start_ns[rows]
            end[half, action][at] = timeline.end_ns[rows]
    assert (start["mlp", Action.F] >= end["attn", Action.F]).all()
    assert (start["attn", Action.F][1:] >= end["mlp", Action.F][:-1]).all()
    assert (start["mlp", Action.I] >= end["mlp", Action.F]).all()
    assert (start["attn", Action.I] >= end["mlp", Action.I]).all()
    assert (start["mlp", Action.I][:-1] >= end["attn", Action.I][1:]).all()
    for half in ("attn", "mlp"):
        assert (start[half, Action.W] >= end[half, Action.I]).all()


def test_memory_returns_to_the_static_part(result):
    memory = result.memory
    assert (memory.live >= 0).all()
    for rank in range(result.timeline.program.n_ranks):
        _, total = memory.timeline(rank)
        assert total[-1] == sum(int(part[rank]) for part in memory.static.values())


def test_parts_add_up(result):
    assert (result.attribution.ns.sum(axis=0) == result.timeline.makespan_ns).all()
    assert sum(result.critical.ns.values()) == result.timeline.makespan_ns


def test_every_dependency_holds(result):
    program, timeline = result.timeline.program, result.timeline
    owner = np.repeat(np.arange(program.n), np.diff(program.dep_ptr))
    assert (timeline.start_ns[owner] >= timeline.end_ns[program.dep_idx]).all()


def test_flops_of_the_step_are_the_models():
    """FLOPs of all kernels over all ranks equal the closed form of the model."""
    from simdeep.program.lower.works import KernelWork
    from simdeep.program.workload.kernel import model_flops
    from simdeep.spec.flops import flops_per_token

    scenario = load_scenario("toy-dense")
    program = lower(scenario, api.schedule_table(scenario)).program
    flops = [
        float(model_flops(w.kernels)) if isinstance(w, KernelWork) else 0.0 for w in program.works
    ]
    replicas = scenario.layout.tp * scenario.layout.cp * scenario.layout.dp
    total = np.array(flops)[program.work].sum() * replicas
    expected = flops_per_token(scenario.model, 4096, causal=True) * scenario.tokens_per_step
    assert total == pytest.approx(expected, rel=0.001)


def test_stages_of_deepseek_v3():
    """61 layers, MTP module and two heads over 16 stages; embedding first, heads last."""
    scenario = load_scenario("dsv3-train-h800")
    stages = [stage_units(scenario.model, stage) for stage in scenario.layout.stages]
    assert [u.component for u in stages[0]] == ["embed"] + ["layer"] * 4
    assert [u.moe for u in stages[0]] == [False, False, False, False, True]
    assert [u.component for u in stages[-1]] == ["layer", "head", "mtp_in", "layer", "head"]
    layers = [u.layer for units in stages for u in units if u.component == "layer"]
    assert layers == list(range(62))


def test_without_effects_transfers_are_free_and_stages_equal():
    scenario = load_scenario("toy-dense")
    bare = Effects(edges=False, sends=False, step_end=False, imbalance=False)
    program = lower(scenario, api.schedule_table(scenario), bare).program
    assert (program.work[rows_of(program, action=Action.P2P)] == 0).all()
    assert program.action.max() <= Action.P2P
    busy = np.bincount(program.rank[program.kind == Kind.COMPUTE])
    assert (busy == busy[0]).all()


def test_reduction_volume_does_not_depend_on_buckets():
    """Overlapped buckets reduce the same bytes as one reduction a stage."""
    totals = []
    for mode in ("after", "overlap"):
        scenario = load_scenario("toy-dense", {"train.grad_sync": mode})
        program = lower(scenario, api.schedule_table(scenario)).program
        works = [program.works[w] for w in program.work[rows_of(program, "grad_sync")]]
        assert all(isinstance(w, CollectivesWork) for w in works)
        totals.append(sum(part.bytes for work in works for part in work.parts))
    assert totals[0] == pytest.approx(totals[1], rel=1e-4)


def test_both_copies_of_a_dualpipe_stage_reduce_together():
    scenario = load_scenario("toy-dense", {"train.schedule": "dualpipe"})
    result = api.simulate(scenario)
    program = result.timeline.program
    rows = rows_of(program, "grad_sync")
    groups = program.group[rows]
    assert (np.unique(groups, return_counts=True)[1] == 2).all()
    for group in np.unique(groups):
        members = rows[groups == group]
        assert len(set(program.rank[members])) == 2
        assert len(set(result.timeline.start_ns[members])) == 1


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_folded_equals_unfolded_when_peers_are_equal(option):
    equal = option | {"jitter.kernel_cv": "0", "routing.kind": "balanced"}
    folded, unfolded = (
        api.simulate(load_scenario("toy-dense", equal | {"simulate.fold": fold}))
        for fold in ("true", "false")
    )
    peers = folded.scenario.layout.stage_size
    one, all_ = folded.timeline, unfolded.timeline
    assert all_.program.n_ranks == peers * one.program.n_ranks
    for peer in range(peers):
        rows = slice(peer * one.program.n, (peer + 1) * one.program.n)
        np.testing.assert_array_equal(all_.start_ns[rows], one.start_ns)
        np.testing.assert_array_equal(all_.end_ns[rows], one.end_ns)


def test_full_recomputation_dispatches_again():
    counts = []
    for policy in ("none", "full"):
        options = {"model": "mixtral-8x7b", "layout.ep": "4", "train.recompute": policy}
        scenario = load_scenario("toy-dense", options)
        program = lower(scenario, api.schedule_table(scenario)).program
        counts.append(len(rows_of(program, "redispatch")))
    assert counts == [0, scenario.model.n_layers * scenario.microbatches]


def test_sequence_parallel_gathers_the_input_again_for_w():
    """Korthikanti et al. (arXiv 2205.05198): five collectives a half and micro-batch, not four."""
    scenario = load_scenario("toy-dense", {"train.recompute": "none"})
    program = lower(scenario, api.schedule_table(scenario)).program
    halves = 2 * scenario.model.n_layers * scenario.microbatches
    gathers = [len(rows_of(program, "tp_gather", action)) for action in (Action.F, Action.I)]
    scatters = len(rows_of(program, "tp_scatter"))
    layers = program.layer >= 0
    again = (layers[rows_of(program, "tp_gather", Action.W)]).sum()
    assert again == halves
    assert scatters == 2 * halves
    assert all(count >= halves for count in gathers)


def test_mtp_away_from_the_embedding_holds_a_copy_of_it():
    """Under 1F1B the last rank reads the embedding for MTP; under DualPipe it is there already."""
    from simdeep.program.lower.stage_costs import rank_params
    from simdeep.spec.params import params

    scenario = load_scenario("dsv3-train-h800")
    stages = [stage_units(scenario.model, stage) for stage in scenario.layout.stages]
    alone, (first, last) = (
        rank_params(scenario.model, scenario.layout, held)
        for held in ([stages[-1]], [stages[0], stages[-1]])
    )
    assert alone[0][0] - last[0] == params(scenario.model).embedding
    assert first[0] > params(scenario.model).embedding


def test_straddling_expert_groups_are_refused():
    from simdeep.errors import InputError

    options = {
        "topology": "gb200-nvl72-576",
        "layout.pp": "9",
        "layout.ep": "64",
        "layout.dp": "64",
        "layout.stages": "auto",
        "train.schedule": "1f1b",
    }
    scenario = load_scenario("dsv3-train-h800", options)
    with pytest.raises(InputError, match=r"layout\.ep: is 64; groups would straddle"):
        lower(scenario, api.schedule_table(scenario))


def test_a_folded_gpu_cannot_be_the_slow_one(tmp_path):
    from simdeep.errors import InputError
    from simdeep.spec.resources import catalogue

    text = catalogue("topologies")["toy-2x8"].read_text(encoding="utf-8")
    file = tmp_path / "slow.yaml"
    file.write_text(f"{text}overrides:\n  - {{element: gpu 3, speed: 0.5}}\n", encoding="utf-8")
    folded = load_scenario("toy-dense", {"topology": str(file)})
    with pytest.raises(InputError, match=r"simulate\.fold=false"):
        api.simulate(folded)
    slow = api.simulate(
        load_scenario("toy-dense", {"topology": str(file), "simulate.fold": "false"})
    )
    assert slow.stragglers.slowest(1)[0].rank == 3
