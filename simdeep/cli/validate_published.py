"""`simdeep validate published`: runs that others published, predicted and compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simdeep.cli.console import answer, progress, render
from simdeep.cli.faults import guarded
from simdeep.cli.options import JsonOption, OutOption, QuietOption

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as Grid

    from simdeep.published.run import Validation
    from simdeep.published.score import Score

DISAGREES = 4
"""Exit code where an error is beyond what must hold."""


@guarded
def published(
    cases: Annotated[
        Path | None,
        typer.Argument(metavar="CASES.json", help="Published runs; the shipped ones if left out."),
    ] = None,
    family: Annotated[
        str | None, typer.Option("--family", help="Only this family of runs.")
    ] = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Predict published runs and say how far off each prediction is.

    A field that a run's source leaves open takes its framework's habit, listed with the run. Half
    of the runs, by a hash of the id, served to fit kernel and framework figures; the errors of the
    other half must stay within the stated limits, else the exit code is 4.
    """
    from simdeep.published.files import NAMES, write_files
    from simdeep.published.run import to_dict, validate
    from simdeep.report.output import OutputFolder
    from simdeep.report.result_json import to_json

    with progress(quiet) as bar:
        report = bar.tasks("predicting published runs")
        if out is None:
            result = validate(cases, family, progress=report)
        else:
            with OutputFolder(out, NAMES) as folder:
                result = validate(cases, family, progress=report)
                write_files(result, folder)
    answer(to_json(to_dict(result)) if as_json else render(_tables(result)))
    if not result.holds:
        raise typer.Exit(DISAGREES)


def _tables(result: Validation) -> Iterator[RenderableType]:
    from simdeep.published.score import by_family, score

    yield _cases(result)
    reasons = [run for run in result.runs if run.reason is not None]
    if reasons:
        yield f"{len(reasons)} runs without an error:"
        for run in reasons:
            yield f"  {run.case.id}: {run.reason}"
    yield "unstated fields, and what was taken:"
    taken: dict[str, int] = {}
    for run in result.runs:
        for key, value in run.prediction.unstated:
            taken[f"{key}: {value}"] = taken.get(f"{key}: {value}", 0) + 1
    for text, count in sorted(taken.items()):
        yield f"  {text} ({count} runs)"
    for half in ("fit", "test"):
        grid = _scores(f"{half} half")
        for name, found in by_family(result.runs, half).items():
            _row(grid, name, found)
        steps = [r for r in result.runs if r.case.half == half and r.quantity == "iteration_s"]
        _row(grid, "all iteration times", score(steps))
        yield grid
    yield _checks(result)


def _grid(*titles: str) -> Grid:
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False, header_style="")
    grid.add_column(titles[0])
    for title in titles[1:]:
        grid.add_column(title, justify="right")
    return grid


def _cases(result: Validation) -> Grid:
    grid = _grid("run", "half", "measured", "predicted", "error", "peak error")
    for run in result.runs:
        if run.error is None or run.measured is None or run.predicted is None:
            continue
        rate = run.quantity == "bubble_rate"
        unit = "" if rate else " s"
        grid.add_row(
            run.case.id,
            run.case.half,
            f"{run.measured:.4g}{unit}",
            f"{run.predicted:.4g}{unit}",
            f"{run.error:+.4f}" if rate else f"{run.error:+.1%}",
            "" if run.memory_error is None else f"{run.memory_error:+.1%}",
        )
    return grid


def _scores(title: str) -> Grid:
    return _grid(title, "runs", "MAPE", "bias", "Kendall", "peaks", "MAPE", "bias")


def _row(grid: Grid, name: str, found: Score) -> None:
    percent = "{:.4f}" if name.endswith("rates") else "{:.1%}"

    def shown(value: float | None, form: str = percent) -> str:
        return "" if value is None else form.format(value)

    grid.add_row(
        name,
        str(found.n),
        shown(found.mape),
        shown(found.bias),
        shown(found.kendall, "{:.2f}"),
        str(found.memory_n or ""),
        shown(found.memory_mape, "{:.1%}"),
        shown(found.memory_bias, "{:.1%}"),
    )


def _checks(result: Validation) -> Grid:
    grid = _grid("must hold on the test half", "limit", "found", "")
    for check in result.checks:
        found = "no such runs" if check.found is None else f"{check.found:.4g}"
        grid.add_row(check.name, f"{check.limit:g}", found, "holds" if check.holds else "MISSED")
    return grid
