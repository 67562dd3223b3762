"""1F1B (PipeDream-Flush): one forward, one backward, once the pipeline is full."""

from __future__ import annotations

from simdeep.program.schedule.actions import Cell, acts
from simdeep.program.schedule.table import Table


def build_1f1b(pp: int, microbatches: int) -> Table:
    """The table of 1F1B (Narayanan et al., arXiv 2104.04473, section 2.2.1).

    Rank r runs ahead by pp - 1 - r forwards, so that it never holds more than pp - r micro-batches.
    """
    rows = []
    for rank in range(pp):
        ahead = min(pp - 1 - rank, microbatches)
        f, b = (acts(kind, rank, range(microbatches)) for kind in ("F", "B"))
        row: list[Cell] = [*f[:ahead]]
        for pair in zip(f[ahead:], b, strict=False):
            row += pair
        row += b[microbatches - ahead :]
        rows.append(tuple(row))
    return Table("1f1b", tuple(rows), pp, microbatches, (tuple(range(pp)),))
