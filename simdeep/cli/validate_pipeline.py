"""`simdeep validate pipeline`: a real pipeline of a small model beside its prediction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simdeep.cli.console import answer, progress, render
from simdeep.cli.faults import guarded
from simdeep.cli.options import JsonOption, OutOption, QuietOption
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simdeep.validate.pipeline import Calibration, Comparison, Overheads, Pair, Point

DISAGREES = 4
"""Exit code where prediction and measurement, or gradients, differ by more than is allowed."""

FILES = ("result.json", "predicted_measured.png", "gantt.png")
"""What `--out` writes."""

WORST = 15.0 / 8.0
"""The worst point may be off by as many times the tolerance of the median."""


@guarded
def pipeline(
    ranks: Annotated[
        str, typer.Option("--ranks", help="Pipeline ranks, one process each: 2 or 2,4.")
    ] = "2",
    microbatches: Annotated[
        str, typer.Option("--microbatches", "-m", help="Micro-batches of a step: 4,8,16.")
    ] = "4,8,16",
    schedules: Annotated[
        str,
        typer.Option("--schedules", "-s", help="Schedules, separated by commas, or all."),
    ] = "all",
    model: Annotated[
        str, typer.Option("--model", help="A config.json, or the name of a shipped model.")
    ] = "tiny-moe",
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Layers; the config's if left out.")
    ] = None,
    sequences: Annotated[
        int, typer.Option("--sequences", min=1, help="Sequences of a micro-batch.")
    ] = 4,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens of a sequence.")] = 64,
    turns: Annotated[
        int, typer.Option("--turns", min=1, help="Times calibration and runs take turns.")
    ] = 10,
    emulate: Annotated[
        bool,
        typer.Option(
            "--emulate", help="Waits of calibrated length instead of computing; messages are real."
        ),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", help="Largest median error of the step times, %; the worst: 15/8 of it."
        ),
    ] = 8.0,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Seconds for processes that run together.")
    ] = 600.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights, text and draws.")] = 0,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run pipelines of a small model on processes of this machine, and predict them.

    Calibrated on single processes only. Exit code 4: step times or gradients disagree.
    """
    from contextlib import ExitStack

    from simdeep.report.output import OutputFolder
    from simdeep.report.result_json import to_json
    from simdeep.validate import require_torch
    from simdeep.validate.pipeline import Setup, make_grid, validate_pipeline

    require_torch()
    points = make_grid(_names(schedules), _counts("--ranks", ranks), _counts("-m", microbatches))
    setup = Setup(
        model=model,
        layers=layers,
        sequences=sequences,
        tokens=tokens,
        turns=turns,
        seed=seed,
        emulate=emulate,
        backend=_backend(points),
    )
    with ExitStack() as stack:
        folder = stack.enter_context(OutputFolder(out, FILES)) if out is not None else None
        with progress(quiet) as bar:
            found = validate_pipeline(points, setup, timeout, bar.stage)
            document = _json(found, tolerance)
            if folder is not None:
                bar.stage("drawing")
                _write(folder, found, to_json(document))
    answer(to_json(document) if as_json else render(_tables(found, document)))
    if not document["agrees"]:
        raise typer.Exit(DISAGREES)


def _names(text: str) -> list[str]:
    from simdeep.validate.pipeline import SCHEDULES

    return list(SCHEDULES) if text.strip() == "all" else [name.strip() for name in text.split(",")]


def _counts(flag: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        message = f"{text!r}, must be whole numbers separated by commas, as in 2,4"
        raise InputError([Problem(flag, "", message)]) from None


def _backend(points: tuple[Point, ...]) -> str:
    """NCCL where there is a GPU for every rank, else gloo."""
    import torch

    most = max(point.ranks for point in points)
    return "nccl" if torch.cuda.is_available() and torch.cuda.device_count() >= most else "gloo"


def _agrees(found: Comparison, tolerance: float) -> bool:
    close = 100 * found.median_error <= tolerance and 100 * found.worst_error <= WORST * tolerance
    return close and found.gradients_equal is not False


def _json(found: Comparison, tolerance: float) -> dict[str, Any]:
    """Everything as one object; times in seconds, errors and shares as fractions."""
    from dataclasses import asdict

    return {
        "emulated": found.setup.emulate,
        "setup": asdict(found.setup),
        "overheads": [
            {"ranks": ranks, **_overheads_json(one)} for ranks, one in _overheads(found).items()
        ],
        "points": [_point_json(pair) for pair in found.pairs],
        "median_error": found.median_error,
        "worst_error": found.worst_error,
        "ordering": {"right": found.ordering.right, "pairs": found.ordering.pairs},
        "gradients_equal": found.gradients_equal,
        "tolerance": tolerance / 100,
        "agrees": _agrees(found, tolerance),
    }


def _overheads(found: Comparison) -> dict[int, Overheads]:
    """By number of ranks."""
    return {pair.measured.point.ranks: pair.calibration.overheads for pair in found.pairs}


def _overheads_json(overheads: Overheads) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "messages": [
            {"opened_by": "torch" if by_torch else "simdeep", **asdict(costs)}
            for by_torch, costs in overheads.messages.items()
        ],
        "copies": [{"rank": r, **costs._asdict()} for r, costs in sorted(overheads.copies.items())],
        "late_s": overheads.late_s,
        "shared_cores": overheads.shared_cores,
        "runtimes": {name: asdict(costs) for name, costs in overheads.runtimes.items()},
    }


