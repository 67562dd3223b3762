"""A scenario under several schedules: as tables, as one JSON object, as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import simdeep
from simdeep.cli.console import Progress
from simdeep.cli.options import Source

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from simdeep.api import Result
    from simdeep.report.output import OutputFolder

FILES = ("pipelines.png", "bubble_vs_microbatches.png", "scenario.yaml", "comparison.json")
"""Every file a comparison may write into its folder."""


@dataclass(frozen=True)
class Row:
    """A schedule with its result and the scenario it ran, or with the reason why it cannot run."""

    schedule: str
    result: Result | None
    reason: str = ""
    source: Source | None = None


def results(rows: Sequence[Row]) -> list[Result]:
    """Those that could run."""
    return [row.result for row in rows if row.result is not None]


def comparison_json(rows: Sequence[Row]) -> dict[str, Any]:
    """The comparison as one object: a list of schedules, and what they have in common."""
    from simdeep.analysis.schedule_measures import Equal
    from simdeep.cli.compare_schedules import lines_json, schedule_lines

    scenario = results(rows)[0].scenario
    resolved = scenario.resolved()
    del resolved["train"]["schedule"]
    names, done = [row.schedule for row in rows], results(rows)
    return {
        "name": scenario.name,
        "schedules": [_row_json(row) for row in rows],
        **{
            f"equal_{equal.value}": lines_json(schedule_lines(names, done, equal))
            for equal in Equal
        },
        "scenario": resolved,
        "version": simdeep.__version__,
    }


def _row_json(row: Row) -> dict[str, Any]:
    from simdeep.analysis.overlap import exposed_comm_s
    from simdeep.report.summary import step_figures

    result = row.result
    if result is None:
        return {"schedule": row.schedule, "supported": False, "reason": row.reason}
    bubbles, figures, closed = result.bubbles, step_figures(result), result.closed_form
    return {
        "schedule": row.schedule,
        "supported": True,
        "step_time_s": result.step_time_s,
        "gpu_hours_per_ttoken": figures.trillion.gpu_hours,
        "usd_per_ttoken": figures.trillion.usd,
        "bubble_s": asdict(bubbles.bubble_s),
        "bubble_over_makespan": bubbles.bubble_over_makespan,
        "bubble_over_ideal": bubbles.bubble_over_ideal,
        "longest_rank_span_s": bubbles.longest_rank_span_s,
        "bubble_closed_form_s": bubbles.closed_form_s,
        "bubble_closed_form": None if closed is None else closed.formula,
        "exposed_comm_s": asdict(exposed_comm_s(result.attribution)),
        "comm_overlap": result.overlap.comm_overlap,
        "memory": {
            "fits": result.memory.fits,
            "capacity_gib": result.memory.capacity_gib,
            "peak_gib": result.memory.peak_gib,
        },
        "stages_per_rank": result.scenario.layout.vpp,
        "parameter_copies": result.lowered.table.param_copies,
        "fingerprint": result.scenario.fingerprint,
    }


def comparison_tables(rows: Sequence[Row]) -> list[RenderableType]:
    """The comparison for a console."""
    from rich.text import Text

    from simdeep.analysis.schedule_measures import Equal
    from simdeep.cli.compare_schedules import lines_table, schedule_lines
    from simdeep.report.tables import titled

    done = results(rows)
    best = min(done, key=lambda r: (not r.memory.fits, r.step_time_s))
    forms = [(r.scenario.train.schedule, r.closed_form) for r in done]
    texts = [f"{name} {form.formula}" for name, form in forms if form is not None]
    names = [row.schedule for row in rows]
    devices, stages = (
        schedule_lines(names, done, equal) for equal in (Equal.devices, Equal.stages)
    )
    shares = done[0].scenario.layout.pp
    note = f"Closed forms, with each run's own chunk times: {', '.join(texts)}."
    capacity = f"Memory (capacity {best.memory.capacity_gib:.1f} GiB) and cost"
    return [
        Text(_headline(best) + "\n"),
        *titled("Time", _times(rows, best)),
        *titled(capacity, _costs(rows)),
        *titled(f"Equal devices: {shares} ranks", lines_table(devices, last=False)),
        *titled(f"Equal stages: {shares} stages", lines_table(stages, last=True)),
        *([Text(note)] if texts else []),
    ]


def _headline(best: Result) -> str:
    from simdeep.report.inputs import layout_text
    from simdeep.report.summary import gpu_name, seconds

    scenario = best.scenario
    verdict = "the fastest that fits" if best.memory.fits else "the fastest, but none fits"
    return (
        f"{scenario.train.schedule} is {verdict}: {seconds(best.step_time_s)} a step of "
        f"{scenario.model.name} on {scenario.topology.gpus:,} {gpu_name(scenario)} GPUs "
        f"({layout_text(scenario)}; {scenario.microbatches} micro-batches)."
    )


def _times(rows: Sequence[Row], best: Result) -> Table:
    from simdeep.analysis.overlap import exposed_comm_s
    from simdeep.report.summary import seconds
    from simdeep.report.tables import grid

    columns = ("step>", "to best>", "bubble>", "of step>", "largest>", "closed form>", "exposed>")
    table = grid("schedule", *columns)
    for row in rows:
        if row.result is None:
            table.add_row(row.schedule, *["-"] * len(columns))
            continue
        result, bubbles = row.result, row.result.bubbles
        closed = bubbles.closed_form_s
        table.add_row(
            row.schedule,
            seconds(result.step_time_s, 4),
            f"{result.step_time_s / best.step_time_s - 1:+.1%}",
            seconds(bubbles.bubble_s.mean),
            f"{bubbles.bubble_over_makespan:.1%}",
            seconds(bubbles.bubble_s.max),
            "-" if closed is None else seconds(closed),
            seconds(exposed_comm_s(result.attribution).mean),
        )
    table.caption = (
        "bubble: mean over ranks, and the largest of a rank; exposed: communication that compute "
        "waits for, mean over ranks"
    )
    table.caption_justify = "left"
    return table


def _costs(rows: Sequence[Row]) -> Table:
    from simdeep.report.summary import short, step_figures
    from simdeep.report.tables import grid

    table = grid("schedule", "peak GiB>", "fits", "parameter copies>", "GPU-h/Ttoken>", "why not")
    for row in rows:
        if row.result is None:
            table.add_row(row.schedule, *["-"] * 4, row.reason)
            continue
        memory = row.result.memory
        missing = memory.peak_gib - memory.capacity_gib
        table.add_row(
            row.schedule,
            f"{memory.peak_gib:.1f}",
            "yes" if memory.fits else "no",
            str(row.result.lowered.table.param_copies),
            short(step_figures(row.result).trillion.gpu_hours),
            "" if memory.fits else f"{missing:.1f} GiB too much",
        )
    return table


def write_comparison(
    folder: OutputFolder,
    source: Source,
    rows: Sequence[Row],
    document: dict[str, Any],
    bar: Progress,
) -> None:
    """Write the schedules' Gantt charts, their bubble curves, the scenario and the JSON."""
    from simdeep.cli.curves import bubble_curve
    from simdeep.report import charts
    from simdeep.report.output import scenario_yaml
    from simdeep.report.result_json import to_json

    done = results(rows)
    ran = [(row.source or source, row.result) for row in rows if row.result is not None]
    curves = [c for each, result in ran if (c := bubble_curve(each, result, bar)) is not None]
    bar.stage("drawing the pipelines")
    heights = [min(1.8 + 0.24 * result.timeline.program.n_ranks, 16.0) for result in done]
    figure = charts.new_figure(15.0, sum(heights))
    axes = figure.subplots(len(done), 1, squeeze=False, height_ratios=heights)[:, 0]
    window = (0, max(result.timeline.makespan_ns for result in done))
    for ax, result in zip(axes, done, strict=True):
        title = f"{result.scenario.train.schedule}: {result.step_time_s:.3f} s"
        charts.pipeline_gantt(result.timeline, ax, window_ns=window, title=title)
    folder.write("pipelines.png", lambda path: charts.save(figure, path))
    if curves:
        folder.write(
            "bubble_vs_microbatches.png",
            lambda path: charts.save(charts.bubble_curves(curves), path),
        )
    folder.write_text("scenario.yaml", scenario_yaml(done[0].scenario))
    folder.write_text("comparison.json", to_json(document))
