"""When each cell of a table runs, given what an action costs: no contention, no kernels.

This is the arithmetic behind closed forms, grids and comparisons. A cell starts when its rank is
free and its inputs have arrived; a transfer takes `p2p` and holds nothing. Times are in whatever
unit the costs are (seconds, or forwards of one stage).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simdeep.errors import DeadlockError
from simdeep.program.schedule.actions import KINDS, Act, acts_of, needed_by
from simdeep.program.schedule.advance import advance, compiled_advance
from simdeep.program.schedule.costs import F64, Costs
from simdeep.program.schedule.table import (
    I64,
    Columns,
    FreedAfter,
    Table,
    peak_activations,
)

_F, _I, _W, _B = range(len(KINDS))
_UNDONE = -1.0
_COMPILE_ABOVE = 4_000
"""Cells from which on loading compiled code costs less than running without it."""


class StuckError(DeadlockError):
    """A table whose cells wait for each other; `waiting` holds (rank, index of its cell)."""

    def __init__(self, text: str, waiting: tuple[tuple[int, int], ...]):
        super().__init__(text)
        self.waiting = waiting


@dataclass(frozen=True, eq=False)
class Spans:
    """Start and end of every cell: `start[rank][index]`, `end[rank][index]`."""

    table: Table
    start: tuple[F64, ...]
    end: tuple[F64, ...]

    @property
    def makespan(self) -> float:
        """End of the last cell; time 0 is the start of the step."""
        return max((float(end[-1]) for end in self.end if len(end)), default=0.0)

    @property
    def busy(self) -> F64:
        """Time each rank works."""
        return np.array([float((e - s).sum()) for s, e in zip(self.start, self.end, strict=True)])

    @property
    def idle(self) -> F64:
        """Each rank's own bubble: makespan less the time it works."""
        return self.makespan - self.busy

    @property
    def rank_span(self) -> F64:
        """For each rank the time from its first start to its last end."""
        both = zip(self.start, self.end, strict=True)
        return np.array([float(e[-1] - s[0]) if len(s) else 0.0 for s, e in both])

    @property
    def longest_rank_span(self) -> float:
        """The longest of `rank_span`: what counts when steps follow each other without a flush."""
        return float(self.rank_span.max(initial=0.0))

    @property
    def bubble_over_makespan(self) -> float:
        """Mean idle time of the ranks over the makespan."""
        return float(self.idle.mean()) / self.makespan if self.makespan else 0.0

    @property
    def bubble_over_ideal(self) -> float:
        """Mean idle time of the ranks over their mean working time."""
        work = float(self.busy.mean())
        return float(self.idle.mean()) / work if work else 0.0

    @property
    def peak_activations(self) -> dict[FreedAfter, I64]:
        """Most chunks each rank holds at once, freed after I (or B) and freed after W (or B)."""
        return {freed: peak_activations(self.table, freed) for freed in ("I", "W")}


@dataclass(frozen=True, eq=False)
class _Needs:
    """Per action of `Table.columns`: the entry of `done` it waits for (-1: none) and the one it
    sets. Of chunk (stage, mb), entry k = stage * n_microbatches + mb is the end of the forward and
    n + k that of the input gradient, n being the number of chunks; nobody waits for a W: entry 2n.
    """

    need: I64
    sets: I64
    away: npt.NDArray[np.bool_]


