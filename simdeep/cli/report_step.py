"""The report of a training step or an overlapped pair: everything that is simulated for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.api import Result
    from simdeep.cli.console import Progress
    from simdeep.cli.options import Source
    from simdeep.contributions import Contribution
    from simdeep.network import Outcome
    from simdeep.spec.scenario import Scenario


def step_html(source: Source, loaded: Scenario, schedules: str | None, bar: Progress) -> str:
    """Simulate a step with all that its report shows beside it, and lay it out.

    Args:
        source: of the scenario.
        loaded: the scenario.
        schedules: other schedules to compare with, separated by commas.
        bar: told what is being done.
    """
    from simdeep.api import fault_cost, simulate
    from simdeep.report.html import Extras, step_report

    result = simulate(loaded, bar.tasks("simulating"))
    curve = None
    effects: tuple[Contribution, ...] = ()
    if loaded.kind == "train" and loaded.simulate.fold:
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
    return step_report(result, extras)


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
