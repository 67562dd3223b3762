"""Sizing: the estimate against queueing theory and the simulation, the front, bad goals."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.serving.deployment import units_of
from simdeep.serving.sizing.candidates import Tally, designs
from simdeep.serving.sizing.clusters import scenarios_on
from simdeep.serving.sizing.demand import demand_of
from simdeep.serving.sizing.estimate import Pricer
from simdeep.serving.sizing.front import not_beaten
from simdeep.serving.sizing.goal import Goal, read_goal
from simdeep.serving.sizing.launch import launch_commands
from simdeep.serving.sizing.search import judge
from simdeep.serving.sizing.size import size
from simdeep.serving.sizing.why import alternatives, reason, shortfall
from simdeep.spec.scenario import load_scenario

SMALL = {
    "size.unit_gpus": "[2, 4]",
    "size.max_rows": "[64, 256]",
    "size.chunk_tokens": "2048",
    "size.spare": "[1, 1.5]",
    "size.simulations": "4",
    "size.requests": "500",
}


@pytest.fixture(scope="module")
def llama():
    return load_scenario("llama70b-serve-h100", SMALL)


@pytest.fixture(scope="module")
def goal(llama):
    return read_goal(llama, "ttft=2s,tpot=50ms", "40/s", None)


@pytest.fixture(scope="module")
def demand(llama, goal):
    return demand_of(llama, goal.share)


@pytest.fixture(scope="module")
def priced(llama, goal, demand):
    pricer = Pricer(demand, goal)
    found = designs(llama, demand.longest, demand.row_context, Tally())
    return [pricer.price(design) for design in found]


@pytest.fixture(scope="module")
def result(llama, goal):
    return size([llama], goal)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30))
def test_front_is_what_nothing_beats(points):
    kept = not_beaten(points)
    front = {points[i] for i in kept}

    def beats(a, b):
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    assert front == {p for p in points if not any(beats(q, p) for q in points)}
    assert len(front) == len(kept)


def test_rows_follow_littles_law(priced, demand):
    """Rows = requests a second x seconds that a request decodes."""
    decode = next(p for p in priced if p.design.role == "decode")
    loads = decode.loads
    stay = (demand.output_tokens - 1) * loads.seconds / decode.design.unit.accepted_tokens
    rising = np.flatnonzero(np.diff(loads.rate) > 0)
    assert loads.rows[rising] == pytest.approx((loads.rate * stay)[rising])


def test_wait_is_kingmans(priced, demand):
    """The p-quantile of an exponential tail with Kingman's mean: mean / rho ln(rho / (1-p))."""
    prefill = next(p for p in priced if p.design.role == "prefill")
    loads, units = prefill.loads, 3
    at = int(np.argmin(np.abs(loads.rho - 0.8)))
    rho = loads.rho[at]
    service = demand.new_tokens / (units * prefill.ranks * loads.prompt_rate[at])
    mean = rho / (1 - rho) * (1 + demand.prompt_scv) / 2 * service
    wait = mean / rho * np.log(rho / 0.1)
    full = 0.9 * loads.seconds[at] + prefill.best_ttft()
    rate = units * prefill.ranks * float(loads.rate[at])
    assert prefill.latencies(units, rate)[0] == pytest.approx(wait + full, rel=1e-6)


def test_more_units_take_more_than_in_proportion(priced):
    """Pooled queues: the share of capacity kept free falls with the number of units."""
    for one in priced:
        each = [one.most_of(n) / n for n in (1, 2, 4, 16)]
        assert all(b >= a for a, b in itertools.pairwise(each))
        fewest = one.fewest(5.0, 64)
        assert fewest is not None
        assert one.most_of(fewest) >= 5.0
        assert fewest == 1 or one.most_of(fewest - 1) < 5.0


def test_all_candidates_are_accounted_for(llama, goal, demand):
    judged = judge([llama], goal, demand)
    assert judged.candidates == len(judged.deployments) + sum(judged.dropped.values())
    dropped = sum(judged.tally.dropped.values())
    assert judged.tally.combinations == len(judged.priced) + dropped
    assert {one.way for one in judged.deployments} == {"mixed", "disaggregated"}


def test_winner_meets_the_goal_and_no_other_is_cheaper(result):
    winner = result.winner
    assert winner is not None
    assert winner.meets
    assert winner.figures.slo_attainment >= result.goal.share
    assert all(winner.usd_per_mtok <= other.usd_per_mtok for other in result.meeting)
    assert winner in result.front
    gpus = winner.deployment.gpus
    dollars = gpus * 2.0 / 3600 / (40 * result.demand.tokens) * 1e6
    assert winner.usd_per_mtok == pytest.approx(dollars)
    assert "Limited by" in reason(result) or "load" in reason(result)
    assert {"serving", "decode TP"} & {other.choice for other in alternatives(result)}


