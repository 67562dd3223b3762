"""`simdeep size`: which deployment serves a traffic within a latency goal at the least cost."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

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
    from simdeep.report.output import OutputFolder
    from simdeep.serving.sizing.size import SizeResult
    from simdeep.spec.serve import ServeScenario

A = TypeVar("A")
B = TypeVar("B")

FILES = ("sizing.json", "front.png", "candidates.png", "scenario.yaml", "launch.sh")
"""Every file a sizing may write into its folder."""


class Server(StrEnum):
    """Servers whose launch commands a sizing can be written as."""

    sglang = "sglang"
    vllm = "vllm"
    dynamo = "dynamo"


@guarded
def size(
    scenario: ScenarioArgument,
    slo: Annotated[
        str | None,
        typer.Option(
            "--slo",
            metavar="KEY=TIME,...",
            help="Latency goal, as ttft=2s,tpot=50ms and share=0.9; by default the scenario's.",
        ),
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="RATE", help="Traffic to serve, as 100/s.")
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", metavar="N", help="GPUs there are; finds the most they serve."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="TYPE,...", help="GPU types to choose from, as h800,h200."),
    ] = None,
    launch: Annotated[
        Server | None, typer.Option("--launch", help="Also give the winner's launch commands.")
    ] = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Find the cheapest deployment that serves a traffic within a latency goal.

    The scenario's `size:` section says what to choose from. Units are judged by simulated
    iterations and queueing theory, the best deployments then simulated request by request.

    Exit code 3 if nothing meets the goal; the answer then names the nearest and what it misses by.
    """
    from simdeep.report.result_json import to_json
    from simdeep.report.sizing_json import sizing_json
    from simdeep.report.sizing_tables import sizing_tables
    from simdeep.serving.sizing.clusters import scenarios_on
    from simdeep.serving.sizing.goal import read_goal
    from simdeep.serving.sizing.launch import launch_commands
    from simdeep.serving.sizing.size import size as find

    loaded = _load(Source.of(scenario, sets))
    goal, scenarios = _all_problems(
        lambda: read_goal(loaded, slo, rate, gpus), lambda: scenarios_on(loaded, _types(gpu))
    )
    folder = out_folder(out, FILES)
    with progress(quiet) as bar, folder as files:
        result = find(scenarios, goal, bar.tasks)
        text = None
        if launch is not None and result.winner is not None:
            text = launch_commands(result.winner.deployment, launch.value)
        document = sizing_json(result, text)
        if files is not None:
            bar.stage("drawing")
            _write(files, result, to_json(document), text)
    say_written(files, quiet)
    answer(to_json(document) if as_json else render(sizing_tables(result, text)))
    if result.winner is None:
        raise typer.Exit(DOES_NOT_FIT)


def _load(source: Source) -> ServeScenario:
    from simdeep.spec.scenario import load_scenario
    from simdeep.spec.serve import ServeScenario

    loaded = load_scenario(source.path, source.overrides)
    if not isinstance(loaded, ServeScenario):
        message = f"is {loaded.kind}; sizing needs a serving scenario: kind serve"
        raise InputError([Problem(source.path, "kind", message)])
    return loaded


def _all_problems(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """What both give; if one or both refuse, the problems of both."""
    problems: list[Problem] = []
    found: list[Any] = []
    for read in (first, second):
        try:
            found.append(read())
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return found[0], found[1]


def _types(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    found = words(text)
    if not found:
        raise InputError([Problem("--gpu", "", "is empty; name GPU types, as h800,h200")])
    return found


def _write(files: OutputFolder, result: SizeResult, document: str, launch: str | None) -> None:
    from simdeep.report import charts
    from simdeep.report.charts.sizing import candidates_chart, front_chart
    from simdeep.report.output import scenario_text

    files.write_text("sizing.json", document)
    if launch is not None:
        files.write_text("launch.sh", launch)
    if result.winner is not None:
        best = result.winner.scenario
        files.write_text("scenario.yaml", scenario_text(best.name, best.resolved()))
    if result.verified:
        front = front_chart(result)
        files.write("front.png", lambda path: charts.save(front, path))
    if result.judged.deployments:
        candidates = candidates_chart(result)
        files.write("candidates.png", lambda path: charts.save(candidates, path))
