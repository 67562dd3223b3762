"""`simdeep validate moe`: expert parallel layers run and predicted."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from simdeep.cli.console import answer, progress, render
from simdeep.cli.faults import guarded
from simdeep.cli.files import out_folder, say_written
from simdeep.cli.options import JsonOption, OutOption, QuietOption
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType

    from simdeep.validate.moe import Outcome

DISAGREES = 4
"""Exit code where a phase is off by more than the tolerance, or gradients are not equal."""

FILES = ("moe.json", "moe.md", "moe.png", "routing.npz")
"""Every file a run may write; the routing is that of the most tokens."""


class BackendChoice(StrEnum):
    """Where ranks compute, and by what they send."""

    gloo = "gloo"
    nccl = "nccl"


@guarded
def moe(
    model: Annotated[
        str,
        typer.Option("--model", metavar="CONFIG", help="A config.json or a shipped model's name."),
    ] = "tiny-moe",
    procs: Annotated[int, typer.Option("--procs", help="Processes that share the experts.")] = 2,
    tokens: Annotated[
        str,
        typer.Option("--tokens", metavar="N[,N...]", help="Tokens of a rank in a step; each run."),
    ] = "256,1024,2048",
    sequence: Annotated[
        int, typer.Option("--sequence", min=8, max=1 << 15, help="Tokens of a sequence.")
    ] = 128,
    train_steps: Annotated[
        int,
        typer.Option("--train-steps", min=0, help="Steps the gate is trained for before the run."),
    ] = 150,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, max=1000, help="Steps that are timed.")
    ] = 20,
    backend: Annotated[
        BackendChoice, typer.Option("--backend", help="gloo on the CPU, nccl with a GPU a rank.")
    ] = BackendChoice.gloo,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Error of a phase that is agreement.")
    ] = 0.25,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of weights and tokens.")] = 0,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Seconds after which a part is given up.")
    ] = 150.0,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run MoE layers over processes with real all-to-alls, and predict every phase.

    Exit code 4: a phase is off by more than the tolerance, or gradients are not those of one
    process.
    """
    from functools import partial

    from simdeep.program.routing import write_trace
    from simdeep.report.charts.canvas import save
    from simdeep.report.result_json import to_json
    from simdeep.validate.moe import Case, validate_moe
    from simdeep.validate.moe.document import to_document, to_markdown

    case = Case(
        config=model,
        procs=procs,
        tokens=_numbers(tokens),
        sequence=sequence,
        train_steps=train_steps,
        repeats=repeats,
        seed=seed,
        backend=backend.value,
        timeout_s=timeout,
    )
    folder = out_folder(out, FILES)
    with folder as files, progress(quiet) as bar:
        outcome = validate_moe(case, bar.stage)
        document = to_document(outcome, tolerance)
        if files is not None:
            files.write_text("moe.json", to_json(document))
            files.write_text("moe.md", to_markdown(outcome, tolerance))
            files.write("moe.png", partial(save, _chart(outcome)))
            most = max(outcome.points, key=lambda point: point.tokens)
            files.write("routing.npz", lambda path: write_trace(path, most.routing))
    say_written(files, quiet)
    answer(to_json(document) if as_json else render(_tables(outcome, tolerance)))
    if not outcome.agrees(tolerance):
        raise typer.Exit(DISAGREES)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        message = "must be whole numbers with commas between, as in 256,1024"
        raise InputError([Problem(f"--tokens {text}", "", message)]) from None


def _chart(outcome: Outcome) -> Axes:
    from simdeep.report.charts.moe_phases import PhaseTimes, moe_phases
    from simdeep.validate.moe import PHASES

    groups = {}
    for point in outcome.points:
        timings = [point.timings[name] for name in PHASES]
        groups[f"{point.tokens} tokens a rank"] = [
            PhaseTimes(t.predicted_s, t.measured.median_s, t.measured.low_s, t.measured.high_s)
            for t in timings
        ]
    title = f"{outcome.model} on {outcome.case.procs} processes: predicted beside measured"
    return moe_phases(groups, list(PHASES), title=title)


def _tables(outcome: Outcome, tolerance: float) -> Iterator[RenderableType]:
    from rich.table import Table as Grid

    case, device = outcome.case, outcome.device
    yield (
        f"{outcome.model} over {case.procs} processes ({case.backend}) on {device.name}, torch "
        f"{device.torch}: milliseconds of a step, all MoE layers together, medians of "
        f"{case.repeats} steps"
    )
    for point in outcome.points:
        yield ""
        grid = Grid(box=None, pad_edge=False, header_style="")
        grid.add_column(f"{point.tokens} tokens a rank")
        for title in ("predicted", "measured", "quartiles", "off"):
            grid.add_column(title, justify="right")
        for name, timing in (*point.timings.items(), ("waits at combines", point.waits)):
            got = timing.measured
            grid.add_row(
                name,
                f"{timing.predicted_s * 1e3:.2f}",
                f"{got.median_s * 1e3:.2f}",
                f"{got.low_s * 1e3:.2f} to {got.high_s * 1e3:.2f}",
                f"{100 * timing.error:+.1f}%",
            )
        yield grid
        yield (
            f"busiest rank's rows over the mean: {_share(outcome, point.predicted_rows)} "
            f"predicted, {_share(outcome, point.measured_rows)} measured; {point.rows_elsewhere} "
            f"rows went elsewhere; gradients {'equal' if point.equal else 'DIFFER'} "
            f"({point.gradient_error:.1e})"
        )
    worst = max(point.worst for point in outcome.points)
    word = "within" if worst <= tolerance else "NOT within"
    yield ""
    yield (
        f"Worst phase off by {100 * worst:.1f}%, {word} {100 * tolerance:.0f}%. Predicted from "
        "experts timed on all processes at once, all-to-alls at other sizes and the gate's choices "
        "in one process; nothing is taken from the run."
    )


def _share(outcome: Outcome, rows: object) -> str:
    return f"{outcome.points[0].imbalance(rows, outcome.case.procs):.3f}"  # type: ignore[arg-type]