def _needs(table: Table, columns: Columns) -> _Needs:
    kind, stage, mb = columns.kind, columns.stage, columns.mb
    m, last = table.n_microbatches, table.n_stages - 1
    n = m * table.n_stages
    key = stage * m + mb
    is_f, is_w = kind == _F, kind == _W
    need = np.where(
        is_f,
        np.where(stage > 0, key - m, -1),
        np.where(is_w, n + key, np.where(stage == last, key, n + key + m)),
    )
    sets = np.where(is_f, key, np.where(is_w, 2 * n, n + key))
    holder = np.array(table.stage_ranks, dtype=np.int64)
    source = np.clip(stage + np.where(is_f, -1, np.where(is_w, 0, 1)), 0, last)
    away = holder[mb * table.directions // m, source] != columns.rank
    return _Needs(need, sets, away)


def replay(table: Table, costs: Costs | None = None) -> Spans:
    """Run a table; raises StuckError, naming who waits for whom, if it cannot finish."""
    costs = costs or Costs()
    columns = table.columns
    needs = _needs(table, columns)
    n_cells = int(columns.row_ptr[-1])
    first = np.searchsorted(columns.cell, np.arange(n_cells))
    second = np.flatnonzero(np.diff(columns.cell, prepend=-1) == 0)
    took = costs.single(table.n_stages)[columns.kind[first], columns.stage[first]]
    blocks = columns.cell[second]
    took[blocks] = costs.pair(table.n_stages)[columns.stage[second - 1], columns.stage[second]]

    delay = np.where(needs.away, costs.transfer(), 0.0)
    done = np.full(2 * table.n_stages * table.n_microbatches + 1, _UNDONE)
    if table.window:
        done[:] = 0.0
        done[needs.sets] = _UNDONE
    other = np.full((2, n_cells), -1)  # what a block's backward needs and sets
    other[:, blocks] = needs.need[second], needs.sets[second]
    other_delay = np.zeros(n_cells)
    other_delay[blocks] = delay[second]
    steps = (
        (took, needs.need[first], delay[first], needs.sets[first]),
        (other[0], other_delay, other[1]),
    )
    start, end, at, done = _run(columns.row_ptr, *steps[0], *steps[1], done)
    stops = columns.row_ptr[1:]
    waiting = [(rank, int(at[rank])) for rank in np.flatnonzero(at < stops).tolist()]
    if waiting:
        raise _stuck(table, waiting, done)
    cuts = columns.row_ptr[1:-1]
    return Spans(table, tuple(np.split(start, cuts)), tuple(np.split(end, cuts)))


def _run(*inputs: npt.NDArray[Any]) -> tuple[F64, F64, I64, F64]:
    """`advance` on arrays: as it stands for a small table, compiled for a large one."""
    row_ptr, took, *_, done = inputs
    ranks, cells = len(row_ptr) - 1, len(took)
    sleeper = np.full(len(done), -1)
    outputs = (row_ptr[:-1].copy(), np.zeros(ranks), sleeper, np.zeros(cells), np.zeros(cells))
    if cells > _COMPILE_ABOVE:
        arrays = (*inputs, *outputs)
        compiled_advance()(*arrays)
        *_, done, at, _, _, start, end = arrays
        return start, end, at, done
    # Python reads lists faster than arrays, and needs no compiler to be loaded.
    lists = [array.tolist() for array in (*inputs, *outputs)]
    advance(*lists)
    *_, done_list, at_list, _, _, start_list, end_list = lists
    return (np.array(start_list), np.array(end_list), np.array(at_list), np.array(done_list))


def _stuck(table: Table, waiting: list[tuple[int, int]], done: F64) -> StuckError:
    """Say for each waiting rank which action it is at and which missing one holds it up."""
    lines = []
    where = []
    for rank, position in waiting:
        index = position - int(table.columns.row_ptr[rank])
        cell = table.rows[rank][index]
        needs = [need for act in acts_of(cell) if (need := needed_by(act, table.n_stages))]
        missing = [
            f"{need} on rank {table.rank_of(need.stage, need.mb)}"
            for need in needs
            if done[_entry(table, need)] < 0
        ]
        lines.append(f"rank {rank} stands at {cell} and waits for {' and '.join(missing)}")
        where.append((rank, index))
    return StuckError("\n".join(lines), tuple(where))


def _entry(table: Table, act: Act) -> int:
    """Entry of `done` (see `_Needs`) that an F, I or B sets."""
    key = act.stage * table.n_microbatches + act.mb
    return key if act.kind == "F" else table.n_stages * table.n_microbatches + key
