"""`simdeep plan`: the best layout, schedule and options for a model and a budget."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from simdeep.cli.console import answer, progress, render
from simdeep.cli.faults import DOES_NOT_FIT, guarded
from simdeep.cli.files import out_folder, say_written
from simdeep.cli.options import (
    JsonOption,
    OutOption,
    QuietOption,
    ScenarioArgument,
    SetOption,
    Source,
    words,
)
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.planner.objective import Limits
    from simdeep.planner.plan import PlanResult
    from simdeep.report.output import OutputFolder
    from simdeep.spec.scenario import Scenario

FILES = ("plan.json", "plan.png", "parts.png", "scenario.yaml", "launch.txt")
"""Every file a plan may write into its folder."""


class Framework(StrEnum):
    """Frameworks whose launch arguments a plan can be written as."""

    megatron = "megatron"
    torchtitan = "torchtitan"


@guarded
def plan(
    scenario: ScenarioArgument,
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", metavar="N,...", help="GPUs to rent, one number or several."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="TYPE,...", help="GPU types to choose from, as h800,h100."),
    ] = None,
    max_usd: Annotated[
        float | None,
        typer.Option("--max-usd", metavar="X", min=0.0, help="Budget for the scenario's tokens."),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="TIME", help="Time for the scenario's tokens, as 21d."),
    ] = None,
    launch: Annotated[
        Framework | None,
        typer.Option("--launch", help="Also give the best plan's launch arguments."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Processes; by default all cores."),
    ] = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Find the best layout, schedule and options for a training scenario.

    The scenario's `plan:` section says what to choose from. Ranks by step time; with --deadline, or
    several clusters and no --max-usd, by dollars.

    Exit code 3 if there is no plan; the answer then names the tightest constraint.
    """
    from simdeep.planner.clusters import clusters_of
    from simdeep.planner.launch import launch_arguments
    from simdeep.planner.plan import make_plan
    from simdeep.report.plan_json import plan_json
    from simdeep.report.plan_tables import plan_tables
    from simdeep.report.result_json import to_json

    loaded = Source.of(scenario, sets).load()
    limits = _limits(max_usd, deadline, loaded.goal.tokens)
    clusters = clusters_of(loaded, words(gpu or ""), _numbers(gpus, loaded))
    folder = out_folder(out, FILES)
    with progress(quiet) as bar, folder as files:

        def stage(text: str) -> Callable[[int, int], None] | None:
            counts = bar.tasks(text)
            return _counted(counts, quiet) if text.endswith("simulating") else None

        result = make_plan(loaded, clusters, limits, _jobs(jobs), stage)
        text = None
        if launch is not None and result.plans:
            text = launch_arguments(result.plans[0], launch.value)
        document = plan_json(result, text)
        if files is not None:
            bar.stage("drawing")
            _write(files, result, to_json(document), text)
    say_written(files, quiet)
    answer(to_json(document) if as_json else render(plan_tables(result, text)))
    if not result.plans:
        raise typer.Exit(DOES_NOT_FIT)


def _limits(max_usd: float | None, deadline: str | None, tokens: float | None) -> Limits:
    from simdeep.planner.objective import Limits
    from simdeep.units import UnitError, parse_quantity

    problems, seconds = [], None
    if deadline is not None:
        try:
            seconds = parse_quantity(deadline, "time", positive=True)
        except UnitError as error:
            problems.append(Problem("--deadline", "", str(error)))
    if max_usd is not None and tokens is None:
        message = "a budget is for a number of tokens: set goal.tokens=1e12"
        problems.append(Problem("--max-usd", "", message))
    if problems:
        raise InputError(problems)
    return Limits(max_usd, seconds)


def _numbers(text: str | None, scenario: Scenario) -> tuple[int, ...]:
    from simdeep.planner.space import plan_fields

    if text is None:
        return tuple(plan_fields(scenario).gpus or ())
    problems, found = [], []
    for word in words(text):
        if word.isdigit() and int(word) > 0:
            found.append(int(word))
        else:
            problems.append(Problem("--gpus", "", f"{word!r} is not a number of GPUs (1 or more)"))
    if problems or not found:
        raise InputError(problems or [Problem("--gpus", "", "is empty; give a number of GPUs")])
    return tuple(found)


def _jobs(jobs: int | None) -> int:
    if jobs is not None:
        return jobs
    import joblib

    return int(joblib.cpu_count())


def _counted(
    report: Callable[[int, int], None] | None, quiet: bool
) -> Callable[[int, int], None] | None:
    """Counts simulations on a bar; without a terminal, in a line now and then."""
    if report is not None or quiet:
        return report
    from simdeep.cli.counted import Told

    return Told(quiet, "simulations at most")


def _write(files: OutputFolder, result: PlanResult, document: str, launch: str | None) -> None:
    from simdeep.report import charts
    from simdeep.report.charts.plan import pareto_chart, parts_chart
    from simdeep.report.output import scenario_yaml

    files.write_text("plan.json", document)
    if launch is not None:
        files.write_text("launch.txt", launch)
    if result.plans:
        files.write_text("scenario.yaml", scenario_yaml(result.plans[0].scenario))
        front, parts = pareto_chart(result), parts_chart(result)
        files.write("plan.png", lambda path: charts.save(front, path))
        files.write("parts.png", lambda path: charts.save(parts, path))
