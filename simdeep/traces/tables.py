"""What traces say, as tables for a console and as one object for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simdeep.report.summary import seconds
from simdeep.report.tables import grid, titled
from simdeep.traces.diff import Comparison, phases
from simdeep.traces.measure import Measures, measure
from simdeep.traces.trace import Trace

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_MOST_ROWS = 16
"""Ranks a console table lists; JSON has all."""


def trace_tables(trace: Trace) -> Iterator[RenderableType]:
    """What one trace adds up to."""
    from rich.text import Text

    found = measure(trace)
    ranks = len(found.by_rank)
    yield Text(
        f"{trace.name} ({trace.source}): {seconds(found.makespan_ns / 1e9)} on {ranks} "
        f"rank{'s' * (ranks != 1)}, {len(trace.spans):,} spans; {found.overlap:.1%} of the "
        "communication ran beside compute."
    )
    yield Text("")
    yield from titled("Time of each rank", _by_rank(found))
    table = grid("phase", "kind", "occurrences>", "mean>", "busy in all>")
    busy = found.by_kind.set_index(["kind", "phase"])["busy_ns"]
    for row in phases(trace).sort_values("first").to_dict("records"):
        table.add_row(
            row["phase"],
            row["kind"],
            f"{row['count']:,}",
            seconds(row["mean_ns"] / 1e9),
            seconds(float(busy[row["kind"], row["phase"]]) / 1e9),
        )
    yield from titled("Phases", table)


def _by_rank(found: Measures) -> Table:
    columns = ("compute", "communication", "hidden", "exposed", "memory", "idle")
    table = grid("rank", *(f"{name}>" for name in columns))
    for row in found.by_rank.head(_MOST_ROWS).to_dict("records"):
        table.add_row(str(row["rank"]), *(seconds(row[name] / 1e9) for name in columns))
    if (more := len(found.by_rank) - _MOST_ROWS) > 0:
        table.add_row(f"{more} more")
    return table


def diff_tables(found: Comparison) -> Iterator[RenderableType]:
    """Two traces side by side."""
    from rich.text import Text

    a, b = found.measures_a, found.measures_b
    yield Text(
        f"{found.b.name} ({found.b.source}) takes {seconds(b.makespan_ns / 1e9)}, {found.a.name} "
        f"({found.a.source}) {seconds(a.makespan_ns / 1e9)}: "
        f"{_percent(b.makespan_ns / a.makespan_ns - 1 if a.makespan_ns else math.nan)}."
    )
    yield Text("")
    table = grid("phase", "kind", "A: count>", "mean>", "B: count>", "mean>", "B against A>")
    for row in found.phases.to_dict("records"):
        table.add_row(
            row["phase"],
            row["kind"],
            f"{row['count_a']:,}",
            _time(row["mean_ns_a"]),
            f"{row['count_b']:,}",
            _time(row["mean_ns_b"]),
            _percent(row["ratio"]),
        )
    title = f"Phases; A: {found.a.name} ({found.a.source}), B: {found.b.name} ({found.b.source})"
    yield from titled(title, table)
    table = grid("mean of the ranks", "A>", "B>", "B against A>")
    for name in ("compute", "communication", "hidden", "exposed", "idle"):
        left, right = float(a.by_rank[name].mean()), float(b.by_rank[name].mean())
        table.add_row(
            name, _time(left), _time(right), _percent(right / left - 1 if left else math.nan)
        )
    yield from titled("Time in which at least one span of the kind ran", table)


def _time(value_ns: float) -> str:
    return "-" if math.isnan(value_ns) else seconds(value_ns / 1e9)


def _percent(ratio: float) -> str:
    return "-" if math.isnan(ratio) else f"{ratio:+.1%}"


def trace_json(trace: Trace) -> dict[str, Any]:
    """Sums of a trace, integer nanoseconds."""
    found = measure(trace)
    return {
        "name": trace.name,
        "source": trace.source,
        "spans": len(trace.spans),
        "makespan_ns": found.makespan_ns,
        "comm_overlap": found.overlap,
        "by_rank_ns": found.by_rank.to_dict("records"),
        "by_kind": found.by_kind.to_dict("records"),
        "by_part_ns": found.by_part.to_dict("records"),
    }


def diff_json(found: Comparison) -> dict[str, Any]:
    """Both traces' sums and the phases beside each other; None where a trace lacks a phase."""
    rows = found.phases.to_dict("records")
    return {
        "a": trace_json(found.a),
        "b": trace_json(found.b),
        "phases": [
            {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
            for row in rows
        ],
    }
