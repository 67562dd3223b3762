"""The cells of a schedule table as columns, and the template that each one is an instance of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simdeep.program.lower import template as tpl
from simdeep.program.lower.template import Costs, Template
from simdeep.program.lower.units import Unit
from simdeep.program.schedule.actions import KINDS
from simdeep.program.schedule.table import Table

I64 = npt.NDArray[np.int64]

_F, _I, _W, _B = (KINDS.index(kind) for kind in ("F", "I", "W", "B"))
NONE = -1


@dataclass(frozen=True, eq=False)
class Side:
    """The forward, or the backward, of every cell: [cells] stage and micro-batch, -1 for none.

    `leaves` says which outputs another stage wants: those of F, I and B, but the last stage's
    forward and the first one's backward. `to` is the rank that has the stage they go to.
    """

    stage: I64
    mb: I64
    leaves: npt.NDArray[np.bool_]
    to: I64


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of a table, rank after rank: [cells] rank and number of the template."""

    rank: I64
    template: I64
    forward: Side
    backward: Side


def number_cells(
    table: Table, stages: Sequence[Sequence[Unit]], costs: Sequence[Costs]
) -> tuple[Cells, list[Template]]:
    """The cells with their templates, each of which is made once."""
    columns = table.columns
    n = int(columns.row_ptr[-1])
    rank = np.zeros(n, np.int64)
    rank[columns.cell] = columns.rank
    is_forward = columns.kind == _F
    forward = _side(table, is_forward, 1)
    backward = _side(table, ~is_forward, -1)
    kind = np.full(n, _F)
    kind[columns.cell[~is_forward]] = columns.kind[~is_forward]
    code = (kind * (table.n_stages + 1) + forward.stage + 1) * (table.n_stages + 1)
    _, first, template = np.unique(
        code + backward.stage + 1, return_index=True, return_inverse=True
    )
    made = [
        _make(int(kind[at]), int(forward.stage[at]), int(backward.stage[at]), stages, costs)
        for at in first
    ]
    return Cells(rank, template, forward, backward), made


def _side(table: Table, acts: npt.NDArray[np.bool_], step: int) -> Side:
    columns = table.columns
    n = int(columns.row_ptr[-1])
    stage, mb = np.full(n, NONE), np.full(n, NONE)
    leaves = np.zeros(n, bool)
    at = columns.cell[acts]
    stage[at], mb[at] = columns.stage[acts], columns.mb[acts]
    target = stage + step
    leaves[at] = columns.kind[acts] != _W
    leaves &= (target >= 0) & (target < table.n_stages)
    holder = np.array(table.stage_ranks, dtype=np.int64)
    way = mb * table.directions // table.n_microbatches
    return Side(stage, mb, leaves, np.where(leaves, holder[way, target * leaves], NONE))


def _make(
    kind: int, f: int, b: int, stages: Sequence[Sequence[Unit]], costs: Sequence[Costs]
) -> Template:
    if f >= 0 and b >= 0:
        return tpl.overlapped(stages[f], stages[b], tpl.merged(costs[f], costs[b]))
    if kind == _F:
        return tpl.forward(stages[f], costs[f])
    if kind == _W:
        return tpl.weights(stages[b], costs[b])
    return tpl.backward(stages[b], costs[b], weights=kind == _B)


@dataclass(frozen=True, eq=False)
class Ragged:
    """Arrays of different lengths, one behind the other."""

    values: npt.NDArray[Any]
    first: I64
    size: I64

    @classmethod
    def of(cls, parts: Sequence[npt.NDArray[Any]]) -> Ragged:
        """Join the arrays along their first axis."""
        size = np.array([len(part) for part in parts], dtype=np.int64)
        return cls(np.concatenate(parts), np.cumsum(size) - size, size)

    def rows(self, which: I64) -> tuple[I64, I64]:
        """Rows of `values` for the arrays `which`, one after the other, and whose they are.

        The second array counts the entries of `which`.
        """
        size = self.size[which]
        owner = np.repeat(np.arange(len(which)), size)
        start = self.first[which] - (np.cumsum(size) - size)
        return np.arange(len(owner)) + start[owner], owner