def _calibration_json(calibration: Calibration) -> dict[str, Any]:
    return {
        "single_processes_at_once": calibration.at_once,
        "stages": [
            {
                "rank": rank,
                "stage": stage,
                "of": of,
                "saved_bytes": costs.saved_bytes,
                "parameter_bytes": costs.parameter_bytes,
                "median_s": {what: costs.median_s(what) for what in costs.samples},
                "spread": {what: costs.spread(what) for what in costs.samples},
            }
            for (rank, stage, of), costs in calibration.stages.items()
        ],
    }


def _point_json(pair: Pair) -> dict[str, Any]:
    point, predicted, measured = pair.predicted.point, pair.predicted, pair.measured
    return {
        "schedule": point.schedule,
        "ranks": point.ranks,
        "microbatches": point.microbatches,
        "predicted_step_s": pair.predicted_step_s,
        "measured_step_s": measured.step_s,
        "measured_steps_s": list(measured.step_times_s),
        "undisturbed_share": measured.calm,
        "error": pair.error,
        "predicted_bubble": predicted.bubble,
        "measured_bubble": measured.bubble,
        "predicted_action_s": dict(predicted.action_s),
        "measured_action_s": dict(measured.action_s),
        "gradient_error": measured.gradient_error,
        "loss_error": measured.loss_error,
        "calibration": _calibration_json(pair.calibration),
    }


def _tables(found: Comparison, document: dict[str, Any]) -> Iterator[RenderableType]:
    from statistics import median

    from rich.table import Table as Grid

    setup = found.setup
    what = "EMULATED: waits of calibrated length, real messages; " if setup.emulate else ""
    yield f"{what}{setup.model}, micro-batches of {setup.sequences} x {setup.tokens} tokens, " + (
        setup.backend
    )
    grid = Grid(box=None, pad_edge=False, header_style="")
    grid.add_column("schedule")
    titles = ("ranks", "mb", "predicted ms", "measured ms", "error", "bubble", "measured")
    for title in (*titles, "gradient error"):
        grid.add_column(title, justify="right")
    for pair in found.pairs:
        grid.add_row(*_row(pair))
    yield grid
    yield "actions in ms, predicted/measured:"
    yield _actions(found)
    ordering = found.ordering
    yield (
        f"step times: median error {found.median_error:.1%}, worst {found.worst_error:.1%} "
        f"(allowed {document['tolerance']:.1%} and {WORST * document['tolerance']:.1%}); "
        f"order right in {ordering.right} of {ordering.pairs} pairs that differ by over 5%"
    )
    alike = {True: "equal", False: "DIFFERENT from", None: "not compared with"}
    end = "" if found.gradients_equal is None else " (float32, 1e-5 of the largest entry)"
    yield f"gradients: {alike[found.gradients_equal]} an unpipelined run{end}"
    at_once = {pair.measured.point.ranks: pair.calibration.at_once for pair in found.pairs}
    for ranks, overheads in _overheads(found).items():
        message = next(iter(overheads.messages.values()))
        size, took = message.size / 1e3, 1e6 * median(message.passing_s)
        how = "1" if at_once[ranks] == 1 else f"{at_once[ranks]} at once"
        yield (
            f"{ranks} ranks calibrated on single processes ({how}): F, B, I, W, optimizer, "
            f"runtimes; a message of {size:.0f} kB takes {took:.0f} µs"
        )
    calm = min(pair.measured.calm for pair in found.pairs)
    if calm < 1.0:
        yield f"processes of others disturbed some turns; undisturbed at worst: {calm:.0%}"


def _row(pair: Pair) -> tuple[str, ...]:
    predicted, measured = pair.predicted, pair.measured
    error = measured.gradient_error
    return (
        *_name(predicted.point),
        f"{1e3 * pair.predicted_step_s:.1f}",
        f"{1e3 * measured.step_s:.1f}",
        f"{pair.error:+.1%}",
        f"{predicted.bubble:.1%}",
        f"{measured.bubble:.1%}",
        "-" if error is None else f"{error:.0e}",
    )


def _name(point: Point) -> tuple[str, ...]:
    return (point.schedule, str(point.ranks), str(point.microbatches))


def _actions(found: Comparison) -> RenderableType:
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False, header_style="")
    grid.add_column("schedule")
    for title in ("ranks", "mb", "F", "B", "I", "W"):
        grid.add_column(title, justify="right")
    for pair in found.pairs:
        ours, theirs = pair.predicted.action_s, pair.measured.action_s
        both = (
            f"{1e3 * ours[kind]:.1f}/{1e3 * theirs[kind]:.1f}" if kind in theirs else "-"
            for kind in ("F", "B", "I", "W")
        )
        grid.add_row(*_name(pair.predicted.point), *both)
    return grid


def _write(folder: Any, found: Comparison, text: str) -> None:
    from simdeep.report.charts import save
    from simdeep.report.charts.predicted_measured import gantts_above, predicted_measured

    def draw_points(path: Path) -> None:
        save(
            predicted_measured(
                [pair.predicted_step_s for pair in found.pairs],
                [pair.measured.step_s for pair in found.pairs],
                [pair.predicted.point.schedule for pair in found.pairs],
                emulated=found.setup.emulate,
            ),
            path,
        )

    def draw_gantts(path: Path) -> None:
        pair = min(found.pairs, key=lambda pair: pair.measured.step_s)
        save(
            gantts_above(
                pair.predicted.spans,
                pair.measured.spans,
                title=str(pair.predicted.point),
                emulated=found.setup.emulate,
            ),
            path,
        )

    folder.write("predicted_measured.png", draw_points)
    folder.write("gantt.png", draw_gantts)
    folder.write_text("result.json", text)
