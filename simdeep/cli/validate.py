"""`simdeep validate`: what simdeep plans, run on real processes and compared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simdeep.cli.console import answer, progress, render
from simdeep.cli.faults import guarded
from simdeep.cli.options import JsonOption, QuietOption
from simdeep.cli.validate_gpu import gpu
from simdeep.cli.validate_moe import moe
from simdeep.cli.validate_pipeline import pipeline
from simdeep.cli.validate_published import published
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simdeep.program.schedule import Spans, Table
    from simdeep.validate import Case, Outcome

DISAGREES = 4
"""Exit code where the pipeline's gradients are not those of the unpipelined run."""

app = typer.Typer(
    help="Compare with reality: published runs, and what simdeep plans run on real processes of "
    "this machine (needs the extra `torch`).",
    no_args_is_help=True,
    rich_markup_mode=None,
)


app.command("published")(published)
app.command("gpu")(gpu)
app.command("moe")(moe)
app.command("pipeline")(pipeline)


class Runtimes(StrEnum):
    """Which runtimes run the table."""

    all = "all"
    torch = "torch"
    simdeep = "simdeep"


@app.command("schedule")
@guarded
def schedule(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A schedule's name, or a table's file ending in .csv."),
    ],
    pp: Annotated[int, typer.Option("--pp", help="Pipeline ranks: one process each.")] = 4,
    microbatches: Annotated[int, typer.Option("--microbatches", "-m", help="Micro-batches.")] = 8,
    vpp: Annotated[
        int | None,
        typer.Option("--vpp", help="Stages on each rank; the schedule's own if left out."),
    ] = None,
    runtime: Annotated[
        Runtimes,
        typer.Option(
            "--runtime", help="torch.distributed.pipelining's, simdeep's own, or all that can."
        ),
    ] = Runtimes.all,
    width: Annotated[int, typer.Option("--width", min=1, help="Width of the model's blocks.")] = 16,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows of a micro-batch.")] = 4,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Seconds after which the run is given up.")
    ] = 120.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a schedule on a small model and compare its gradients with an unpipelined run.

    A file says its ranks and micro-batches itself. Exit code 4: the gradients differ.
    """
    from simdeep.report.result_json import to_json
    from simdeep.validate import ModelSize, require_torch, run_cases

    require_torch()
    table = _table(name, pp, microbatches, vpp)
    cases = _cases(table, runtime)
    with progress(quiet) as bar:
        bar.stage(f"running {table.name} on {table.n_ranks} processes")
        outcomes = run_cases(cases, ModelSize(width=width, rows=rows), timeout)
    answer(to_json(_json(table, outcomes)) if as_json else render(_tables(table, outcomes)))
    if not all(outcome.equal for outcome in outcomes):
        raise typer.Exit(DISAGREES)


def _table(name: str, pp: int, microbatches: int, vpp: int | None) -> Table:
    from simdeep.program.schedule import build_table, find_schedule, from_csv, schedule_problems

    if name.endswith(".csv"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError([Problem(name, "", f"cannot read: {reason}")]) from error
        return from_csv(text, name=Path(name).stem, place=name)
    if vpp is None:
        vpp = find_schedule(name).default_vpp
    problems = schedule_problems(name, pp, microbatches, vpp)
    if problems:
        raise InputError(Problem(f"--{p.key}", "", p.message) for p in problems)
    return build_table(name, pp, microbatches, vpp)


def _cases(table: Table, wanted: Runtimes) -> list[Case]:
    """The table in each runtime asked for; what can run it nowhere is refused by `run_cases`."""
    from simdeep.validate import Case, Runtime, torch_problems

    if wanted is not Runtimes.all:
        return [Case(table, Runtime(wanted.value))]
    able = [Runtime.SIMDEEP] if torch_problems(table) else [Runtime.TORCH, Runtime.SIMDEEP]
    return [Case(table, runtime) for runtime in able]


def _json(table: Table, outcomes: tuple[Outcome, ...]) -> dict[str, Any]:
    """All outcomes as one object; times in seconds."""
    from simdeep.validate import TOLERANCE

    return {
        "name": table.name,
        "pp": table.n_ranks,
        "stages": table.n_stages,
        "microbatches": table.n_microbatches,
        "parameter_copies": table.param_copies,
        "tolerance": TOLERANCE,
        "runs": [
            {
                "runtime": outcome.case.runtime.value,
                "equal": outcome.equal,
                "loss": _finite(outcome.loss),
                "loss_error": _finite(outcome.loss_error),
                "gradient_error": _finite(outcome.gradient_error),
                "copies_equal": outcome.copies_equal,
                "measured": None if outcome.spans is None else _measured(table, outcome.spans),
            }
            for outcome in outcomes
        ],
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity: an error without bound is null."""
    return value if math.isfinite(value) else None


def _measured(table: Table, spans: Spans) -> dict[str, Any]:
    return {
        "makespan_s": spans.makespan,
        "mean_s": _means(table, spans),
        "cells": [[str(cell) for cell in row] for row in table.rows],
        "start_s": [start.tolist() for start in spans.start],
        "end_s": [end.tolist() for end in spans.end],
    }


def _means(table: Table, spans: Spans) -> dict[str, float]:
    """Mean seconds of a cell by kind: F, I, W, B, and FB for a block."""
    from simdeep.program.schedule import Overlap

    took: dict[str, list[float]] = {}
    for rank, row in enumerate(table.rows):
        seconds = (spans.end[rank] - spans.start[rank]).tolist()
        for cell, time in zip(row, seconds, strict=True):
            took.setdefault("FB" if isinstance(cell, Overlap) else cell.kind, []).append(time)
    return {kind: sum(times) / len(times) for kind, times in sorted(took.items())}


def _tables(table: Table, outcomes: tuple[Outcome, ...]) -> Iterator[RenderableType]:
    from rich.table import Table as Grid

    from simdeep.validate import TOLERANCE

    copies = "" if table.param_copies == 1 else f", {table.param_copies} copies of each stage"
    yield (
        f"{table.name}: {table.n_stages} stages on {table.n_ranks} processes{copies}, "
        f"{table.n_microbatches} micro-batches, beside an unpipelined run of the same model"
    )
    grid = Grid(box=None, pad_edge=False, header_style="")
    grid.add_column("runtime")
    for title in ("gradient error", "loss error", "copies", "verdict"):
        grid.add_column(title, justify="right")
    for outcome in outcomes:
        grid.add_row(
            outcome.case.runtime.value,
            f"{outcome.gradient_error:.1e}",
            f"{outcome.loss_error:.1e}",
            "equal" if outcome.copies_equal else "differ",
            "equal" if outcome.equal else "DIFFERS",
        )
    yield grid
    yield f"equal: errors of at most {TOLERANCE:g} of the largest entry, in float64"
    for outcome in outcomes:
        if outcome.spans is not None:
            means = ", ".join(
                f"{kind} {seconds * 1e3:.2f}"
                for kind, seconds in _means(table, outcome.spans).items()
            )
            yield (
                f"measured in the runtime {outcome.case.runtime.value}: makespan "
                f"{outcome.spans.makespan * 1e3:.1f} ms; mean of a cell in ms: {means}"
            )
