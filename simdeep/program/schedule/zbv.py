"""ZB-V: two stages a rank in the shape of a V; no bubble within the activations of 1F1B."""

from __future__ import annotations

from simdeep.program.schedule.actions import Act, Cell, Kind, acts
from simdeep.program.schedule.placement import v_shaped
from simdeep.program.schedule.table import Table


class _Rank:
    """The row of one rank while it is written; side 0 is its stage on the way there, 1 back."""

    def __init__(self, rank: int, pp: int, microbatches: int):
        stages = (rank, 2 * pp - 1 - rank)
        kinds: tuple[Kind, ...] = ("F", "I", "W")
        self._left: dict[tuple[Kind, int], list[Act]] = {
            (kind, side): acts(kind, stage, range(microbatches))[::-1]
            for kind in kinds
            for side, stage in enumerate(stages)
        }
        self.cells: list[Cell] = []

    def take(self, kind: Kind, side: int) -> None:
        """The next action of a kind, if any is left."""
        left = self._left[kind, side]
        if left:
            self.cells.append(left.pop())

    def rest(self, kind: Kind, side: int) -> None:
        """All that is left of a kind."""
        left = self._left[kind, side]
        self.cells += left[::-1]
        left.clear()


def _row(rank: int, pp: int, microbatches: int) -> tuple[Cell, ...]:
    """Written for at least 2 pp - 1 micro-batches; with fewer the missing ones are left out."""
    full = max(microbatches, 2 * pp - 1)
    row = _Rank(rank, pp, full)
    inner = pp - rank  # ranks from here to the turn of the V
    for _ in range(2 * inner - 1):  # fill until the first micro-batch comes back
        row.take("F", 0)
    for _ in range(rank):
        row.take("F", 1)
        row.take("F", 0)
    for _ in range(inner):  # the way back alone
        for kind in _CHUNK:
            row.take(kind, 1)
    for _ in range(full - pp):  # the steady state: a whole chunk of each side
        for side in (0, 1):
            for kind in _CHUNK:
                row.take(kind, side)
    for _ in range(rank):  # weight gradients are put off to let gradients through
        row.take("I", 0)
        row.take("I", 1)
    for _ in range(inner):
        row.take("I", 0)
        row.take("W", 0)
    row.rest("W", 1)
    row.rest("W", 0)
    if full == microbatches:
        return tuple(row.cells)
    return tuple(cell for cell in row.cells if isinstance(cell, Act) and cell.mb < microbatches)


_CHUNK: tuple[Kind, ...] = ("F", "I", "W")


def build_zbv(pp: int, microbatches: int) -> Table:
    """The table of the hand-made ZB-V (Qi et al., arXiv 2401.10241, section 6).

    As torch's ScheduleZBVZeroBubble. Its order is made for F = I = W.
    """
    rows = tuple(_row(rank, pp, microbatches) for rank in range(pp))
    return Table("zb-v", rows, 2 * pp, microbatches, v_shaped(pp))
