"""V-Half and V-Min: one building block repeated, with a half and a third of 1F1B's activations."""

from __future__ import annotations

from itertools import starmap

import numpy as np

from simdeep.program.schedule.actions import Act, Cell, Kind
from simdeep.program.schedule.placement import v_shaped
from simdeep.program.schedule.table import I64, Table

_KINDS: tuple[Kind, ...] = ("F", "I", "W")
_PERIOD = 6  # F, I and W of two stages, each one unit of time


def build_v_half(pp: int, microbatches: int) -> Table:
    """The table of V-Half (Qi et al., arXiv 2405.15362, section 3.2).

    A rank holds at most (pp + 2) // 2 micro-batches of its two stages.
    """
    gap = 3 if pp % 2 == 0 else 0
    r = np.arange(pp)
    starts = (2 * r, 3 * pp - 2 - r, 3 * pp - 1 + gap + 2 * r, 6 * pp - 2 + gap - r)
    return _build("v-half", starts, microbatches, pp // 2 + 1)


def build_v_min(pp: int, microbatches: int) -> Table:
    """The table of V-Min (Qi et al., arXiv 2405.15362, section 3.2).

    A rank holds at most (pp + 4) // 3 micro-batches of its two stages.
    """
    gap = 2 if pp % 3 == 0 else 0
    r = np.arange(pp)
    starts = (r, 2 * pp - 1 - r, 2 * pp + gap + r, 4 * pp - 1 + gap - r)
    return _build("v-min", starts, microbatches, (pp + 4) // 3)


def _build(name: str, starts: tuple[I64, ...], microbatches: int, most: int) -> Table:
    """Repeat a building block.

    Args:
        name: of the table.
        starts: for each rank when micro-batch 0 starts its F on the way there and back, its I on
            the way back and there.
        microbatches: the block starts anew for each after `_PERIOD`.
        most: micro-batches a rank may hold: each is two chunks, freed after W.
    """
    from simdeep.program.schedule.v_fill import filled

    pp = len(starts[0])
    there = np.arange(pp)
    back = 2 * pp - 1 - there
    times = np.stack(starts)[..., None] + _PERIOD * np.arange(microbatches)
    times = times.transpose(1, 0, 2).reshape(pp, -1)  # a rank, then its 4 actions x micro-batches
    order = np.argsort(times, axis=1, kind="stable")
    which, mb = order // microbatches, order % microbatches
    stage = np.where((which == 0) | (which == 3), there[:, None], back[:, None])
    cells, length = filled((which >= 2).astype(np.int64), stage, mb, 2 * most)
    rows = [_row(cells[rank, : length[rank]]) for rank in range(pp)]
    return Table(name, tuple(rows), 2 * pp, microbatches, v_shaped(pp))


def _row(cells: I64) -> tuple[Cell, ...]:
    kind, stage, mb = cells.T.tolist()
    return tuple(starmap(Act, zip(map(_KINDS.__getitem__, kind), stage, mb, strict=True)))
