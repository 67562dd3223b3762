"""ZB1P, the hand-made ZB-H1: 1F1B with the weight gradients put off to fill the cool-down."""

from __future__ import annotations

from simdeep.program.schedule.actions import Cell, acts
from simdeep.program.schedule.table import Table


def build_zb1p(pp: int, microbatches: int) -> Table:
    """The table of ZB-H1 (Qi et al., arXiv 2401.10241, section 2.3).

    Forwards and input gradients in the order of 1F1B. Rank r lets its weight gradients fall behind
    by r micro-batches: it has r fewer forwards in flight than rank 0, so every rank holds at most
    pp chunks, the memory of 1F1B's first rank.
    """
    rows = []
    for rank in range(pp):
        ahead = min(pp - 1 - rank, microbatches)
        f, i, w = (acts(kind, rank, range(microbatches)) for kind in ("F", "I", "W"))
        row: list[Cell] = [*f[:ahead]]
        for mb in range(microbatches):
            row += f[mb + ahead : mb + ahead + 1]
            row.append(i[mb])
            if mb >= rank:
                row.append(w[mb - rank])
        row += w[max(microbatches - rank, 0) :]
        rows.append(tuple(row))
    return Table("zb1p", tuple(rows), pp, microbatches, (tuple(range(pp)),))
