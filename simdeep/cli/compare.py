"""`simdeep compare`: the same scenario under several schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from simdeep.cli.comparison import (
    FILES,
    Row,
    comparison_json,
    comparison_tables,
    results,
    write_comparison,
)
from simdeep.cli.console import Progress, answer, note, progress, render
from simdeep.cli.faults import DOES_NOT_FIT, guarded
from simdeep.cli.files import out_folder, say_written
from simdeep.cli.options import (
    EngineOption,
    JsonOption,
    OutOption,
    QuietOption,
    ScenarioArgument,
    SetOption,
    Source,
    words,
)
from simdeep.errors import InputError, Problem


@guarded
def compare(
    scenario: ScenarioArgument,
    schedules: Annotated[
        str,
        typer.Option(
            "--schedules",
            metavar="NAME,NAME,...",
            help="Schedules to compare, or all of them: all.",
        ),
    ] = "1f1b,zb1p,dualpipe",
    sets: SetOption = None,
    engine: EngineOption = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run a training scenario under several schedules, side by side.

    A schedule that cannot have the scenario's layout.vpp gets its own number of stages a rank.
    Exit code 3 if none of them fits into GPU memory.
    """
    from simdeep.report.result_json import to_json

    source = Source.of(scenario, sets, engine)
    names = _names(schedules)
    folder = out_folder(out, FILES)
    with progress(quiet) as bar, folder as files:
        rows = _rows(source, names, bar)
        document = comparison_json(rows)
        if files is not None:
            write_comparison(files, source, rows, document, bar)
    say_written(files, quiet)
    answer(to_json(document) if as_json else render(comparison_tables(rows)))
    if not any(result.memory.fits for result in results(rows)):
        note("None of the schedules fits; `simdeep run` says what to change.")
        raise typer.Exit(DOES_NOT_FIT)


def _names(text: str) -> tuple[str, ...]:
    """Canonical names, each once; raises InputError naming all that are unknown."""
    from simdeep.program.schedule import find_schedule
    from simdeep.spec.schedules import SCHEDULE_RULES

    if text.strip().lower() == "all":
        return tuple(SCHEDULE_RULES)
    names, problems = [], []
    for name in words(text):
        try:
            names.append(find_schedule(name).name)
        except InputError as error:
            problems += [Problem("--schedules", "", p.message) for p in error.problems]
    if not names and not problems:
        problems.append(Problem("--schedules", "", "names no schedule"))
    if problems:
        raise InputError(problems)
    return tuple(dict.fromkeys(names))


def _rows(source: Source, names: Sequence[str], bar: Progress) -> list[Row]:
    """A row for each schedule; a scenario that none of them can run is bad input."""
    from simdeep.api import simulate

    rows: list[Row] = []
    problems: dict[Problem, None] = {}
    for name in names:
        try:
            own = _own_layout(source, name)
            loaded = own.load(train__schedule=name)
            result = simulate(loaded, bar.tasks(f"simulating {name}"))
            rows.append(Row(name, result, source=own))
        except InputError as error:
            problems |= dict.fromkeys(error.problems)
            rows.append(
                Row(name, None, "; ".join(f"{p.key} {p.message}".strip() for p in error.problems))
            )
    if not results(rows):
        base = source.load()  # if the scenario itself is wrong, this says so without a schedule
        if base.kind != "train":
            message = f"is {base.kind}; only training steps (kind: train) can be compared"
            raise InputError([Problem(source.path, "kind", message)])
        raise InputError(problems)
    return rows


def _own_layout(source: Source, name: str) -> Source:
    """The scenario with as many stages a rank as the schedule can have, cut anew if need be."""
    from simdeep.program.schedule import find_schedule

    entry = find_schedule(name)
    # `auto` asks nothing of a layout: only what is wrong under any schedule is refused here.
    base = source.load(train__schedule="auto")
    if base.kind != "train" or entry.vpp_or_own(base.layout.vpp) == base.layout.vpp:
        return source
    changes = {"layout.vpp": str(entry.default_vpp), "layout.stages": "auto"}
    return Source(source.path, {**source.overrides, **changes})
