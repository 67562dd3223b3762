"""Prepares, calibrates, predicts and runs a case."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from simdeep.calibrate.workers import run_workers
from simdeep.spec.model import Model, load_model
from simdeep.validate.hooks.measurement import Spread
from simdeep.validate.moe.case import EXCHANGED, Case, check_case
from simdeep.validate.moe.curve import Curve, expert_curves, of_all_ranks, transfer_curve
from simdeep.validate.moe.measured import rows_of, steps_of
from simdeep.validate.moe.outcome import Outcome, Point, Timing
from simdeep.validate.moe.predict import VALUE_BYTES, Prediction, joined, predict
from simdeep.validate.torch_extra import require_torch

if TYPE_CHECKING:
    from simdeep.program.routing import RoutingTrace
    from simdeep.validate.moe.beside import Beside
    from simdeep.validate.moe.prepare import Prepared
    from simdeep.validate.moe.rank import Found

Stage = Callable[[str], None]


def validate_moe(case: Case, stage: Stage = lambda text: None) -> Outcome:
    """Run a case and predict it; all processes are gone when this returns or raises.

    Raises:
        InputError: torch is missing, or the case cannot be run.
        WorkerError: a process failed or the time is over; the text names its rank.
    """
    require_torch()
    model = load_model(case.config)
    check_case(case, model)
    with tempfile.TemporaryDirectory(prefix="simdeep-") as folder:
        # Imported by the processes that are started, by name; not here, where torch is not needed.
        from simdeep.validate.moe.entry import enter

        state, batches = Path(folder, "state"), Path(folder, "batches")
        files = (case, state, batches)
        stage("training the gate and timing experts")
        (prepared,) = run_workers(enter, ("prepare", *files), 1, case.backend, case.timeout_s)
        stage("timing experts and all-to-alls side by side")
        beside = run_workers(enter, ("beside", *files), case.procs, case.backend, case.timeout_s)
        stage(f"running the layers on {case.procs} processes")
        found = run_workers(enter, ("run", *files), case.procs, case.backend, case.timeout_s)
    curves = _curves(prepared, beside)
    points = []
    for number, tokens in enumerate(case.tokens):
        trace = joined(prepared.routing[number])
        predicted = predict(trace, case.procs, prepared.hidden, *curves, seed=case.seed)
        points.append(_point(tokens, trace, predicted, [of_rank[number] for of_rank in found]))
    return _outcome(case, model, prepared, curves, points)


def _curves(prepared: Prepared, beside: list[Beside]) -> tuple[Curve, Curve, Curve]:
    """Expert forward and backward, and transfer, all as ranks take them side by side."""
    sent = [rows * prepared.hidden * VALUE_BYTES * (len(beside) - 1) for rows in EXCHANGED]
    forward, backward = expert_curves(of_all_ranks([of_rank.experts for of_rank in beside]))
    return forward, backward, transfer_curve(sent, [of_rank.exchanges for of_rank in beside])


def _point(tokens: int, trace: RoutingTrace, predicted: Prediction, found: list[Found]) -> Point:
    steps = steps_of(found)
    return Point(
        tokens=tokens,
        routing=trace,
        predicted_rows=predicted.rows,
        measured_rows=rows_of(found),
        timings={
            name: Timing(predicted.phases[name], Spread.of(seconds.tolist()))
            for name, seconds in steps.phases.items()
        },
        waits=Timing(predicted.waits_s, Spread.of(steps.waits.tolist())),
        bytes_sent=predicted.bytes_sent,
        gradient_error=max(of_rank.gradient_error for of_rank in found),
        loss=found[0].loss,
        reference_loss=found[0].reference_loss,
    )


def _outcome(
    case: Case,
    model: Model,
    prepared: Prepared,
    curves: tuple[Curve, Curve, Curve],
    points: list[Point],
) -> Outcome:
    return Outcome(
        case,
        model.name,
        prepared.device,
        tuple(prepared.losses),
        tuple(prepared.experts),
        *curves,
        tuple(points),
    )
