"""One overlapped forward and backward on one rank: the block DualPipe repeats, on its own."""

from __future__ import annotations

from simdeep.program.schedule.actions import Act, Overlap
from simdeep.program.schedule.table import Table


def build_pair(pp: int = 1, microbatches: int = 2) -> Table:
    """A window of two micro-batches: the forward of 1 beside the backward of 0.

    This is what DeepSeek published as its training profile (github.com/deepseek-ai/profile-data):
    the forward of micro-batch 0 lies before the window, the backward of 1 after it.
    """
    block = Overlap(Act("F", 0, 1), Act("B", 0, 0))
    return Table("pair", ((block,),), pp, microbatches, ((0,),), window=True)
