"""A result as text for a console: titled tables that read at 100 columns without colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simdeep.analysis.bubble import Extremes
from simdeep.analysis.memory import ACTIVATIONS, GIB
from simdeep.analysis.overlap import exposed_comm_s
from simdeep.program.columns import I64
from simdeep.report.contributions_table import contributions_table
from simdeep.report.inputs import defaults_of, inputs_of
from simdeep.report.style import PARTS
from simdeep.report.summary import (
    Phase,
    StepFigures,
    flops_note,
    headline,
    pair_figures,
    plain,
    seconds,
    short,
    step_figures,
)
from simdeep.report.unfolded import unfolded_tables

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from simdeep.analysis.money import RunCost
    from simdeep.analysis.steps import FaultCost
    from simdeep.api import Result
    from simdeep.report.contributions_table import Effect


def grid(*columns: str) -> Table:
    """An empty table; a column name ending in `>` is of numbers, aligned right and never broken."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for name in columns:
        right = name.endswith(">")
        table.add_column(
            name.removesuffix(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    return table


def titled(title: str, body: RenderableType) -> tuple[RenderableType, ...]:
    """A heading, what it is about, and an empty line."""
    from rich.text import Text

    return Text(title, style="bold"), body, Text("")


def report(
    result: Result, effects: Sequence[Effect] = (), faults: FaultCost | None = None
) -> Iterator[RenderableType]:
    """Everything `simdeep run` shows, top to bottom."""
    from rich.text import Text

    yield Text(headline(result))
    yield Text("")
    if result.scenario.kind == "fb-pair":
        yield from titled("Phases of the overlapped block", _pair(result))
    else:
        yield from titled("Where the time goes", _where(result))
        if effects:
            yield from titled("What each effect contributes", contributions_table(effects))
        yield from titled("Pipeline bubble and communication", _bubbles(result))
        yield from titled(_memory_title(result), _memory(result))
        yield from titled("Throughput and cost", _cost(result))
    yield from unfolded_tables(result, faults)
    yield from titled("What shaped this answer", _inputs(result))
    if defaults := defaults_of(result.scenario):
        yield Text(f"Left at their defaults: {', '.join(defaults)}.\n")
    timeline = result.timeline
    yield Text(
        f"Engine: {timeline.engine}, {timeline.program.n:,} tasks in "
        f"{seconds(timeline.wall_s)}. Fingerprint {result.scenario.fingerprint[:12]}."
    )


def _where(result: Result) -> Table:
    table = grid("part", "mean over ranks>", "worst rank>", "share>")
    whole = max(result.attribution.makespan_ns, 1)
    for label, ns in _shown_parts(result).items():
        worst = int(ns.argmax())
        table.add_row(
            label,
            seconds(float(ns.mean()) / 1e9),
            f"{seconds(float(ns[worst]) / 1e9)} (rank {worst})",
            f"{float(ns.mean()) / whole:.1%}",
        )
    table.add_section()
    table.add_row("the step", seconds(whole / 1e9), "", "100.0%")
    return table


def _shown_parts(result: Result) -> dict[str, I64]:
    """Nanoseconds by rank under the names the charts use, in their order."""
    sums: dict[str, I64] = {}
    for part, ns in zip(result.attribution.parts, result.attribution.ns, strict=True):
        name = str(part)
        if part.group == "computing":
            name = f"computing.{part.detail[0]}"
        name = name if name in PARTS else part.group
        sums[name] = sums[name] + ns if name in sums else ns
    return {PARTS[name].label: sums[name] for name in PARTS if name in sums and sums[name].any()}


def _bubbles(result: Result) -> Table:
    bubbles, closed = result.bubbles, result.closed_form
    exposed = exposed_comm_s(result.attribution)
    table = grid("measure", "value>", "what it is")
    rows = (
        ("bubble of a rank", _extremes(bubbles.bubble_s), "mean; smallest to largest"),
        (
            "  within its own work",
            _extremes(bubbles.bubble_in_span_s),
            "between a rank's first and last F, I or W",
        ),
        ("bubble over makespan", f"{bubbles.bubble_over_makespan:.2%}", "share of GPU time lost"),
        ("bubble over ideal", f"{bubbles.bubble_over_ideal:.2%}", "against the step without it"),
        (
            "longest rank span",
            seconds(bubbles.longest_rank_span_s, 4),
            "from a rank's first F, I or W to its last",
        ),
        ("exposed communication", _extremes(exposed), "transfers that compute waits for"),
        (
            "communication overlap",
            f"{result.overlap.comm_overlap:.1%}",
            "share of transfer time beside compute of the same rank",
        ),
    )
    for row in rows:
        table.add_row(*row)
    if closed is not None:
        why = "; ".join(closed.reasons)
        text = f"{closed.formula} with this run's chunk times"
        table.add_row(
            "closed form",
            seconds(closed.seconds),
            f"{text}; not exact here: {why}" if why else text,
        )
    return table


def _extremes(values: Extremes) -> str:
    return f"{seconds(values.mean)} ({seconds(values.min)} to {seconds(values.max)})"


def _memory_title(result: Result) -> str:
    memory = result.memory
    fullest = int(memory.peak.argmax())
    verdict = "fits" if memory.fits else f"{len(memory.over_capacity())} ranks do not fit"
    return f"Memory of the fullest rank, {fullest} of {len(memory.peak)}: {verdict}"


def _memory(result: Result) -> Table:
    memory, table = result.memory, grid("part", "GiB>", "note")
    rank = int(memory.peak.argmax())
    copies = result.lowered.table.param_copies
    stages = f"of {copies} stages" if copies > 1 else ""
    chunks = len(memory.chunks[rank])
    notes = {
        "parameters": stages,
        "gradients": stages,
        ACTIVATIONS: f"{chunks} chunks alive at {seconds(memory.peak_at_ns[rank] / 1e9)}",
    }
    for name, part in memory.breakdown.items():
        if part[rank]:
            table.add_row(name, f"{part[rank] / GIB:.2f}", notes.get(name, ""))
    table.add_section()
    spread = f"{float(memory.peak.min()) / GIB:.1f} to {memory.peak_gib:.1f} GiB over ranks"
    table.add_row("peak", f"{memory.peak_gib:.2f}", spread)
    left = memory.capacity_gib - memory.peak_gib
    free = f"{left:.2f} GiB free" if left >= 0 else f"{-left:.2f} GiB missing"
    table.add_row("capacity", f"{memory.capacity_gib:.2f}", free)
    per_node = result.scenario.topology.gpus_per_node
    for name, held in result.static.host.items():
        gib = float(held.max()) / GIB
        table.add_row(
            "(host) " + name, f"{gib:.2f}", f"for each GPU, {per_node * gib:.0f} GiB a node"
        )
    return table


def _cost(result: Result) -> Table:
    figures, scenario = step_figures(result), result.scenario
    table = grid("", "tokens>", "steps>", "GPU-hours>", "days>", "USD>")
    costs: list[tuple[str, RunCost]] = [("a trillion tokens", figures.trillion)]
    if figures.run is not None:
        costs.append(("the whole run", figures.run))
    for name, cost in costs:
        table.add_row(
            name,
            short(cost.tokens),
            f"{cost.steps:,.0f}",
            short(cost.gpu_hours, digits=4),
            plain(cost.days),
            "$" + short(cost.usd, digits=4),
        )
    table.add_section()
    for line in _rates(figures):
        table.add_row(*line)
    table.caption = f"MFU is {flops_note(scenario)}."
    table.caption_justify = "left"
    return table


def _rates(figures: StepFigures) -> Iterator[tuple[str, ...]]:
    use = figures.utilisation
    yield "tokens a second", short(figures.tokens_per_s)
    yield "tokens a second and GPU", short(figures.tokens_per_s_per_gpu, digits=4)
    yield (
        "TFLOP/s a GPU",
        f"{use.tflops_per_gpu:.0f}",
        "",
        f"causal: {use.tflops_per_gpu_causal:.0f}",
    )
    yield "MFU", f"{use.mfu:.1%}", "", f"causal: {use.mfu_causal:.1%}"


def _pair(result: Result) -> Table:
    figures = pair_figures(result)
    table = grid("phase", "mean of a layer>", "fastest>", "slowest>", "set-up>", "share>")

    def add(phase: Phase) -> None:
        times = list(phase.by_layer_s.values())
        table.add_row(
            phase.name,
            *(seconds(t, 4) for t in (phase.mean_s, min(times), max(times))),
            seconds(phase.setup_s) if phase.setup_s else "",
            f"{sum(times) / figures.total_s:.1%}",
        )

    for phase in figures.phases:
        add(phase)
    table.add_section()
    for phase in figures.transfers:
        add(phase)
    table.add_section()
    exposed = exposed_comm_s(result.attribution).mean
    table.add_row("the block", seconds(figures.total_s, 4), "", "", "", "100.0%")
    share = f"{exposed / figures.total_s:.1%}"
    table.add_row("exposed communication", seconds(exposed, 4), "", "", "", share)
    table.add_row("communication overlap", f"{result.overlap.comm_overlap:.1%}")
    return table


def _inputs(result: Result) -> Table:
    table = grid("input", "value", "source")
    for item in inputs_of(result.scenario):
        table.add_row(item.name, item.value, item.source)
    return table
