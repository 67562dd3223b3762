"""DualPipeV: DualPipe folded in the middle, so that one copy of the parameters is enough."""

from __future__ import annotations

from simdeep.program.schedule.dualpipe import RankRow, write_row
from simdeep.program.schedule.placement import v_shaped
from simdeep.program.schedule.table import Table


def build_dualpipev(pp: int, microbatches: int) -> Table:
    """The table of DualPipeV (github.com/deepseek-ai/DualPipe, dualpipev.py; torch's too).

    Rank r does what rank r of DualPipe on 2 pp ranks does, but its phases are the two stages a V
    puts on it, and both run all the micro-batches.
    """
    rows = tuple(
        write_row(RankRow((rank, 2 * pp - 1 - rank), (0, 0)), rank, pp - 1 - rank, microbatches)
        for rank in range(pp)
    )
    return Table("dualpipev", rows, 2 * pp, microbatches, v_shaped(pp))
