"""The answer of a sweep as text: what came out in a sentence, and a table of points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simdeep.cli.console import WIDTH
from simdeep.sweep.evaluate import Row, Status
from simdeep.sweep.run import Swept
from simdeep.sweep.table import best_point, main_figure, ranked

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST = 40
"""Points that are listed; of more, the best."""
MOST_REASONS = 12
"""Reasons that are written out."""

_WORDS = {
    Status.FITS: "can run",
    Status.DOES_NOT_FIT: "do not fit",
    Status.ILLEGAL: "are illegal",
    Status.FAILED: "failed",
}

_DROPPED = ("gpus", "bubble_over_makespan", "tokens_per_s_per_gpu")
_CELL, _REMARK = 10, 21
_NOTED = (Status.ILLEGAL, Status.FAILED)

_Column = tuple[str, str, Callable[[float], str]]
_STEP: tuple[_Column, ...] = (
    ("GPUs", "gpus", lambda v: f"{v:,.0f}"),
    ("step (s)", "step_time_s", lambda v: f"{v:.4g}"),
    ("MFU", "mfu", lambda v: f"{v:.1%}"),
    ("tok/s/GPU", "tokens_per_s_per_gpu", lambda v: f"{v:,.0f}"),
    ("$/Ttoken", "usd_per_ttoken", lambda v: f"{v:,.0f}"),
    ("bubble", "bubble_over_makespan", lambda v: f"{v:.1%}"),
    ("GiB", "memory_peak_gib", lambda v: f"{v:.1f}"),
)
_PAIR: tuple[_Column, ...] = (
    ("pair (ms)", "total_ms", lambda v: f"{v:.4g}"),
    ("exposed comm (ms)", "exposed_comm_ms", lambda v: f"{v:.4g}"),
    ("overlap", "comm_overlap", lambda v: f"{v:.1%}"),
)


def report(swept: Swept) -> Iterator[RenderableType]:
    """Sentence and table."""
    from rich.table import Table
    from rich.text import Text

    yield Text(_summary(swept) + "\n")
    listed, heading = _listed(swept)
    columns = _PAIR if main_figure(swept.rows) == "total_ms" else _fitting_columns(swept)
    table = Table(title=heading, box=None, title_justify="left", pad_edge=False)
    noted = [swept.rows[i] for i in listed if swept.rows[i]["status"] in _NOTED]
    reasons = dict.fromkeys(row["reason"] for row in noted)
    notes = {reason: n for n, reason in enumerate(reasons, start=1)}
    remarks = any(swept.rows[i]["reason"] for i in listed)
    for name in short_names([axis.key for axis in swept.plan.axes]):
        table.add_column(name, overflow="fold", no_wrap=True)
    for name, _, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    if remarks:
        table.add_column("", no_wrap=True)
    for i in listed:
        values = [swept.points[i].values[axis.key] for axis in swept.plan.axes]
        remark = [_remark(swept.rows[i], notes)] if remarks else []
        table.add_row(*values, *_cells(swept.rows[i], columns), *remark)
    yield table
    if notes:
        yield Text("")
    for reason, number in list(notes.items())[:MOST_REASONS]:
        yield Text(f"[{number}] {reason}")
    if len(notes) > MOST_REASONS:
        yield Text("All reasons with --json or --out.")


def _fitting_columns(swept: Swept) -> tuple[_Column, ...]:
    """The columns there is room for beside the varied values; the widest are left out first."""
    names = short_names([axis.key for axis in swept.plan.axes])
    room = (
        WIDTH
        - _REMARK
        - sum(
            2 + max(len(name), *(len(value) for value in axis.values))
            for name, axis in zip(names, swept.plan.axes, strict=True)
        )
    )
    columns = [column for column in _STEP if column[1] != "gpus" or "gpus" not in names]
    for dropped in _DROPPED:
        if len(columns) * _CELL <= room:
            break
        columns = [column for column in columns if column[1] != dropped]
    return tuple(columns)


def _summary(swept: Swept) -> str:
    counts = Counter(row["status"] for row in swept.rows)
    parts = [f"{counts[s]:,} {_WORDS[s]}" for s in Status if counts[s]]
    text = f"{len(swept.rows):,} points: {', '.join(parts) or 'none'}."
    best = best_point(swept)
    if best is None:
        return text
    at = ", ".join(f"{key}={value}" for key, value in swept.points[best].values.items())
    figures: dict[str, Any] = swept.rows[best]["figures"]
    if "total_ms" in figures:
        return f"{text} Fastest: {figures['total_ms']:.4g} ms at {at}."
    return (
        f"{text} Cheapest: ${figures['usd_per_ttoken']:,.0f} a trillion tokens, "
        f"{figures['step_time_s']:.4g} s a step at {at}."
    )


def _listed(swept: Swept) -> tuple[list[int], str]:
    """Points to list, and the heading that says which they are."""
    if len(swept.rows) <= MOST:
        return list(range(len(swept.rows))), "All points"
    by = "time" if main_figure(swept.rows) == "total_ms" else "dollars a trillion tokens"
    return ranked(swept)[:MOST], f"The first {MOST} by {by}; all with --json or --out"


def _cells(row: Row, columns: tuple[_Column, ...]) -> list[str]:
    figures = row["figures"]
    return [form(figures[key]) if key in figures else "-" for _, key, form in columns]


def _remark(row: Row, notes: Mapping[str, int]) -> str:
    if row["status"] in _NOTED:
        return f"{row['status']} [{notes[row['reason']]}]"
    if row["status"] == Status.DOES_NOT_FIT:
        return f"of {row['figures']['memory_capacity_gib']:.1f}: does not fit"
    return ""


def short_names(keys: Sequence[str]) -> list[str]:
    """The last parts of keys, as many as it takes to tell them apart."""
    for parts in range(1, max((key.count(".") for key in keys), default=0) + 1):
        names = [".".join(key.split(".")[-parts:]) for key in keys]
        if len(set(names)) == len(keys):
            return names
    return list(keys)
