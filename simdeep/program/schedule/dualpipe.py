"""DualPipe: micro-batches enter at both ends, and forwards overlap with backwards."""

from __future__ import annotations

from simdeep.program.schedule.actions import Act, Cell, Overlap
from simdeep.program.schedule.table import Table


class RankRow:
    """The row of one rank while it is written.

    Args:
        stages: of DualPipe's phases 0 and 1. In DualPipe phase 0 is the direction whose first stage
            lies in this rank's half of the pipeline, in DualPipeV the way there.
        first: micro-batch that each phase begins with.
    """

    def __init__(self, stages: tuple[int, int], first: tuple[int, int]):
        self._stage = stages
        self._next_f = list(first)
        self._next_b = list(first)
        self._late: list[Act] = []
        self._late_done = 0
        self.cells: list[Cell] = []

    def _take_f(self, side: int) -> Act:
        mb = self._next_f[side]
        self._next_f[side] = mb + 1
        return Act("F", self._stage[side], mb)

    def _take_b(self, side: int) -> Act:
        mb = self._next_b[side]
        self._next_b[side] = mb + 1
        return Act("B", self._stage[side], mb)

    def f(self, side: int) -> None:
        """A forward on its own."""
        self.cells.append(self._take_f(side))

    def b(self, side: int) -> None:
        """A full backward on its own."""
        self.cells.append(self._take_b(side))

    def i(self, side: int) -> None:
        """An input gradient whose weight gradient is put off."""
        _, stage, mb = self._take_b(side)
        self.cells.append(Act("I", stage, mb))
        self._late.append(Act("W", stage, mb))

    def w(self) -> None:
        """The oldest weight gradient put off."""
        self.cells.append(self._late[self._late_done])
        self._late_done += 1

    def fb(self, f_side: int, b_side: int) -> None:
        """A forward and a backward as one overlapped block."""
        self.cells.append(Overlap(self._take_f(f_side), self._take_b(b_side)))


def write_row(row: RankRow, depth: int, inner: int, per_phase: int) -> tuple[Cell, ...]:
    """The eight steps of `DualPipe.step` (github.com/deepseek-ai/DualPipe, dualpipe.py).

    Args:
        row: the empty row.
        depth: distance from the nearer end of the pipeline, in ranks.
        inner: distance from the middle.
        per_phase: micro-batches of each phase.
    """
    for _ in range(2 * inner):  # 1: fill with the near direction
        row.f(0)
    for _ in range(depth + 1):  # 2: forwards of both directions
        row.f(0)
        row.f(1)
    for _ in range(inner):  # 3: the far direction comes back, its weight gradient fills the wait
        row.i(1)
        row.w()
        row.f(1)
    for step in range(per_phase - 2 * inner - depth - 1):  # 4: the steady state
        if step == 0 and inner == 0:
            # The middle ranks leave the first pair unoverlapped: its forward must not wait.
            row.f(0)
            row.b(1)
        else:
            row.fb(0, 1)
        row.fb(1, 0)
    for _ in range(inner):  # 5: the near direction has no forwards left
        row.b(1)
        row.fb(1, 0)
    for half_step in range(2 * (depth + 1)):  # 6: only backwards; from half-way on W is put off
        side = 1 - half_step % 2
        if half_step <= depth:
            row.b(side)
        else:
            row.i(side)
    for _ in range(inner):  # 7: weight gradients fill the wait for the near direction
        row.w()
        row.i(0)
    for _ in range(depth + 1):  # 8: what was put off
        row.w()
    return tuple(row.cells)


def build_dualpipe(pp: int, microbatches: int) -> Table:
    """The table of DualPipe (DeepSeek-V3 report, arXiv 2412.19437, section 3.2.1 and figure 5).

    Direction 0 has the first half of the micro-batches over stages 0..pp-1 on ranks 0..pp-1,
    direction 1 the other half on ranks pp-1..0. Every rank holds two stages.
    """
    half = microbatches // 2
    rows = []
    for rank in range(pp):
        depth = min(rank, pp - 1 - rank)
        stages, first = (rank, pp - 1 - rank), (0, half)
        if rank >= pp // 2:
            stages, first = stages[::-1], first[::-1]
        row = RankRow(stages, first)
        rows.append(write_row(row, depth, pp // 2 - 1 - depth, half))
    there = tuple(range(pp))
    return Table("dualpipe", tuple(rows), pp, microbatches, (there, there[::-1]))
