"""DeepSeek-V3's published figures, predicted from the shipped scenarios."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from simdeep import api
from simdeep.contributions import contributions
from simdeep.program.columns import Action, Kind
from simdeep.spec.resources import resource_dir
from simdeep.spec.scenario import load_scenario

PHASES = {
    ("attn", Action.F): "attn(F)",
    ("mlp", Action.I): "mlp(B)",
    ("mlp", Action.W): "mlp(W)",
    ("mlp", Action.F): "mlp(F)",
    ("attn", Action.I): "attn(B)",
    ("attn", Action.W): "attn(W)",
}
TRANSFERS = {
    ("combine", Action.I): "combine(B)",
    ("dispatch", Action.F): "dispatch(F)",
    ("dispatch", Action.I): "dispatch(B)",
    ("combine", Action.F): "combine(F)",
}


@pytest.fixture(scope="module")
def trace():
    with (resource_dir("traces") / "h800_train_trace.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pair():
    return api.simulate(load_scenario("dsv3-fb-pair-h800"))


@pytest.fixture(scope="module")
def step():
    return api.simulate(load_scenario("dsv3-train-h800"))


def phase_span_ms(trace, phase):
    """Mean over layers of the time from a phase's first kernel to its last."""
    spans = []
    for layer in "0123":
        rows = [
            (float(r["start_us"]), float(r["start_us"]) + float(r["dur_us"]))
            for r in trace
            if r["phase"] == phase and r["layer"] == layer and r["stream_role"] != "comm"
        ]
        spans.append(max(e for _, e in rows) - min(s for s, _ in rows))
    return np.mean(spans) / 1e3


def transfer_ms(trace, phase):
    """Mean over layers of the transfer kernel's duration."""
    kernels = ("ep_dispatch", "ep_dispatch_cached", "ep_combine")
    return (
        np.mean(
            [float(r["dur_us"]) for r in trace if r["phase"] == phase and r["kernel"] in kernels]
        )
        / 1e3
    )


def spans_ms(result, component, action):
    program = result.timeline.program
    rows = (program.component == program.components.index(component)) & (program.action == action)
    return (result.timeline.end_ns - result.timeline.start_ns)[rows] / 1e6, rows


def test_pair_takes_what_the_trace_took(pair):
    assert pair.step_time_s * 1e3 == pytest.approx(128.5, rel=0.05)


@pytest.mark.parametrize("key", PHASES, ids=PHASES.values())
def test_pair_compute_phases(pair, trace, key):
    lasted, _ = spans_ms(pair, *key)
    assert len(lasted) == 4
    assert lasted.mean() == pytest.approx(phase_span_ms(trace, PHASES[key]), rel=0.10)


@pytest.mark.parametrize("key", TRANSFERS, ids=TRANSFERS.values())
def test_pair_transfers(pair, trace, key):
    lasted, rows = spans_ms(pair, *key)
    moving = lasted - pair.timeline.priced.latency_ns[rows] / 1e6
    assert moving.mean() == pytest.approx(transfer_ms(trace, TRANSFERS[key]), rel=0.10)


def test_pair_hides_its_communication(pair):
    assert pair.attribution.exposed_comm_ns.sum() < 0.03 * pair.timeline.makespan_ns


def test_pair_runs_in_the_order_of_the_trace(pair):
    program, start = pair.timeline.program, pair.timeline.start_ns
    names = {
        0: "attn(F) mlp(B) mlp(W) mlp(F) attn(B) attn(W)",
        1: "combine(B) dispatch(F) dispatch(B) combine(F)",
    }
    for stream, expected in names.items():
        rows = np.flatnonzero(program.stream == stream)
        rows = rows[np.argsort(start[rows], kind="stable")]
        both = PHASES | TRANSFERS
        seen = [
            both[program.components[program.component[r]], Action(int(program.action[r]))]
            for r in rows
        ]
        assert seen == expected.split() * 4


def gpu_hours_per_ttoken(result):
    scenario = result.scenario
    steps = 1e12 / scenario.tokens_per_step
    return steps * result.step_time_s * scenario.layout.n_ranks / 3600


def test_step_predicts_the_published_gpu_hours(step):
    """arXiv 2412.19437 section 1: 180K H800 hours, 3.7 days, for each trillion tokens."""
    hours = gpu_hours_per_ttoken(step)
    assert hours == pytest.approx(180e3, rel=0.05)
    assert hours / 2048 / 24 == pytest.approx(3.7, rel=0.05)


def test_step_fits_and_dualpipe_holds_more_than_1f1b(step):
    assert step.memory.fits
    one = api.simulate(load_scenario("dsv3-train-h800", {"train.schedule": "1f1b"}))
    assert one.memory.fits
    # Table 2: twice the parameters; PP + 1 chunks against PP.
    parameters = [r.memory.static["parameters"] for r in (step, one)]
    middle = slice(1, 15)
    np.testing.assert_allclose(parameters[0][middle], 2 * parameters[1][middle])
    chunks = [max(len(c) for c in r.memory.chunks) for r in (step, one)]
    assert chunks == [17, 16]


def test_contributions_add_up(step):
    found = contributions(step.scenario)
    assert sum(c.seconds for c in found) == pytest.approx(step.step_time_s, abs=1e-9)
    seconds = {c.name: c.seconds for c in found}
    assert seconds["routing imbalance"] > 0
    assert seconds["kernel jitter"] > 0
    assert seconds["gradient reduction and optimizer"] > 0


def test_engines_agree_on_the_step(step):
    reference = api.simulate(load_scenario("dsv3-train-h800", {"simulate.engine": "reference"}))
    np.testing.assert_array_equal(reference.timeline.start_ns, step.timeline.start_ns)
    np.testing.assert_array_equal(reference.timeline.end_ns, step.timeline.end_ns)


def test_same_seed_same_step_other_seed_other_step(step):
    again = api.simulate(load_scenario("dsv3-train-h800"))
    assert json.dumps(again.attribution.seconds_by_rank()) == json.dumps(
        step.attribution.seconds_by_rank()
    )
    other = api.simulate(load_scenario("dsv3-train-h800", {"simulate.seed": "1"}))
    assert other.step_time_s != step.step_time_s
    assert other.step_time_s == pytest.approx(step.step_time_s, rel=0.02)


def test_overlap_is_no_input(pair):
    """Free transfers save what was exposed and what they dragged, and nothing else is hidden."""
    priced = pair.timeline.priced
    transfers = priced.program.kind == Kind.TRANSFER
    free = replace(
        priced,
        latency_ns=np.where(transfers, 0.0, priced.latency_ns),
        floor_ns=np.where(transfers, 0.0, priced.floor_ns),
        port_ns=np.where(transfers[:, None], 0.0, priced.port_ns),
    )
    compute = api.run_engine("reference", free).makespan_ns
    alone = np.ceil(priced.alone_ns[~transfers] - 1e-6).sum()
    assert compute == alone
    assert compute < pair.timeline.makespan_ns
