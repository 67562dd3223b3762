"""`simdeep plan-schedule`: an order of chunks made for a scenario's costs and memory."""

from __future__ import annotations

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
)

if TYPE_CHECKING:
    from simdeep.autoschedule import Plan
    from simdeep.report.output import OutputFolder

FILES = ("schedule.csv", "schedule.png", "scenario.yaml", "plan.json")
"""Every file a plan may write into its folder."""


@guarded
def plan_schedule(
    scenario: ScenarioArgument,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory", metavar="GiB", min=0.0, help="Memory of a GPU, if not all that it has."
        ),
    ] = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Find the order of chunks with the shortest step for a training scenario.

    Each way to place the layout's stages on ranks is searched, within GPU memory; a lower bound
    says how much better an order could be at most. Also says how layers should be shared out over
    the stages. In --out, schedule.csv is the order as torch.distributed.pipelining reads it.

    Exit code 3 if no order fits into GPU memory.
    """
    from simdeep import api
    from simdeep.autoschedule import plan_schedule as search
    from simdeep.autoschedule import plan_stages
    from simdeep.cli.plan_schedule_text import plan_json, plan_tables
    from simdeep.errors import InputError
    from simdeep.report.result_json import to_json

    source = Source.of(scenario, sets)
    loaded = source.load()
    limit = None if memory is None else memory * 2**30
    folder = out_folder(out, FILES)
    with progress(quiet) as bar, folder as files:
        machine = api.machine_of(loaded)
        jitter = api.jitter_of(loaded, machine)
        plan = search(loaded, machine, memory_bytes=limit, jitter=jitter, stage=bar.stage)
        try:
            stages = plan_stages(loaded, machine, limit)
        except InputError:
            stages = None
        document = plan_json(plan, stages)
        if files is not None:
            bar.stage("drawing the pipeline")
            _write(files, plan, to_json(document))
    say_written(files, quiet)
    answer(to_json(document) if as_json else render(plan_tables(plan, stages)))
    if plan.best is None:
        raise typer.Exit(DOES_NOT_FIT)


def _write(files: OutputFolder, plan: Plan, document: str) -> None:
    from simdeep.cli.schedule_timeline import UNIT_NS, timeline_of
    from simdeep.program.schedule import replay, to_csv
    from simdeep.report import charts
    from simdeep.report.output import scenario_yaml

    best = plan.best
    if best is not None and best.table is not None:
        table = best.table
        files.write_text("schedule.csv", to_csv(table))
        timeline = timeline_of(table, replay(table, best.chunks.costs))
        assert UNIT_NS == 1e9  # the costs are seconds
        title = f"{table.name}, {best.placement.name}: chunks back to back"
        ax = charts.pipeline_gantt(timeline, title=title)
        files.write("schedule.png", lambda path: charts.save(ax, path))
    files.write_text("scenario.yaml", scenario_yaml(plan.scenario))
    files.write_text("plan.json", document)
