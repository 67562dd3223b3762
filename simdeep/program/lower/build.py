"""From a schedule table to a program: instances of templates, joined by pipeline transfers.

Every pass works on whole columns: no cell and no task is visited by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simdeep.program.columns import Action, Kind
from simdeep.program.lower import template as tpl
from simdeep.program.lower.cells import Cells, Ragged, Side, number_cells
from simdeep.program.lower.draft import Draft, blank
from simdeep.program.lower.template import COMPONENT_ID, Slot, Template
from simdeep.program.lower.units import Unit
from simdeep.program.schedule.table import Table

I64 = npt.NDArray[np.int64]
Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Sends:
    """Work index of a stage-to-stage transfer by (rank from, rank to).

    `awaited`: a rank starts no other cell before what the last one sends has left.
    """

    work: Callable[[int, int], int]
    awaited: bool = False


def build(
    table: Table,
    stages: Sequence[Sequence[Unit]],
    costs: Sequence[tpl.Costs],
    sends: Sends,
    cases: npt.NDArray[np.int32],
) -> Draft:
    """Lower a table.

    Args:
        table: the schedule.
        stages: units of each stage in forward order.
        costs: what the units of each stage stand for.
        sends: work of the transfer between two ranks.
        cases: [layers, micro-batches] routing draw of each layer and micro-batch.
    """
    cells, templates = number_cells(table, stages, costs)
    place = _Places.of(cells, templates)
    columns = _columns(cells, templates, place, cases)
    forward, backward = (
        _Output(side, ready, send, stream)
        for side, ready, send, stream in (
            (cells.forward, place.f_out, place.f_send, tpl.P2P_FORWARD),
            (cells.backward, place.b_out, place.b_send, tpl.P2P_BACKWARD),
        )
    )
    _fill_sends(columns, (forward, backward), sends)
    shape = (table.n_stages, table.n_microbatches)
    deps = [
        _inner_deps(cells, templates, place),
        forward.send_deps(),
        backward.send_deps(),
        *_outer_deps(cells, templates, place, forward.carrier(shape), backward.carrier(shape)),
        *(_awaited_deps(cells, templates, place) if sends.awaited else ()),
    ]
    return Draft(table.n_ranks, columns, np.concatenate(deps))


@dataclass(frozen=True, eq=False)
class _Places:
    """Rows of every cell, [cells] each: its first task, the sends behind its tasks (-1: none), the
    tasks that make its outputs ready (-1: none), and the last compute task of the cell before it
    on its rank (-1: none). `n` counts all rows.
    """

    n: int
    first: I64
    f_send: I64
    b_send: I64
    f_out: I64
    b_out: I64
    previous: I64

    @classmethod
    def of(cls, cells: Cells, templates: Sequence[Template]) -> _Places:
        """A send follows its cell where the output leaves the rank."""
        size, f_out, b_out, last = (
            np.array([getattr(t, name) for t in templates], np.int64)[cells.template]
            for name in ("n", "f_out", "b_out", "last_compute")
        )
        f_sent, b_sent = (
            side.leaves & (side.to != cells.rank) for side in (cells.forward, cells.backward)
        )
        end = np.cumsum(size + f_sent + b_sent)
        first = end - size - f_sent - b_sent
        starts = np.ones(len(end), bool)
        starts[1:] = cells.rank[1:] != cells.rank[:-1]
        return cls(
            n=int(end[-1]) if len(end) else 0,
            first=first,
            f_send=np.where(f_sent, first + size, -1),
            b_send=np.where(b_sent, first + size + f_sent, -1),
            f_out=np.where(f_out >= 0, first + f_out, -1),
            b_out=np.where(b_out >= 0, first + b_out, -1),
            previous=np.where(starts, -1, np.roll(first + last, 1)),
        )


def _columns(
    cells: Cells, templates: Sequence[Template], place: _Places, cases: npt.NDArray[np.int32]
) -> Columns:
    """The columns of all rows; sends know their rank and block only."""
    columns = blank(place.n)
    tasks = Ragged.of([t.stream for t in templates])
    source, cell = tasks.rows(cells.template)
    size = tasks.size[cells.template]
    rows = np.arange(len(source)) + (place.first - (np.cumsum(size) - size))[cell]
    every = np.zeros(place.n, np.int64)
    every[rows] = cell
    for sent in (place.f_send, place.b_send):
        every[sent[sent >= 0]] = np.flatnonzero(sent >= 0)
    columns["rank"][:], columns["block"][:] = cells.rank[every], every
    for name in ("stream", "kind", "action", "component", "layer", "work", "mem_take", "mem_free"):
        columns[name][rows] = _joined(templates, name)[source]
    which = _joined(templates, "which")[source]
    for name, f, b in (
        ("stage", cells.forward.stage, cells.backward.stage),
        ("microbatch", cells.forward.mb, cells.backward.mb),
    ):
        columns[name][rows] = np.where(which == 0, f[cell], b[cell])
    routed = rows[_joined(templates, "routed")[source] != 0]
    columns["case"][routed] = cases[columns["layer"][routed], columns["microbatch"][routed]]
    return columns


def _joined(templates: Sequence[Template], name: str) -> I64:
    joined: I64 = np.concatenate([getattr(t, name) for t in templates])
    return joined


@dataclass(frozen=True, eq=False)
class _Output:
    """What cells hand to other stages in one direction: [cells] row that makes it ready, send."""

    side: Side
    ready: I64
    send: I64
    stream: int

    def carrier(self, shape: tuple[int, int]) -> I64:
        """[stages, micro-batches] row that a reader of this output waits for, -1 for none."""
        found = np.full(shape, -1)
        made = np.flatnonzero((self.ready >= 0) & self.side.leaves)
        row = np.where(self.send >= 0, self.send, self.ready)
        found[self.side.stage[made], self.side.mb[made]] = row[made]
        return found

    def send_deps(self) -> I64:
        """A send waits for what it carries."""
        sent = self.send >= 0
        return np.stack([self.send[sent], self.ready[sent]], axis=1)


def _fill_sends(columns: Columns, outputs: Sequence[_Output], sends: Sends) -> None:
    """What the transfers between ranks carry and whereto."""
    for out in outputs:
        sent = np.flatnonzero(out.send >= 0)
        rows = out.send[sent]
        columns["stream"][rows] = out.stream
        columns["kind"][rows] = Kind.TRANSFER
        columns["action"][rows] = Action.P2P
        columns["component"][rows] = COMPONENT_ID["p2p"]
        columns["stage"][rows] = out.side.stage[sent]
        columns["microbatch"][rows] = out.side.mb[sent]
        columns["peer"][rows] = out.side.to[sent]
    rows = np.flatnonzero(columns["peer"] >= 0)
    pairs = np.stack([columns["rank"][rows], columns["peer"][rows]], axis=1)
    # Works are numbered in the order of the rows that first need them.
    distinct, first, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    work = np.zeros(len(distinct), np.int64)
    for at in np.argsort(first):
        work[at] = sends.work(*distinct[at].tolist())
    columns["work"][rows] = work[inverse.reshape(-1)]


def _inner_deps(cells: Cells, templates: Sequence[Template], place: _Places) -> I64:
    """Dependencies between tasks of one cell."""
    pairs = Ragged.of([t.deps for t in templates])
    source, cell = pairs.rows(cells.template)
    found: I64 = pairs.values[source] + place.first[cell][:, None]
    return found


def _outer_deps(
    cells: Cells,
    templates: Sequence[Template],
    place: _Places,
    forward: I64,
    backward: I64,
) -> list[I64]:
    """What tasks wait for in other cells: other stages' outputs, and the rank's cell before."""
    slots = Ragged.of([t.slots for t in templates])
    source, cell = slots.rows(cells.template)
    row, slot = slots.values[source, 0] + place.first[cell], slots.values[source, 1]
    last = len(forward) - 1
    f, b = cells.forward, cells.backward
    found = []
    for wanted, mask, provider in (
        (Slot.PREVIOUS, place.previous >= 0, place.previous),
        (Slot.F_IN, f.stage > 0, forward[np.maximum(f.stage - 1, 0), f.mb]),
        (
            Slot.B_IN,
            (b.stage >= 0) & (b.stage < last),
            backward[np.minimum(b.stage + 1, last), b.mb],
        ),
    ):
        on = provider[cell]
        at = (slot == wanted) & mask[cell] & (on >= 0)
        found.append(np.stack([row[at], on[at]], axis=1))
    return found


def _awaited_deps(cells: Cells, templates: Sequence[Template], place: _Places) -> list[I64]:
    """The first compute task of a cell waits for the sends of the cell before on its rank."""
    computes = np.array([np.flatnonzero(t.stream == tpl.COMPUTE)[0] for t in templates], np.int64)
    first = (place.first + computes[cells.template])[1:]
    same_rank = cells.rank[1:] == cells.rank[:-1]
    found = []
    for send in (place.f_send[:-1], place.b_send[:-1]):
        at = same_rank & (send >= 0)
        found.append(np.stack([first[at], send[at]], axis=1))
    return found
