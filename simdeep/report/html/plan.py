"""The report of a plan: the ranking, why the winner won, and how the space was searched."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING

import simdeep
from simdeep.report.html.markup import (
    answer,
    blocks,
    details,
    inputs_table,
    plain_text,
    svg,
    table_html,
)
from simdeep.report.html.page import Section, page
from simdeep.report.plan_json import Origin, origin_of
from simdeep.report.summary import gpu_name, plain, seconds, short
from simdeep.report.tables import grid

if TYPE_CHECKING:
    from simdeep.planner.plan import PlanResult

_BEST, _WHERE = "The best plans", "Where their time goes"
_PARETO = "Pareto front: time, dollars, free memory"
_SEARCH = "How the space was searched"
_INPUTS = "What shaped this answer"


def plan_page(
    result: PlanResult,
    launch: str | None = None,
    saved_by: str = "",
    origin: Origin | None = None,
) -> str:
    """A whole HTML document; the same result gives the same text.

    Args:
        result: of a planning run.
        launch: launch arguments of the first plan.
        saved_by: the version that saved it, of a plan read from its JSON; "" of one just made.
        origin: what it was made of, of a plan read from its JSON; None of one just made.
    """
    from simdeep.report.plan_tables import plan_tables

    origin = origin or origin_of(result)
    parts = list(plan_tables(result, launch))
    said = blocks(parts[1:])
    name = result.scenario.name
    foot = f"Made by simdeep {simdeep.__version__} from {escape(name)}"
    if saved_by:
        foot += f", a plan saved by simdeep {escape(saved_by)}"
    foot += f"; fingerprint <code>{escape(origin.fingerprint)}</code>."
    return page(
        f"simdeep plan: {name}",
        plain_text(parts[0]).strip(),
        _answer(result) if result.plans else "",
        list(_sections(result, said, origin)),
        foot + " Same search, same report.",
    )


def _answer(result: PlanResult) -> str:
    """The figures of the first plan."""
    best = result.plans[0]
    judged, topology = best.judged, best.scenario.topology
    cells = [
        ("step", seconds(judged.step_time_s), f"{topology.gpus:,} {gpu_name(best.scenario)}s"),
        ("per trillion tokens", f"${short(best.usd_per_ttoken)}", "US dollars"),
        ("training time", f"{plain(best.days_per_ttoken)} days", "per trillion tokens"),
        ("MFU", f"{best.mfu:.1%}", "of the dense BF16 peak"),
        (
            "memory",
            f"{judged.memory_peak_gib:.1f} GiB",
            f"of {judged.capacity_gib:.1f}; {judged.headroom_gib:.1f} free",
        ),
    ]
    if result.own is not None:
        share = judged.step_time_s / result.own.judged.step_time_s - 1.0
        cells.append(("against its own layout", f"{share:+.1%}", "time of a step"))
    sure = "proved best" if result.found.proved else f"at most {result.gap:.1%} from the best"
    cells.append(("search", sure, f"of {result.candidates:,} candidates"))
    simulated = len(result.found.judged)
    rest = "the others ruled out by bounds" if result.found.proved else "some were left open"
    cells.append(("simulated", f"{simulated:,}", rest))
    return answer(cells)


def _sections(
    result: PlanResult, said: Mapping[str, list[str]], origin: Origin
) -> Iterator[Section]:
    used = {""}

    def text(title: str) -> str:
        used.add(title)
        return "".join(said.get(title, ()))

    if result.plans:
        from simdeep.report.charts.plan import pareto_chart, parts_chart

        yield Section("ranking", _BEST, text(_BEST) + _command(result))
        front = svg(pareto_chart(result), "step time over memory of the best plans")
        yield Section("pareto", _PARETO, front + text(_PARETO))
        parts = svg(parts_chart(result), "time of the best plans by part")
        yield Section("where", _WHERE, text(_WHERE) + parts)
        reasons = [title for title in said if title.startswith("Why ")]
        for number, title in enumerate(reasons):
            yield Section(f"why{number}", title, text(title))
    others = [title for title in said if title not in used and title != _SEARCH]
    for number, title in enumerate(others):
        yield Section(f"part{number}", title, text(title))
    yield Section("search", _SEARCH, text(_SEARCH) + _space(result))
    yield Section("inputs", _INPUTS, _inputs(result, origin))


def _command(result: PlanResult) -> str:
    """How to look at the first plan by itself."""
    words = [
        f"--set {shlex.quote(f'{k}={v}')}" for k, v in result.plans[0].choice.overrides().items()
    ]
    command = " \\\n    ".join([f"simdeep run {shlex.quote(result.scenario.name)}", *words])
    topology = result.plans[0].scenario.topology
    note = (
        "<p class='note'>The first plan as values of the scenario, on "
        f"{escape(topology.name)} ({topology.gpus:,} GPUs); `simdeep plan --out` writes it as a "
        "scenario file.</p>"
    )
    return details("The first plan by itself", f"{note}<pre>{escape(command)}</pre>")


def _space(result: PlanResult) -> str:
    table = grid("key", "values to choose from")
    for key, values in result.space.values.items():
        table.add_row(key, ", ".join(_value(value) for value in values))
    return "<h3>The space</h3>" + table_html(table)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "none"
    return str(value)


def _inputs(result: PlanResult, origin: Origin) -> str:
    note = "<p class='note'>Of the first plan.</p>" if result.plans else ""
    listing = details("The plan, as a scenario file", f"<pre>{escape(origin.scenario)}</pre>")
    return note + inputs_table(origin.inputs) + listing
