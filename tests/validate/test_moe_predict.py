"""Predictions of MoE layers against hand-worked cases, and what is refused; without torch."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from simdeep.cli.app import app
from simdeep.program.routing import RoutingTrace
from simdeep.validate.hooks.device import Device
from simdeep.validate.hooks.measurement import Spread
from simdeep.validate.moe import Case, Outcome, Point, Timing
from simdeep.validate.moe.curve import (
    Curve,
    ExpertTime,
    expert_curves,
    of_all_ranks,
    transfer_curve,
)
from simdeep.validate.moe.measured import rows_of, steps_of
from simdeep.validate.moe.outcome import PHASES
from simdeep.validate.moe.predict import joined, predict


def routing(*experts, layers=1):
    rows = len(experts)
    return RoutingTrace(
        n_experts=4,
        layer=np.repeat(np.arange(layers), rows).astype(np.int32),
        microbatch=np.zeros(rows * layers, dtype=np.int32),
        token=np.tile(np.arange(rows), layers).astype(np.int64),
        experts=np.tile(np.array(experts, dtype=np.int16), (layers, 1)),
        source=None,
    )


def test_a_layer_worked_out_by_hand():
    # Rank 0 holds experts 0 and 1, rank 1 holds 2 and 3.
    # Rank 0's three tokens go to 0 and 2, 0 and 1, 0 and 3; rank 1's two to 0 and 1, 2 and 3.
    trace = joined([routing([0, 2], [0, 1], [0, 3]), routing([0, 1], [2, 3])])
    line = Curve((0.0, 1e6), (0.0, 1.0))  # a microsecond a byte, none for nothing
    forward, backward = Curve((1.0, 100.0), (1.0, 100.0)), Curve((1.0, 100.0), (2.0, 200.0))
    found = predict(trace, 2, 8, forward, backward, line)
    assert found.rows.tolist() == [[4, 2, 2, 2]]
    # Rank 0 sends 2 rows and receives 2; rank 1 the same: 2 rows of 8 floats; counts: 2 of 8 B.
    assert found.bytes_sent == 64
    assert found.phases["dispatch F"] == pytest.approx(64e-6 + 16e-6)
    assert found.phases["combine F"] == pytest.approx(64e-6)
    assert found.phases["experts F"] == 6
    assert found.phases["experts B"] == 12
    assert found.phases["layer F"] == pytest.approx(6 + 144e-6)
    assert found.phases["layer B"] == pytest.approx(12 + 128e-6)
    # Rank 1 has four rows' time and waits two, and twice that in the backward; mean over ranks.
    assert found.waits_s == pytest.approx((2 + 4) / 2)


def test_layers_add_up_and_an_expert_without_rows_takes_no_time():
    one = joined([routing([0, 1]), routing([0, 1])])
    three = joined([routing([0, 1], layers=3), routing([0, 1], layers=3)])
    curves = Curve((1.0, 9.0), (5.0, 13.0)), Curve((1.0, 9.0), (6.0, 14.0)), Curve((64.0,), (1.0,))
    single, triple = (predict(trace, 2, 4, *curves) for trace in (one, three))
    assert single.phases["experts F"] == 12
    for name, seconds in single.phases.items():
        assert triple.phases[name] == pytest.approx(3 * seconds)
    assert triple.rows.tolist() == [[2, 2, 0, 0]] * 3


def test_curves():
    curve = Curve((1.0, 3.0), (10.0, 20.0))
    assert [curve.at(x) for x in (0, 1, 2, 3, 5)] == [10, 10, 15, 20, 30]
    assert Curve((2.0,), (7.0,)).at(100) == 7
    both = of_all_ranks([[ExpertTime(4, (1.0,), (2.0,))], [ExpertTime(4, (3.0,), (6.0,))]])
    assert both == [ExpertTime(4, (1.0, 3.0), (2.0, 6.0))]
    forward, backward = expert_curves(both)
    assert forward == Curve((4.0,), (2.0,), ((0.5, 1.5),))
    assert backward == Curve((4.0,), (4.0,), ((0.5, 1.5),))
    # One size, three repeats on two ranks: last start to last end.
    first = [[(0.0, 5.0), (10.0, 12.0), (20.0, 29.0)]]
    second = [[(1.0, 4.0), (9.0, 13.0), (21.0, 24.0)]]
    assert transfer_curve([64], [first, second]) == Curve((64,), (5.0,), ((0.8, 0.6, 1.6),))


def test_jitter_makes_ranks_wait_for_the_slowest():
    # Equal loads; experts take 1 or 3 with equal chance, so the slower of two 2.5 in the mean of
    # 64 layers, and the mean wait is half of the difference: 0.5.
    trace = joined([routing([0, 1], [2, 3], layers=64)] * 2)
    even = Curve((1.0, 9.0), (0.5, 4.5))
    uneven = Curve(even.sizes, even.seconds, ((0.5, 1.5), (0.0, 9.0)))
    free = Curve((64.0,), (0.0,))
    still, jittered = (predict(trace, 2, 4, c, c, free) for c in (even, uneven))
    assert still.phases["experts F"] == pytest.approx(64 * 2.0)
    assert still.waits_s == 0.0
    assert jittered.phases["experts F"] == pytest.approx(64 * 2.5, rel=0.05)
    assert jittered.waits_s == pytest.approx(2 * 64 * 0.5, rel=0.2)
    assert predict(trace, 2, 4, uneven, uneven, free).phases == jittered.phases


class Found:
    def __init__(self, rows, **moments):
        self.moments = [[{name.replace("_", " "): at for name, at in moments.items()}]]
        self.rows = rows


def test_phases_out_of_moments():
    names = ("dispatch_F", "combine_F", "combine_B", "dispatch_B")

    def rank(*times):
        keys = [f"{name}_{end}" for name in names for end in ("start", "end")]
        return Found([[[1, 2], [3, 4]]], **dict(zip(keys, times, strict=True)))

    ranks = [rank(0, 3, 8, 11, 20, 22, 30, 31), rank(1, 4, 6, 12, 21, 23, 26, 32)]
    steps = steps_of(ranks)
    wanted = [3, 5, 4, 2, 8, 2, 11, 11]
    assert [float(steps.phases[n][0]) for n in (*PHASES, "layer F", "layer B")] == wanted
    assert steps.waits.tolist() == [(0 + 2) / 2 + (0 + 4) / 2]
    assert rows_of(ranks).tolist() == [[4, 6, 4, 6]]


def outcome(case, error=0.1, gradient=1e-7):
    timing = Timing(1.0 + error, Spread(1.0, 0.9, 1.2))
    rows = np.array([[4, 2, 2, 2]])
    point = Point(
        tokens=256,
        routing=joined([routing([0, 1]), routing([2, 3])]),
        predicted_rows=rows.astype(float),
        measured_rows=rows,
        timings=dict.fromkeys((*PHASES, "layer F", "layer B"), timing),
        waits=timing,
        bytes_sent=64.0,
        gradient_error=gradient,
        loss=1.0,
        reference_loss=1.0,
    )
    device, curve = Device("cpu", "CPU", 1, "2.13.0", "3.11"), Curve((1.0,), (1.0,))
    alone = (ExpertTime(1, (1.0,), (1.0,)),)
    return Outcome(case, "m", device, (2.0, 1.0), alone, curve, curve, curve, (point,))


def run(monkeypatch, *args, code=0, **made):
    monkeypatch.setattr(
        "simdeep.validate.moe.validate_moe", lambda case, stage: outcome(case, **made)
    )
    result = CliRunner().invoke(app, ["validate", "moe", *map(str, args)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def test_agreement_and_exit_codes(monkeypatch, tmp_path):
    shown = json.loads(run(monkeypatch, "--json").stdout)
    (point,) = shown["points"]
    assert shown["agrees"]
    assert point["phases"]["dispatch F"]["error"] == pytest.approx(0.1)
    assert point["imbalance"] == {"predicted": 1.2, "measured": 1.2}
    assert "NOT within 5%" in run(monkeypatch, "--tolerance", 0.05, code=4).stdout
    assert "DIFFER" in run(monkeypatch, code=4, gradient=1e-3).stdout
    run(monkeypatch, code=4, gradient=float("inf"))
    run(monkeypatch, "--out", tmp_path, code=4, error=-0.3)
    assert {p.name for p in tmp_path.iterdir()} == {"moe.json", "moe.md", "moe.png", "routing.npz"}
    assert "-30.0%" in (tmp_path / "moe.md").read_text()


def refused(*args):
    result = CliRunner().invoke(app, ["validate", "moe", *map(str, args)])
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    return result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--procs", 3], "the 16 experts of tiny-moe do not divide by it; these do: 2, 4, 8, 16"),
        (["--procs", 1], "must be 2 to 16"),
        (["--tokens", "256,100"], "is 100; must be a multiple of the 128 tokens"),
        (["--tokens", "many"], "must be whole numbers"),
        (["--model", "llama-3.1-8b"], "has no experts to share"),
        (["--model", "tiny-mo"], "did you mean 'tiny-moe'"),
        (["--model", "none/config.json"], "no such file"),
    ],
)
def test_wrong_requests(monkeypatch, args, words):
    monkeypatch.setattr("simdeep.validate.moe.run.require_torch", lambda: None)
    assert words in refused(*args)


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("simdeep.validate.torch_extra.find_spec", lambda name: None)
    assert "simdeep[torch]" in refused()


def test_cases_say_all_that_is_wrong():
    message = refused("--procs", 5, "--tokens", "64,100")
    assert message.count("--tokens") == 2
    assert message.count("--procs") == 1
    assert Case().procs == 2
