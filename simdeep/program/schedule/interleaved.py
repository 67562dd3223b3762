"""Interleaved 1F1B: several stages a rank, so that the pipeline fills in smaller steps."""

from __future__ import annotations

from itertools import chain

from simdeep.program.schedule.actions import Cell
from simdeep.program.schedule.placement import looped
from simdeep.program.schedule.rounds import in_rounds, round_size, warm_up
from simdeep.program.schedule.table import Table


def build_interleaved(pp: int, microbatches: int, vpp: int, size: int | None = None) -> Table:
    """The table of interleaved 1F1B (Narayanan et al., arXiv 2104.04473, section 2.2.2).

    `size` is the number of micro-batches of a round, by default `round_size`. This is the order of
    Megatron-LM with `microbatch_group_size_per_vp_stage` = `size` and of torch's
    ScheduleInterleaved1F1B: rank r begins with (vpp - 1) size + 2 (pp - 1 - r) forwards.
    """
    size = size or round_size(pp, microbatches)
    rows = []
    for rank in range(pp):
        stages = tuple(range(rank, pp * vpp, pp))
        f = in_rounds("F", stages, microbatches, size)
        b = in_rounds("B", stages[::-1], microbatches, size)
        ahead = min(warm_up(rank, pp, vpp, size, 2), len(f))
        row: list[Cell] = [*f[:ahead]]
        row += chain.from_iterable(zip(f[ahead:], b, strict=False))
        row += b[len(f) - ahead :]
        rows.append(tuple(row))
    return Table("interleaved-1f1b", tuple(rows), pp * vpp, microbatches, looped(pp, vpp))
