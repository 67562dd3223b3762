"""A table as text: cells against time, or cells in order with the faulty ones marked."""

from __future__ import annotations

from collections.abc import Collection
from math import ceil

from simdeep.program.schedule.actions import Act, Cell, Overlap
from simdeep.program.schedule.costs import Costs
from simdeep.program.schedule.replay import replay
from simdeep.program.schedule.table import Table

_MOST_COLUMNS = 2000
_AROUND = 6


def render_grid(table: Table, costs: Costs | None = None, width: int | None = None) -> str:
    """Ranks down, time across; a column is the shortest cell (costs: F = I = W = 1 if not given).

    A cell begins with its text (`F3`, `I3`, `W3`, `B3`, a block `F9&B2`; with the stage first, as
    `2F3`, where a micro-batch visits a rank more than once) and is filled with `-` while it runs;
    `.` is idle. With `width` characters a line the grid goes on below itself.
    """
    spans = replay(table, costs)
    took = [float(t) for s, e in zip(spans.start, spans.end, strict=True) for t in e - s if t > 0]
    unit = max(min(took, default=1.0), spans.makespan / _MOST_COLUMNS)
    staged = any(len(chunks) > table.directions for chunks in table.chunks_of)
    lines = [
        [
            (_short(cell, staged), round(start / unit), round(end / unit))
            for cell, start, end in zip(row, spans.start[rank], spans.end[rank], strict=True)
        ]
        for rank, row in enumerate(table.rows)
    ]
    chars = max(
        (ceil((len(t) + 1) / max(b - a, 1)) for line in lines for t, a, b in line), default=1
    )
    columns = round(spans.makespan / unit)
    label = _label_width(table)
    texts = []
    for rank, line in enumerate(lines):
        text = [_idle(chars)] * columns
        for name, begin, end in line:
            if begin == end:
                continue
            filled = name.ljust((end - begin) * chars - 1, "-")[: (end - begin) * chars - 1]
            text[begin:end] = [filled + " "] + [""] * (end - begin - 1)
        texts.append((f"rank {rank}".ljust(label) + "| ", "".join(text)))
    room = columns * chars if width is None else max(width - label - 2, chars) // chars * chars
    return "\n\n".join(
        "\n".join((head + text[at : at + room]).rstrip() for head, text in texts)
        for at in range(0, max(columns * chars, 1), max(room, 1))
    )


def render_order(table: Table, marked: Collection[tuple[int, int]]) -> str:
    """The cells of each rank in order, without time: `>` before a faulty row, `*` on a faulty cell.

    `marked` holds (rank, index). Of long rows only the columns around the first mark are shown.
    """
    longest = max(map(len, table.rows), default=0)
    middle = min((index for _, index in marked), default=0)
    first = max(middle - _AROUND, 0)
    last = min(middle + _AROUND + 1, longest)
    bad_ranks = {rank for rank, _ in marked}
    texts = [
        [
            _long(row[index], (rank, index) in marked) if index < len(row) else ""
            for index in range(first, last)
        ]
        for rank, row in enumerate(table.rows)
    ]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    label = _label_width(table)
    lines = []
    for rank, cells in enumerate(texts):
        line = " ".join(text.ljust(size) for text, size in zip(cells, widths, strict=True))
        head = ("> " if rank in bad_ranks else "  ") + f"rank {rank}".ljust(label)
        before = "... " if first else ""
        after = " ..." if last < len(table.rows[rank]) else ""
        lines.append(f"{head}| {before}{line}{after}".rstrip())
    return "\n".join(lines)


def _label_width(table: Table) -> int:
    return len(f"rank {table.n_ranks - 1} ")


def _idle(chars: int) -> str:
    return ".".ljust(chars)


def _short(cell: Cell, staged: bool) -> str:
    if isinstance(cell, Overlap):
        return f"{_short(cell.f, staged)}&{_short(cell.b, staged)}"
    return str(cell) if staged else f"{cell.kind}{cell.mb}"


def _long(cell: Cell, bad: bool) -> str:
    text = str(cell) if isinstance(cell, Act) else f"{cell.f}&{cell.b}"
    return f"*{text}*" if bad else text
