"""ZB-H2: no bubble for twice the activations, if F, I and W take the same time."""

from __future__ import annotations

from simdeep.program.schedule.actions import Cell, acts
from simdeep.program.schedule.placement import looped
from simdeep.program.schedule.table import Table


def build_zb_h2(pp: int, microbatches: int) -> Table:
    """The table of the hand-made ZB-H2 (Qi et al., arXiv 2401.10241, section 2.3 and figure 3).

    Rank r fills the time until its first backward with forwards, 2 (pp - r) - 1 of them, and lets
    its weight gradients fall behind by 2 r micro-batches, so that every rank holds at most
    2 pp - 1 chunks and none waits at the end: the ranks' spans form a parallelogram.
    """
    rows = []
    for rank in range(pp):
        ahead = min(2 * (pp - rank) - 1, microbatches)
        late = 2 * rank
        f, i, w = (acts(kind, rank, range(microbatches)) for kind in ("F", "I", "W"))
        row: list[Cell] = [*f[:ahead]]
        for mb in range(microbatches):
            row.append(i[mb])
            if mb >= late:
                row.append(w[mb - late])
            row += f[mb + ahead : mb + ahead + 1]
        row += w[max(microbatches - late, 0) :]
        rows.append(tuple(row))
    return Table("zb-h2", tuple(rows), pp, microbatches, looped(pp))
