"""`simdeep run` on a serving scenario: requests through a deployment, or one iteration of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from simdeep.cli.console import answer, note, progress, render
from simdeep.cli.faults import DOES_NOT_FIT
from simdeep.cli.files import out_folder, say_written

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario


def run_serve(scenario: ServeScenario, as_json: bool, out: Path | None, quiet: bool) -> None:
    """Simulate the scenario and say what came out; exit code 3 if the SLO is missed."""
    if scenario.traffic is None:
        _run_iterations(scenario, as_json, out, quiet)
    else:
        _run_requests(scenario, as_json, out, quiet)


def _run_iterations(scenario: ServeScenario, as_json: bool, out: Path | None, quiet: bool) -> None:
    from simdeep.report.output import scenario_text
    from simdeep.report.result_json import to_json
    from simdeep.report.serving_iteration import iterations_json, iterations_report, looked_at

    names = ("scenario.yaml", "result.json")
    folder = out_folder(out, names)
    with progress(quiet) as bar, folder as files:
        bar.stage("simulating an iteration")
        found = looked_at(scenario)
        document = iterations_json(scenario, found)
        if files is not None:
            files.write_text(names[0], scenario_text(scenario.name, scenario.resolved()))
            files.write_text(names[1], to_json(document))
    say_written(files, quiet)
    answer(to_json(document) if as_json else render(iterations_report(found)))


def _run_requests(scenario: ServeScenario, as_json: bool, out: Path | None, quiet: bool) -> None:
    from simdeep.report.result_json import to_json
    from simdeep.report.serving_files import SERVE_FILES, write_serving
    from simdeep.report.serving_json import serving_json
    from simdeep.report.serving_summary import serving_report, slo_sentence
    from simdeep.serving.simulate import simulate_serving

    folder = out_folder(out, SERVE_FILES)
    with progress(quiet) as bar, folder as files:
        result = simulate_serving(scenario, bar.tasks("simulating requests"))
        document = serving_json(result)
        if files is not None:
            write_serving(files, result, document, bar.stage)
    say_written(files, quiet)
    answer(to_json(document) if as_json else render(serving_report(result)))
    if not result.meets_slo:
        note(f"{slo_sentence(result)} {result.limit.sentence}")
        raise typer.Exit(DOES_NOT_FIT)
