"""Which stages a rank holds under each schedule, and how many chunks it must keep."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from simdeep.program.schedule.closed import Size
from simdeep.program.schedule.registry import find_schedule
from simdeep.program.schedule.table import peak_activations
from simdeep.spec.schedules import SCHEDULE_RULES

F64 = npt.NDArray[np.float64]

INLINE = ("gpipe", "1f1b", "interleaved-1f1b")
"""Schedules whose backward computes both gradients in one piece, one chunk at a time."""
OVERLAPPED = ("interleaved-1f1b-overlap", "dualpipe", "dualpipev", "auto")
"""Schedules that run forwards beside backwards (a searched one may)."""
_V = ("zb-v", "v-half", "v-min", "dualpipev")


@dataclass(frozen=True, eq=False)
class Pipeline:
    """`share[rank, stage]` of the micro-batches that a rank runs through a stage.

    Of a searched schedule nobody knows the placement before the search: `share` is None.
    """

    share: F64 | None
    copies: int


@lru_cache(maxsize=512)
def pipeline_of(schedule: str, pp: int, vpp: int) -> Pipeline:
    """Where a schedule puts its stages: round the ranks, in a V, or from both ends."""
    if schedule == "auto":
        return Pipeline(None, 1)
    share = np.zeros((pp, pp * vpp))
    for stage in range(pp * vpp):
        place = stage % pp
        if schedule in _V and stage >= pp:
            place = 2 * pp - 1 - stage
        share[place, stage] += 1.0
    if schedule == "dualpipe":
        share = (share + share[::-1]) / 2
    return Pipeline(share, SCHEDULE_RULES[schedule].parameter_copies)


@lru_cache(maxsize=65536)
def chunks_held(schedule: str, pp: int, vpp: int, microbatches: int) -> tuple[int, ...]:
    """Most chunks each rank holds at once, at least; freed after the input gradient."""
    if schedule == "auto":
        return (1,) * pp
    entry, size = find_schedule(schedule), Size(pp, microbatches, vpp)
    closed = entry.closed
    assert closed is not None
    if microbatches < 2 * pp:  # the closed forms are of filled pipelines
        held = peak_activations(entry.build(size), "I")
    else:
        held = np.array([closed.chunks(size, rank, "I") for rank in range(pp)])
    # A block's backward frees layer by layer what its forward takes: never both in full.
    block = schedule in OVERLAPPED
    return tuple(np.maximum(held - block, 1).tolist())
