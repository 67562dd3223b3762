"""`simdeep report`: a scenario, or the folder of a run, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simdeep.cli.console import Progress, note, progress, write_file
from simdeep.cli.faults import guarded
from simdeep.cli.options import EngineOption, QuietOption, SetOption, Source
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.api import Result
    from simdeep.contributions import Contribution
    from simdeep.network import Outcome


@guarded
def report(
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="SCENARIO|RUN",
            help="A scenario file, a shipped one's name, or a folder written by `run --out`.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Default: the scenario's name.html."),
    ] = None,
    schedules: Annotated[
        str | None,
        typer.Option("--schedules", metavar="A,B", help="Other schedules to compare with."),
    ] = None,
    sets: SetOption = None,
    engine: EngineOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write a report: the answer, an interactive timeline, charts, inputs and their sources.

    One self-contained file: it opens from disk, without network.
    """
    from simdeep.api import fault_cost, simulate
    from simdeep.report.html import Extras, step_report

    source = Source.of(_scenario_of(scenario), sets, engine)
    loaded = source.load()
    path = Path(f"{loaded.name}.html") if out is None else out
    with progress(quiet) as bar:
        result = simulate(loaded, bar.tasks("simulating"))
        folded_step = loaded.kind == "train" and loaded.simulate.fold
        curve = None
        effects: tuple[Contribution, ...] = ()
        if folded_step:
            from simdeep.cli.curves import bubble_curve
            from simdeep.contributions import contributions

            bar.stage("simulating without each effect")
            effects = contributions(loaded)
            curve = bubble_curve(source, result, bar)
        alltoall, no_alltoall = _alltoall(source, result, bar)
        extras = Extras(
            effects=effects,
            faults=fault_cost(loaded, result) if loaded.faults else None,
            curve=curve,
            alltoall=alltoall,
            no_alltoall=no_alltoall,
            others=_others(source, result, schedules, bar),
        )
        bar.stage("writing the report")
        text = step_report(result, extras)
        write_file(path, lambda p: p.write_text(text, encoding="utf-8", newline="\n"))
    if not quiet:
        note(f"Wrote {path} ({len(text.encode()) / 1e6:.1f} MB); open it in a browser.")


def _scenario_of(name: str) -> str:
    """The scenario itself, or the one a run left in its folder."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    inside = folder / "scenario.yaml"
    if not inside.is_file():
        message = "is a folder without scenario.yaml; name one written by `simdeep run --out`"
        raise InputError([Problem(name, "", message)])
    return str(inside)


def _alltoall(source: Source, result: Result, bar: Progress) -> tuple[list[Outcome], str]:
    """Dispatch and combine of the scenario's experts between GPUs, or why there are none."""
    scenario = result.scenario
    if scenario.model.kind != "moe" or scenario.layout.ep < 2:
        return [], ""
    from simdeep.network import DIRECTIONS, prepare, read_setting, run_direction

    bar.stage("simulating the all-to-all on the fabric")
    try:
        setting = read_setting(source.path, source.overrides)
    except InputError as error:
        # A step can be simulated from the loads of one rank, traffic between ranks cannot.
        return [], "; ".join(problem.message for problem in error.problems)
    routed = prepare(setting)
    return [run_direction(setting, routed, direction) for direction in DIRECTIONS], ""


def _others(
    source: Source, result: Result, schedules: str | None, bar: Progress
) -> dict[str, Result]:
    """The same scenario under other schedules."""
    if schedules is None:
        return {}
    from simdeep.api import simulate

    if result.scenario.kind != "train":
        message = "an overlapped pair has no schedule to compare"
        raise InputError([Problem("--schedules", "", message)])
    found = {}
    for name in dict.fromkeys(part.strip() for part in schedules.split(",")):
        bar.stage(f"simulating {name}")
        found[name] = simulate(source.load(train__schedule=name))
    return found
