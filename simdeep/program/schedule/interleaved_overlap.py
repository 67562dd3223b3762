"""Interleaved 1F1B whose forwards and backwards run as overlapped blocks, as Megatron's for MoE."""

from __future__ import annotations

from simdeep.program.schedule.actions import Cell, Overlap
from simdeep.program.schedule.placement import looped
from simdeep.program.schedule.rounds import in_rounds, round_size, warm_up
from simdeep.program.schedule.table import Table


def build_interleaved_overlap(pp: int, microbatches: int, vpp: int) -> Table:
    """The table Megatron-LM runs with `overlap_moe_expert_parallel_comm` (combined_1f1b.py).

    As interleaved 1F1B, with one more forward before the first backward, so that the forward and
    the backward of a step never depend on each other and the all-to-all of one hides behind the
    compute of the other.
    """
    size = round_size(pp, microbatches)
    rows = []
    for rank in range(pp):
        stages = tuple(range(rank, pp * vpp, pp))
        f = in_rounds("F", stages, microbatches, size)
        b = in_rounds("B", stages[::-1], microbatches, size)
        ahead = min(warm_up(rank, pp, vpp, size, 2) + 1, len(f))
        row: list[Cell] = [*f[:ahead]]
        row += map(Overlap, f[ahead:], b)
        row += b[len(f) - ahead :]
        rows.append(tuple(row))
    return Table("interleaved-1f1b-overlap", tuple(rows), pp * vpp, microbatches, looped(pp, vpp))
