"""The report of a simulated training step or overlapped pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import simdeep
from simdeep.analysis.memory import memory as find_memory
from simdeep.analysis.overlap import exposed_comm_s
from simdeep.analysis.view import one_of_each
from simdeep.report.html.alltoall import traffic
from simdeep.report.html.markup import answer, blocks, details, svg, table_html
from simdeep.report.html.page import Section, page
from simdeep.report.html.timeline import reasons_of, timeline_widget
from simdeep.report.names import part_name, transfer_name
from simdeep.report.output import scenario_yaml
from simdeep.report.summary import headline, plain, seconds, short, step_figures
from simdeep.report.tables import grid, report

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simdeep.analysis.steps import FaultCost
    from simdeep.api import Result
    from simdeep.network import Outcome
    from simdeep.report.charts import BubbleCurve
    from simdeep.report.contributions_table import Effect

_WHERE, _EFFECTS = "Where the time goes", "What each effect contributes"
_BUBBLES, _COST = "Pipeline bubble and communication", "Throughput and cost"
_TRAFFIC = "All-to-all: traffic and port loads"
_PAIR, _INPUTS = "Phases of the overlapped block", "What shaped this answer"


@dataclass(frozen=True, eq=False)
class Extras:
    """What a report shows beside the result, all of it optional.

    Attributes:
        effects: what each effect contributes to the step.
        faults: what the scenario's faults cost.
        curve: the bubble at several numbers of micro-batches.
        alltoall: dispatch and combine of the scenario's expert group on the fabric.
        no_alltoall: why there are none, if that needs saying.
        others: results of other schedules or settings by name, compared with this one.
    """

    effects: Sequence[Effect] = ()
    faults: FaultCost | None = None
    curve: BubbleCurve | None = None
    alltoall: Sequence[Outcome] = ()
    no_alltoall: str = ""
    others: Mapping[str, Result] | None = None


def step_report(result: Result, extras: Extras | None = None) -> str:
    """A whole HTML document; the same result gives the same text.

    Args:
        result: a simulated training step or pair.
        extras: what else is known.
    """
    extras = extras or Extras()
    shown = _shown(result)
    said = blocks(_without_wall(result, extras))
    peers = 1 if result.stragglers is None else result.stragglers.peers
    widget = timeline_widget(shown.timeline, shown.memory, reasons_of(result.timeline, peers))
    sections = [
        Section("timeline", "Timeline", _folded_note(result) + widget.body),
        *_sections(result, shown, extras, said),
    ]
    scenario = result.scenario
    foot = (
        f"Made by simdeep {simdeep.__version__} from {escape(scenario.name)}; fingerprint "
        f"<code>{scenario.fingerprint}</code>. Same scenario, same report."
    )
    title = f"simdeep report: {scenario.name}"
    return page(title, headline(result), _answer(result), sections, foot, widget.scripts)


def _without_wall(result: Result, extras: Extras) -> Iterator[RenderableType]:
    """What the console shows, without its last line: that has the time of this very run."""
    parts = list(report(result, extras.effects, extras.faults))
    yield from parts[:-1]


def _shown(result: Result) -> Result:
    """Of a run that simulates every GPU, the first GPU of every pipeline rank."""
    if result.stragglers is None:
        return result
    timeline = one_of_each(result.timeline, result.stragglers.peers)
    return replace(
        result,
        timeline=timeline,
        memory=find_memory(timeline, result.static.parts, result.memory.capacity_gib),
    )


def _folded_note(result: Result) -> str:
    if result.stragglers is not None:
        text = "Every GPU was simulated; the first GPU of every pipeline rank is shown."
    elif result.scenario.layout.n_ranks > result.timeline.program.n_ranks:
        text = "One GPU stands for its peers: a row is a pipeline rank."
    else:
        text = "A row is a rank."
    lanes = (
        "Top to bottom in a row: compute, all-to-all and tensor or context parallel traffic, "
        "pipeline sends, data-parallel traffic."
    )
    return f"<p class='note'>{text} {lanes}</p>"


def _answer(result: Result) -> str:
    """The figures a lead wants first."""
    memory, exposed = result.memory, exposed_comm_s(result.attribution).mean
    fits = "fits" if memory.fits else "does NOT fit"
    cells = []
    if result.scenario.kind == "train":
        figures = step_figures(result)
        cost, use = figures.trillion, figures.utilisation
        cells = [
            ("step", seconds(result.step_time_s), f"{figures.tokens_per_step:,} tokens"),
            ("throughput", short(figures.tokens_per_s, "token/s"), f"{figures.gpus:,} GPUs"),
            ("per trillion tokens", f"${short(cost.usd)}", f"{short(cost.gpu_hours)} GPU-hours"),
            ("training time", f"{plain(cost.days)} days", "per trillion tokens"),
            ("MFU", f"{use.mfu:.1%}", f"causal {use.mfu_causal:.1%}"),
            (
                "bubble",
                f"{result.bubbles.bubble_over_makespan:.1%}",
                f"{seconds(result.bubbles.bubble_s.mean)} a rank",
            ),
        ]
    else:
        cells = [("block", seconds(result.step_time_s), "forward beside backward")]
    cells += [
        ("exposed communication", f"{exposed / result.step_time_s:.1%}", seconds(exposed)),
        ("communication overlap", f"{result.overlap.comm_overlap:.1%}", "of transfer time"),
        ("memory", f"{memory.peak_gib:.1f} GiB", f"of {memory.capacity_gib:.1f}: {fits}"),
    ]
    return answer(cells)


def _sections(
    result: Result, shown: Result, extras: Extras, said: Mapping[str, list[str]]
) -> Iterator[Section]:
    from simdeep.report import charts

    used = {""}

    def text(*titles: str) -> str:
        used.update(titles)
        return "".join("".join(said.get(title, ())) for title in titles)

    block = svg(charts.overlapped_block(shown.timeline), "one overlapped block on its streams")
    yield Section("block", "One block on its streams", text(_PAIR) + block)
    if result.scenario.kind == "train":
        drawn = svg(charts.time_by_rank(result.attribution), "stacked time of each rank by part")
        yield Section("where", _WHERE, text(_WHERE) + drawn + _critical(result))
        if extras.effects:
            yield Section("effects", _EFFECTS, text(_EFFECTS))
        curve = ""
        if extras.curve is not None:
            curve = svg(charts.bubble_curves([extras.curve]), "bubble against micro-batches")
        yield Section("bubble", _BUBBLES, text(_BUBBLES) + _overlap(result) + curve)
    memory = next((title for title in said if title.startswith("Memory of")), "")
    drawn = svg(charts.memory_by_rank(shown.memory), "memory of each rank by part")
    yield Section("memory", memory or "Memory", (text(memory) if memory else "") + drawn)
    if extras.alltoall:
        note = "<p class='note'>One expert group of this scenario by itself on the fabric.</p>"
        yield Section("traffic", _TRAFFIC, note + traffic(extras.alltoall))
    elif extras.no_alltoall:
        yield Section("traffic", _TRAFFIC, f"<p>Not shown: {escape(extras.no_alltoall)}.</p>")
    if extras.others:
        yield _compared(result, extras.others)
    if _COST in said:
        yield Section("cost", _COST, text(_COST))
    for title in [t for t in said if t not in used and t != _INPUTS]:
        yield Section(title.split(" ")[0].lower(), title, text(title))
    listing = details("The whole scenario, as a file", f"<pre>{escape(_yaml(result))}</pre>")
    yield Section("inputs", _INPUTS, text(_INPUTS) + listing)


def _yaml(result: Result) -> str:
    return scenario_yaml(result.scenario)


def _critical(result: Result) -> str:
    table = grid("part of the critical path", "time>", "share>")
    whole = max(result.timeline.makespan_ns, 1)
    for part, ns in sorted(result.critical.ns.items(), key=lambda item: -item[1])[:10]:
        if ns:
            table.add_row(part_name(str(part)), seconds(ns / 1e9), f"{ns / whole:.1%}")
    return "<h3>Critical path</h3>" + table_html(table)


def _overlap(result: Result) -> str:
    table = grid("transfers", "ran>", "beside compute>", "overlap>")
    found = result.overlap
    for kind, ran, hidden in zip(
        found.kinds, found.transfer_ns.sum(axis=1), found.hidden_ns.sum(axis=1), strict=True
    ):
        if ran:
            share = f"{hidden / ran:.1%}"
            spent = seconds(ran / 1e9), seconds(hidden / 1e9)
            table.add_row(transfer_name(kind), *spent, share)
    return "<h3>Overlap by kind, all ranks together</h3>" + table_html(table)


def _compared(result: Result, others: Mapping[str, Result]) -> Section:
    table = grid("schedule", "step>", "against this>", "bubble>", "exposed>", "peak GiB>", "fits")
    for name, other in {"this": result, **others}.items():
        exposed = exposed_comm_s(other.attribution).mean
        table.add_row(
            f"{result.scenario.train.schedule} (this report)" if other is result else name,
            seconds(other.step_time_s),
            "" if other is result else f"{other.step_time_s / result.step_time_s - 1:+.1%}",
            f"{other.bubbles.bubble_over_makespan:.1%}",
            f"{exposed / other.step_time_s:.1%}",
            f"{other.memory.peak_gib:.1f}",
            "yes" if other.memory.fits else "no",
        )
    return Section("compared", "Schedules compared", table_html(table))
