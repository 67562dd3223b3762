"""`simdeep report`: a scenario of any kind, a plan, or the folder of a run, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simdeep.cli.console import Progress, note, progress, write_file
from simdeep.cli.faults import guarded
from simdeep.cli.options import EngineOption, QuietOption, SetOption, Source
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario
    from simdeep.spec.serve import ServeScenario


@guarded
def report(
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="SCENARIO|RUN|PLAN",
            help="A scenario file, a shipped one's name, a folder written by `--out`, or a plan's "
            "JSON file.",
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
    """Write a report: the answer, charts, an interactive timeline, inputs and their sources.

    Of a training step, a serving deployment, an all-to-all, or a plan (a scenario with a `plan:`
    section, or what `simdeep plan` wrote). One self-contained file: it opens without network.
    """
    path = _file_of(scenario)
    with progress(quiet) as bar:
        if path.endswith(".json"):
            name, text = _saved_plan(path, sets, engine, schedules)
        else:
            name, text = _simulated(Source.of(path, sets, engine), schedules, bar)
        target = Path(f"{name}.html") if out is None else out
        write_file(target, lambda p: p.write_text(text, encoding="utf-8", newline="\n"))
    if not quiet:
        note(f"Wrote {target} ({len(text.encode()) / 1e6:.1f} MB); open it in a browser.")


def _file_of(name: str) -> str:
    """The scenario or plan itself, or the one a run left in its folder."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    for inside in (folder / "plan.json", folder / "scenario.yaml"):
        if inside.is_file():
            return str(inside)
    message = "is a folder without scenario.yaml or plan.json; name one written by `--out`"
    raise InputError([Problem(name, "", message)])


def _saved_plan(
    path: str, sets: list[str] | None, engine: str | None, schedules: str | None
) -> tuple[str, str]:
    """Name and report of a plan that was made before."""
    from simdeep.report.html import plan_page
    from simdeep.report.plan_saved import read_plan

    given = {"--set": sets, "--engine": engine, "--schedules": schedules}
    message = f"changes what is simulated; {path} is a finished plan"
    problems = [Problem(flag, "", message) for flag, value in given.items() if value]
    if problems:
        raise InputError(problems)
    saved = read_plan(path)
    return f"{saved.result.scenario.name}-plan", plan_page(
        saved.result, saved.launch, saved.version, saved.origin
    )


def _simulated(source: Source, schedules: str | None, bar: Progress) -> tuple[str, str]:
    """Name and report of a scenario, simulated as its kind asks."""
    from simdeep.spec.serve import ServeScenario

    if _kind(source) == "alltoall":
        _steps_only(schedules)
        return _alltoall(source, bar)
    loaded = source.load_any()
    if isinstance(loaded, ServeScenario):
        _steps_only(schedules)
        return loaded.name, _serving(loaded, bar)
    if getattr(loaded.fields, "plan", None) is not None:
        _steps_only(schedules)
        return f"{loaded.name}-plan", _plan(loaded, bar)
    from simdeep.cli.report_step import step_html

    return loaded.name, step_html(source, loaded, schedules, bar)


def _serving(scenario: ServeScenario, bar: Progress) -> str:
    """Requests through a deployment or, without traffic, an iteration of each unit."""
    if scenario.traffic is None:
        from simdeep.report.html import iteration_page
        from simdeep.report.serving_iteration import looked_at

        bar.stage("simulating an iteration")
        return iteration_page(scenario, looked_at(scenario))
    from simdeep.report.html import serving_page
    from simdeep.serving.simulate import simulate_serving

    result = simulate_serving(scenario, bar.tasks("simulating requests"))
    bar.stage("writing the report")
    return serving_page(result)


def _kind(source: Source) -> object:
    """The kind that a scenario says it is."""
    from simdeep.spec.resources import find_resource
    from simdeep.spec.yamlio import load_document

    data = load_document(find_resource("scenarios", source.path)).data
    written = data.get("kind") if isinstance(data, dict) else None
    return source.overrides.get("kind", written)


def _steps_only(schedules: str | None) -> None:
    if schedules is not None:
        message = "compares a training step with others; this scenario is none"
        raise InputError([Problem("--schedules", "", message)])


def _plan(scenario: Scenario, bar: Progress) -> str:
    """Search for plans and lay out what was found."""
    import joblib

    from simdeep.planner.clusters import clusters_of
    from simdeep.planner.plan import make_plan
    from simdeep.planner.space import plan_fields
    from simdeep.report.html import plan_page

    clusters = clusters_of(scenario, (), tuple(plan_fields(scenario).gpus or ()))
    result = make_plan(scenario, clusters, None, int(joblib.cpu_count()), bar.tasks)
    bar.stage("writing the report")
    return plan_page(result)


def _alltoall(source: Source, bar: Progress) -> tuple[str, str]:
    """Name and report of an expert dispatch and combine."""
    from simdeep.network import DIRECTIONS, prepare, read_setting, run_direction
    from simdeep.report.html import alltoall_page

    setting = read_setting(source.path, source.overrides)
    bar.stage("routing tokens")
    routed = prepare(setting)
    outcomes = []
    for direction in DIRECTIONS:
        bar.stage(f"simulating the {direction}")
        outcomes.append(run_direction(setting, routed, direction))
    name = Path(source.path).stem
    return name, alltoall_page(name, outcomes)
