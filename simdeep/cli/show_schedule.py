"""A schedule for `simdeep show schedule`: as a grid, CSV, JSON or picture."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from simdeep.cli.console import WIDTH, console
from simdeep.cli.options import words
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.program.schedule import Costs, Spans, Table, Uniform

NAMES = ("f", "i", "w", "fb", "p2p")
"""What `--costs` can give."""


class Format(StrEnum):
    """How to show a schedule."""

    grid = "grid"
    csv = "csv"
    json = "json"
    png = "png"


def read_costs(text: str) -> dict[str, float]:
    """Times from `f=1,i=1,w=1,fb=3,p2p=0`; F, I and W are 1 and a transfer 0 if not given.

    Without `fb` an overlapped block takes as long as its parts.
    """
    found = {"f": 1.0, "i": 1.0, "w": 1.0, "p2p": 0.0}
    problems = []
    for item in words(text):
        name, _, value = (part.strip() for part in item.partition("="))
        try:
            number = float(value)
        except ValueError:
            problems.append(_problem(item, f"write {name or 'f'}=NUMBER"))
            continue
        if name.lower() not in NAMES:
            problems.append(_problem(item, f"no cost {name!r}; there are {', '.join(NAMES)}"))
        elif not 0 <= number < float("inf"):
            problems.append(_problem(item, "a cost must be a finite number, zero or more"))
        else:
            found[name.lower()] = number
    if problems:
        raise InputError(problems)
    return found


def _problem(item: str, message: str) -> Problem:
    return Problem("--costs", item, message)


def _costs(given: dict[str, float]) -> Costs:
    from simdeep.program.schedule import Costs

    return Costs(**given)


def _uniform(given: dict[str, float]) -> Uniform:
    from simdeep.program.schedule import Uniform

    return Uniform(f=given["f"], i=given["i"], w=given["w"], fb=given.get("fb"))


def render_schedule(table: Table, given: dict[str, float], form: Format, to_console: bool) -> str:
    """The text of a schedule; for a console the grid goes on below itself where it is too wide."""
    from simdeep.program.schedule import render_grid, replay, to_csv
    from simdeep.report.result_json import to_json

    if form is Format.csv:
        return to_csv(table)
    spans = replay(table, _costs(given))
    if form is Format.json:
        return to_json(schedule_json(table, given, spans))
    width = console().width if to_console else None
    grid = render_grid(table, _costs(given), width)
    lines = (fill(fact, WIDTH, subsequent_indent="  ") for fact in _facts(table, given, spans))
    return "\n".join([grid, "", *lines]) + "\n"


def schedule_json(table: Table, given: dict[str, float], spans: Spans) -> dict[str, Any]:
    """A schedule as one object; times in the unit of the costs."""
    from simdeep.program.schedule import find_schedule, p2p_sends

    form = find_schedule(table.name).closed
    costs, ranks = _uniform(given), range(table.n_ranks)
    return {
        "name": table.name,
        "pp": table.n_ranks,
        "stages": table.n_stages,
        "stages_of_rank": [list(stages) for stages in table.stages_of],
        "microbatches": table.n_microbatches,
        "parameter_copies": table.param_copies,
        "costs": given,
        "rows": [[str(cell) for cell in row] for row in table.rows],
        "start": [spans.start[rank].tolist() for rank in ranks],
        "end": [spans.end[rank].tolist() for rank in ranks],
        "makespan": spans.makespan,
        "bubble": spans.idle.tolist(),
        "bubble_over_makespan": spans.bubble_over_makespan,
        "bubble_over_ideal": spans.bubble_over_ideal,
        "longest_rank_span": spans.longest_rank_span,
        "p2p_sends": p2p_sends(table).tolist(),
        "peak_activations": {k: v.tolist() for k, v in spans.peak_activations.items()},
        "closed_form": None
        if form is None
        else {
            "bubble": form.bubble(table.n_ranks, costs),
            "formula": form.bubble_text,
            "bubble_of": form.bubble_of,
            "own_span": form.own_span,
            "makespan": form.makespan(table.n_ranks, table.n_microbatches, costs, _vpp(table)),
            "activations": form.activations_text,
            "holds_for": form.condition_text,
            "unmet": _unmet(table, given),
        },
    }


def _vpp(table: Table) -> int:
    return table.n_stages // table.n_ranks


def _unmet(table: Table, given: dict[str, float]) -> list[str]:
    from simdeep.program.schedule import find_schedule

    form = find_schedule(table.name).closed
    if form is None:
        return []
    unmet = list(form.unmet(table.n_ranks, table.n_microbatches, _uniform(given)))
    return [*unmet, *(["free transfers"] if given["p2p"] else [])]


def _facts(table: Table, given: dict[str, float], spans: Spans) -> Iterator[str]:
    from simdeep.program.schedule import find_schedule, p2p_sends

    entry, idle = find_schedule(table.name), spans.idle
    yield f"{entry.title} ({entry.source})"
    stages = f", {_vpp(table)} stages each" if _vpp(table) > 1 else ""
    span = spans.longest_rank_span
    yield (
        f"{table.n_ranks} ranks{stages}, {table.n_microbatches} micro-batches: makespan "
        f"{spans.makespan:g}, bubble {idle.max():g} (smallest {idle.min():g}, mean "
        f"{idle.mean():g}), {spans.bubble_over_makespan:.1%} of the makespan, "
        f"{spans.bubble_over_ideal:.1%} of the ideal time"
    )
    if span < spans.makespan:
        own = (spans.rank_span - spans.busy).max()
        yield f"longest span of a rank, from its own start to its own end: {span:g}, idle {own:g}"
    held = {after: int(peak.max()) for after, peak in spans.peak_activations.items()}
    yield (
        f"activations of at most {held['I']} chunks on a rank if freed after I, {held['W']} if "
        f"after W; {table.param_copies} cop{'y' if table.param_copies == 1 else 'ies'} of the "
        f"parameters; {int(p2p_sends(table).sum())} transfers between ranks"
    )
    form = entry.closed
    if form is not None:
        bubble, unmet = form.bubble(table.n_ranks, _uniform(given)), _unmet(table, given)
        yield f"closed form: bubble {form.bubble_text} = {bubble:g}, of {form.bubble_of}"
        broken = f"; broken here: {', '.join(unmet)}" if unmet else ""
        yield f"exact for {form.condition_text}{broken}"


def write_png(table: Table, given: dict[str, float], path: Path) -> None:
    """Draw the schedule with these costs."""
    from simdeep.cli.schedule_timeline import UNIT_NS, timeline_of
    from simdeep.program.schedule import replay
    from simdeep.report import charts
    from simdeep.report.style import time_unit

    timeline = timeline_of(table, replay(table, _costs(given)))
    texts = ", ".join(f"{name} {value:g}" for name, value in given.items())
    title = f"{table.name}, {table.n_microbatches} micro-batches ({texts})"
    ax = charts.pipeline_gantt(timeline, title=title)
    scale, _ = time_unit(max(timeline.makespan_ns, 1))
    power = "" if scale == UNIT_NS else f" x {scale / UNIT_NS:g}"
    ax.set_xlabel(f"time (unit of the costs{power})")
    charts.save(ax, path)
