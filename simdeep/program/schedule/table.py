"""The schedule table: one row of actions for each rank, and which rank holds which stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from operator import itemgetter
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from simdeep.program.schedule.actions import KINDS, Row

I64 = npt.NDArray[np.int64]
FreedAfter: TypeAlias = Literal["I", "W"]
"""When a chunk's activations are given back: after its input gradient, or its weight gradient."""

_KIND_NUMBER = {kind: number for number, kind in enumerate(KINDS)}


@dataclass(frozen=True, eq=False)
class Columns:
    """The single actions of a table, flat: rank after rank, in row order, a block's forward first.

    `kind` indexes `KINDS`. `cell` counts the cells of the whole table; rank r has the cells
    `row_ptr[r]` to `row_ptr[r + 1]`.
    """

    kind: I64
    stage: I64
    mb: I64
    rank: I64
    cell: I64
    row_ptr: I64


@dataclass(frozen=True)
class Table:
    """A pipeline schedule as data: `rows[rank]` is what that rank does, in order.

    `stage_ranks[direction][stage]` is the rank that holds the stage for micro-batches of that
    direction. Most schedules have one direction; DualPipe has two, each with an equal, contiguous
    share of the micro-batches (direction 0 the first). A `window` is a cut out of a longer run:
    what its rows lack happened before it or happens after it.
    """

    name: str
    rows: tuple[Row, ...]
    n_stages: int
    n_microbatches: int
    stage_ranks: tuple[tuple[int, ...], ...]
    window: bool = False

    @property
    def n_ranks(self) -> int:
        """Number of pipeline ranks."""
        return len(self.rows)

    @property
    def directions(self) -> int:
        """Ways the micro-batches travel over the ranks: 1, or 2 in DualPipe."""
        return len(self.stage_ranks)

    def direction_of(self, mb: int) -> int:
        """Direction of a micro-batch."""
        return mb * self.directions // self.n_microbatches

    def rank_of(self, stage: int, mb: int) -> int:
        """Rank that runs this stage for this micro-batch."""
        return self.stage_ranks[self.direction_of(mb)][stage]

    @cached_property
    def chunks_of(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each rank the (stage, direction) pairs it runs, in order of direction and stage."""
        found: list[list[tuple[int, int]]] = [[] for _ in self.rows]
        for direction, ranks in enumerate(self.stage_ranks):
            for stage, rank in enumerate(ranks):
                found[rank].append((stage, direction))
        return tuple(map(tuple, found))

    @cached_property
    def stages_of(self) -> tuple[tuple[int, ...], ...]:
        """For each rank the stages whose parameters it holds, ascending."""
        return tuple(tuple(sorted({s for s, _ in chunks})) for chunks in self.chunks_of)

    @property
    def param_copies(self) -> int:
        """How many ranks hold a copy of the same stage (2 in DualPipe; data parallelism aside)."""
        return max(
            (len(set(holders)) for holders in zip(*self.stage_ranks, strict=True)), default=0
        )

    @cached_property
    def columns(self) -> Columns:
        """The same actions as arrays."""
        cells = list(chain.from_iterable(self.rows))
        # An Overlap is itself the tuple of its two actions, an Act is three fields.
        acts = [act for cell in cells for act in (cell if len(cell) == 2 else (cell,))]
        width = np.where(_ints(map(len, cells)) == 2, 2, 1)
        row_ptr = _ints(accumulate(map(len, self.rows), initial=0))
        cell = np.repeat(np.arange(len(cells)), width)
        return Columns(
            kind=_ints(map(_KIND_NUMBER.__getitem__, map(itemgetter(0), acts))),
            stage=_ints(map(itemgetter(1), acts)),
            mb=_ints(map(itemgetter(2), acts)),
            rank=np.searchsorted(row_ptr, cell, side="right") - 1,
            cell=cell,
            row_ptr=row_ptr,
        )


def peak_activations(table: Table, freed_after: FreedAfter) -> I64:
    """Most chunks whose activations each rank holds at once.

    A chunk is held from the start of its F to the end of its B or I, or of its B or W. A block
    holds its forward's chunk before it frees its backward's. The chunks a window's rows free
    without having run their forward are held from its start.
    """
    columns = table.columns
    ends = np.isin(columns.kind, [KINDS.index("B"), KINDS.index(freed_after)])
    n_cells = int(columns.row_ptr[-1])
    taken = np.bincount(columns.cell[columns.kind == KINDS.index("F")], minlength=n_cells)
    freed = np.bincount(columns.cell[ends], minlength=n_cells)
    peaks = []
    for rank in range(table.n_ranks):
        row = slice(columns.row_ptr[rank], columns.row_ptr[rank + 1])
        held = np.cumsum(taken[row]) - np.cumsum(freed[row]) + freed[row]
        before = _held_before(table, rank, ends) if table.window else 0
        peaks.append(before + int(held.max(initial=0)))
    return np.array(peaks, dtype=np.int64)


def _held_before(table: Table, rank: int, ends: npt.NDArray[np.bool_]) -> int:
    columns = table.columns
    here = columns.rank == rank
    chunk = columns.stage * table.n_microbatches + columns.mb
    taken = chunk[here & (columns.kind == KINDS.index("F"))]
    return int((~np.isin(chunk[here & ends], taken)).sum())


def p2p_sends(table: Table) -> I64:
    """Transfers between ranks that each rank sends: [rank][0 activations, 1 their gradients].

    One transfer carries one micro-batch across one stage boundary; a boundary between two stages
    of the same rank costs none.
    """
    columns = table.columns
    holder = np.array(table.stage_ranks, dtype=np.int64)
    way = columns.mb * table.directions // table.n_microbatches
    sends = np.zeros((table.n_ranks, 2), dtype=np.int64)
    forward = columns.kind == KINDS.index("F")
    backward = np.isin(columns.kind, [KINDS.index("I"), KINDS.index("B")])
    for column, (acts, step) in enumerate(((forward, 1), (backward, -1))):
        to = columns.stage + step
        inside = acts & (to >= 0) & (to < table.n_stages)
        away = holder[way[inside], to[inside]] != columns.rank[inside]
        sends[:, column] = np.bincount(columns.rank[inside][away], minlength=table.n_ranks)
    return sends


def _ints(values: Iterable[int]) -> I64:
    return np.fromiter(values, dtype=np.int64)
