"""An outcome as one JSON object with stable keys, and as a short report; units in the names."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean
from typing import Any

from simdeep.validate.moe.curve import Curve, ExpertTime
from simdeep.validate.moe.outcome import GRADIENT_TOLERANCE, PHASES, Outcome, Point, Timing


def to_document(outcome: Outcome, tolerance: float) -> dict[str, Any]:
    """Everything that was found and what it was predicted from; times in seconds."""
    case = outcome.case
    return {
        "model": outcome.model,
        "device": asdict(outcome.device),
        "backend": case.backend,
        "procs": case.procs,
        "sequence_tokens": case.sequence,
        "repeats": case.repeats,
        "seed": case.seed,
        "gate_training": {
            "steps": case.train_steps,
            "first_loss": outcome.losses[0] if outcome.losses else None,
            "last_loss": outcome.losses[-1] if outcome.losses else None,
        },
        "calibration": {
            "expert_alone": [_expert(time) for time in outcome.alone],
            "expert_beside_F": _curve(outcome.forward, "rows"),
            "expert_beside_B": _curve(outcome.backward, "rows"),
            "all_to_all": _curve(outcome.transfer, "bytes_sent"),
        },
        "tolerance": tolerance,
        "gradient_tolerance": GRADIENT_TOLERANCE,
        "agrees": outcome.agrees(tolerance),
        "points": [_point(point, case.procs) for point in outcome.points],
    }


def _expert(time: ExpertTime) -> dict[str, float]:
    return {"rows": time.rows, "F_s": fmean(time.f_s), "B_s": fmean(time.b_s)}


def _curve(curve: Curve, key: str) -> list[dict[str, float]]:
    pairs = zip(curve.sizes, curve.seconds, strict=True)
    return [{key: size, "seconds": seconds} for size, seconds in pairs]


def _point(point: Point, procs: int) -> dict[str, Any]:
    return {
        "tokens_per_rank": point.tokens,
        "bytes_sent_per_rank": point.bytes_sent,
        "phases": {name: _timing(timing) for name, timing in point.timings.items()},
        "waits": _timing(point.waits),
        "worst_error": point.worst,
        "rows_by_rank": {
            "predicted": point.by_rank(point.predicted_rows, procs).tolist(),
            "measured": point.by_rank(point.measured_rows, procs).tolist(),
        },
        "rows_by_expert": {
            "predicted": point.predicted_rows.tolist(),
            "measured": point.measured_rows.tolist(),
        },
        "rows_elsewhere": point.rows_elsewhere,
        "imbalance": {
            "predicted": point.imbalance(point.predicted_rows, procs),
            "measured": point.imbalance(point.measured_rows, procs),
        },
        "gradients_equal": point.equal,
        "gradient_error": point.gradient_error if point.gradient_error < float("inf") else None,
        "loss": point.loss,
        "reference_loss": point.reference_loss,
    }


def _timing(timing: Timing) -> dict[str, float]:
    return {
        "predicted_s": timing.predicted_s,
        "measured_s": timing.measured.median_s,
        "measured_low_s": timing.measured.low_s,
        "measured_high_s": timing.measured.high_s,
        "error": timing.error,
    }


def to_markdown(outcome: Outcome, tolerance: float) -> str:
    """The figures as a page."""
    case, device = outcome.case, outcome.device
    lines = [
        f"# Expert parallel layers on {case.procs} processes, predicted and measured",
        "",
        f"`simdeep validate moe --model {outcome.model} --procs {case.procs} --tokens "
        f"{','.join(map(str, case.tokens))}` on {device.name}, torch {device.torch}, "
        f"{case.backend}: medians of {case.repeats} steps, all MoE layers of a step together.",
        "",
        f"Predicted from experts timed on every process at the same time without a word between "
        f"them, from all-to-alls at other sizes, and from what the gate chose in one process after "
        f"{case.train_steps} training steps; nothing is taken from the run. A transfer counts from "
        "the moment its last process has come.",
        "",
        "| tokens a rank | phase | predicted ms | measured ms | quartiles | off |",
        "|---|---|---|---|---|---|",
    ]
    for point in outcome.points:
        for name, timing in (*point.timings.items(), ("waits at combines", point.waits)):
            got = timing.measured
            lines.append(
                f"| {point.tokens} | {name} | {timing.predicted_s * 1e3:.2f} | "
                f"{got.median_s * 1e3:.2f} | {got.low_s * 1e3:.2f} to {got.high_s * 1e3:.2f} | "
                f"{100 * timing.error:+.1f}% |"
            )
    lines += [
        "",
        "| tokens a rank | busiest rank over mean, predicted | measured | rows elsewhere | "
        "gradient error |",
        "|---|---|---|---|---|",
    ]
    for point in outcome.points:
        lines.append(
            f"| {point.tokens} | {point.imbalance(point.predicted_rows, case.procs):.3f} | "
            f"{point.imbalance(point.measured_rows, case.procs):.3f} | {point.rows_elsewhere} | "
            f"{point.gradient_error:.1e} |"
        )
    worst = max(point.worst for point in outcome.points)
    verdict = "within" if outcome.agrees(tolerance) else "**not** within"
    lines += [
        "",
        f"Worst phase of {', '.join(PHASES)}: {100 * worst:.1f}%, {verdict} the tolerance of "
        f"{100 * tolerance:.0f}%.",
    ]
    return "\n".join(lines) + "\n"
