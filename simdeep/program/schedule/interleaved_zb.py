"""Interleaved zero bubble: ZB-H1's weight gradients in interleaved 1F1B."""

from __future__ import annotations

from simdeep.program.schedule.actions import Cell
from simdeep.program.schedule.placement import looped
from simdeep.program.schedule.rounds import in_rounds, round_size, warm_up
from simdeep.program.schedule.table import Table


def build_interleaved_zb(pp: int, microbatches: int, vpp: int) -> Table:
    """The table of torch's ScheduleInterleavedZeroBubble (ZB1P of arXiv 2401.10241 on chunks).

    Input gradients take half the time of full backwards, so rank r begins with only one forward
    more for each rank behind it; its weight gradients fall behind by r chunks.
    """
    size = round_size(pp, microbatches)
    rows = []
    for rank in range(pp):
        stages = tuple(range(rank, pp * vpp, pp))
        f = in_rounds("F", stages, microbatches, size)
        i = in_rounds("I", stages[::-1], microbatches, size)
        w = in_rounds("W", stages[::-1], microbatches, size)
        ahead = min(warm_up(rank, pp, vpp, size, 1), len(f))
        row: list[Cell] = [*f[:ahead]]
        for at in range(len(i)):
            row += f[at + ahead : at + ahead + 1]
            row.append(i[at])
            if at >= rank:
                row.append(w[at - rank])
        row += w[max(len(w) - rank, 0) :]
        rows.append(tuple(row))
    return Table("interleaved-zb", tuple(rows), pp * vpp, microbatches, looped(pp, vpp))