def test_estimate_is_near_the_simulation(result):
    """Predicted without any fit: TPOT at the share within 15% where the simulation is steady."""
    steady = [v for v in result.verified if v.growing is None]
    assert steady
    for one in steady:
        if one.deployment.way == "disaggregated":
            simulated = one.figures.tpot_s.p90
            assert one.deployment.tpot_s == pytest.approx(simulated, rel=0.15)


def test_nothing_within_the_goal(llama):
    impossible = Goal(2.0, 1e-3, 0.9, 10.0, None)
    found = size([llama], impossible)
    assert found.winner is None
    assert "a single row takes" in shortfall(found)


def test_nothing_fits_into_memory():
    scenario = load_scenario(
        "dsv3-decode-ep144",
        {
            "traffic.rate": "10/s",
            "size.serving": "disaggregated",
            "size.unit_gpus": "4",
            "size.tp": "1",
            "deployment.decode.dp": "8",
            "deployment.decode.ep": "8",
            "deployment.decode.redundant": "0",
            "deployment.prefill.dp": "8",
        },
    )
    found = size([scenario], read_goal(scenario, "tpot=1s", "10/s", None))
    assert found.winner is None
    assert found.judged.tally.dropped["memory"] == found.judged.tally.combinations
    assert "weights, buffers and activations" in shortfall(found)


def test_gpus_are_never_exceeded(llama):
    found = size([llama], read_goal(llama, None, None, "16"))
    assert found.winner is not None
    assert all(one.gpus <= 16 for one in found.judged.deployments)
    assert found.winner.deployment.rate > 0


@pytest.mark.parametrize(
    ("slo", "rate", "gpus", "said"),
    [
        ("ttft=2", "1/s", None, "no unit"),
        ("tpt=2ms", "1/s", None, "did you mean 'tpot'"),
        ("tpot", "1/s", None, "has no value"),
        ("tpot=1s,tpot=2s", "1/s", None, "given twice"),
        ("share=1.5", "1/s", None, "between 0 and 1"),
        (None, "-1/s", None, "greater than zero"),
        (None, "0/s", None, "greater than zero"),
        (None, "5", None, "no unit"),
        (None, None, "0", "not a number of GPUs"),
        (None, None, None, "neither is given"),
        (None, "1/s", "8", "both are given"),
    ],
)
def test_bad_goals(llama, slo, rate, gpus, said):
    with pytest.raises(InputError, match=said):
        read_goal(llama, slo, rate, gpus)


def test_unknown_gpu_names_the_nearest(llama):
    with pytest.raises(InputError, match="did you mean h200"):
        scenarios_on(llama, ["h2o0"])
    own, other = scenarios_on(llama, ["h100", "h200"])
    assert own is llama
    assert other.topology.gpu.id == "h200"
    assert other.usd_per_gpu_hour == 2.5


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("sglang", ("python -m sglang.launch_server", "--tp-size", "sglang_router")),
        ("vllm", ("vllm serve $MODEL", "--tensor-parallel-size")),
        ("dynamo", ("python3 -m dynamo.frontend", "python3 -m dynamo.sglang")),
    ],
)
def test_launch_commands(result, server, words):
    text = launch_commands(result.winner.deployment, server)
    assert all(word in text for word in words)
    for role, count in result.winner.deployment.units.items():
        assert f"# {role}: {count} unit" in text


def test_launch_commands_of_experts_say_what_is_simulated():
    scenario = load_scenario("dsv3-serve-h800")
    units = units_of(scenario)
    deployment = SimpleNamespace(
        scenario=scenario,
        way="disaggregated",
        units={"prefill": 29, "decode": 9},
        parts={role: SimpleNamespace(design=SimpleNamespace(unit=u)) for role, u in units.items()},
    )
    text = launch_commands(deployment, "sglang")
    for flag in (
        "--moe-dense-tp-size 1",
        "--ep-num-redundant-experts 32",
        "--deepep-mode normal",
        "--deepep-mode low_latency",
        "--chunked-prefill-size 524288",
        "--speculative-num-draft-tokens 2",
        "--nnodes 18",
    ):
        assert flag in text
    # The checkpoint is in FP8: servers are not told so.
    assert "--quantization" not in text
    assert "deepep_high_throughput" in launch_commands(deployment, "vllm")
    assert "--disaggregation-transfer-backend nixl" in launch_commands(deployment, "dynamo")
