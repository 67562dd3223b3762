"""`simdeep run`: simulate a scenario and say what came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

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
)

if TYPE_CHECKING:
    from simdeep.analysis.steps import FaultCost
    from simdeep.api import Result
    from simdeep.contributions import Contribution
    from simdeep.spec.scenario import Scenario


@guarded
def run(
    scenario: ScenarioArgument,
    sets: SetOption = None,
    engine: EngineOption = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Simulate a scenario: a training step (time, memory, cost) or serving (latency, tokens, cost).

    Exit code 3 if a training step does not fit into GPU memory, and stderr says what would; or if
    fewer requests than promised meet the SLO.
    """
    from simdeep.spec.serve import ServeScenario

    source = Source.of(scenario, sets, engine)
    loaded = source.load_any()
    if isinstance(loaded, ServeScenario):
        from simdeep.cli.run_serve import run_serve

        run_serve(loaded, as_json, out, quiet)
    else:
        _run_training(source, loaded, as_json, out, quiet)


def _run_training(
    source: Source, loaded: Scenario, as_json: bool, out: Path | None, quiet: bool
) -> None:
    from simdeep.api import simulate
    from simdeep.report.output import RUN_FILES, write_run
    from simdeep.report.result_json import result_json, to_json
    from simdeep.report.tables import report

    folder = out_folder(out, RUN_FILES)
    with progress(quiet) as bar, folder as files:
        result = simulate(loaded, bar.tasks("simulating"))
        effects = _effects(loaded, bar)
        faults = _faults(loaded, result, bar)
        document = result_json(result, effects, faults)
        if files is not None:
            from simdeep.cli.curves import bubble_curve

            curve = bubble_curve(source, result, bar) if loaded.simulate.fold else None
            write_run(files, result, document, curve, bar.stage)
    say_written(files, quiet)
    answer(to_json(document) if as_json else render(report(result, effects, faults)))
    if loaded.kind == "train" and not result.memory.fits:
        from simdeep.cli.advice import advice

        with progress(quiet) as bar:
            text = advice(source, result, bar)
        note(text)
        raise typer.Exit(DOES_NOT_FIT)


def _faults(scenario: Scenario, result: Result, bar: Progress) -> FaultCost | None:
    """What the scenario's faults add to the step."""
    if not scenario.faults:
        return None
    from simdeep.api import fault_cost

    bar.stage("simulating without the faults")
    return fault_cost(scenario, result)


def _effects(scenario: Scenario, bar: Progress) -> tuple[Contribution, ...]:
    """What each effect contributes to a folded training step (unfolded it would take minutes)."""
    if scenario.kind != "train" or not scenario.simulate.fold:
        return ()
    from simdeep.contributions import contributions

    bar.stage("simulating without each effect")
    return contributions(scenario)
