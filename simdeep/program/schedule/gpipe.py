"""GPipe: all forwards, then all backwards."""

from __future__ import annotations

from simdeep.program.schedule.actions import acts
from simdeep.program.schedule.placement import looped
from simdeep.program.schedule.table import Table


def build_gpipe(pp: int, microbatches: int) -> Table:
    """The table of GPipe (Huang et al., arXiv 1811.06965, section 2.3); every chunk is held.

    Backwards run in the order of the micro-batches, as torch's ScheduleGPipe runs them.
    """
    mbs = range(microbatches)
    rows = tuple((*acts("F", rank, mbs), *acts("B", rank, mbs)) for rank in range(pp))
    return Table("gpipe", rows, pp, microbatches, looped(pp))
