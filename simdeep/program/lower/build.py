"""From a schedule table to a program: instances of templates, joined by pipeline transfers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simdeep.program.columns import Action, Kind, Program
from simdeep.program.lower import template as tpl
from simdeep.program.lower.template import COMPONENT_ID, COMPONENTS, STREAMS, Slot, Template
from simdeep.program.lower.units import Unit
from simdeep.program.lower.works import Works
from simdeep.program.schedule.actions import Act, Overlap
from simdeep.program.schedule.table import Table


@dataclass(frozen=True, eq=False)
class Draft:
    """A program that later passes still add to: int64 columns and (task, dependency) pairs."""

    n_ranks: int
    columns: dict[str, npt.NDArray[np.int64]]
    deps: npt.NDArray[np.int64]

    @property
    def n(self) -> int:
        """Number of tasks."""
        return len(self.columns["rank"])

    def extended(self, rows: Sequence[dict[str, int]], deps: Sequence[tuple[int, int]]) -> Draft:
        """With `rows` behind its own (what a row does not name is -1, bytes and case 0)."""
        zero = ("mem_take", "mem_free", "case", "work")
        columns = {
            name: np.concatenate(
                [old, np.array([r.get(name, 0 if name in zero else -1) for r in rows], np.int64)]
            )
            for name, old in self.columns.items()
        }
        pairs = np.array(deps, np.int64).reshape(-1, 2)
        return Draft(self.n_ranks, columns, np.concatenate([self.deps, pairs]))

    def program(self, works: Works) -> Program:
        """The finished program."""
        n = self.n
        order = np.lexsort((self.deps[:, 1], self.deps[:, 0]))
        counts = np.bincount(self.deps[:, 0], minlength=n)
        narrow: dict[str, Any] = {
            name: column.astype(np.int8 if name in ("stream", "kind", "action") else np.int32)
            for name, column in self.columns.items()
            if not name.startswith("mem_")
        }
        return Program(
            n_ranks=self.n_ranks,
            streams=STREAMS,
            components=COMPONENTS,
            works=tuple(works.items),
            **narrow,
            dep_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            dep_idx=self.deps[order, 1].astype(np.int64),
            mem_take=self.columns["mem_take"],
            mem_free=self.columns["mem_free"],
        )


@dataclass(frozen=True, slots=True)
class _Instance:
    """One cell of the table: its template and where its tasks stand in the program."""

    rank: int
    template: Template
    f: Act | None
    b: Act | None
    first_row: int
    f_send: int
    b_send: int
    end_row: int
    previous_compute: int


@dataclass(frozen=True, slots=True)
class Sends:
    """Work index of a stage-to-stage transfer by (rank from, rank to)."""

    work: Callable[[int, int], int]


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
    instances = _place(table, _Templates(stages, costs))
    return _assemble(table, instances, sends, cases)


class _Templates:
    """Templates by kind and stages, each made once."""

    def __init__(self, stages: Sequence[Sequence[Unit]], costs: Sequence[tpl.Costs]):
        self.stages = stages
        self.costs = costs
        self.made: dict[tuple[object, ...], Template] = {}

    def of(self, cell: Act | Overlap) -> Template:
        if isinstance(cell, Overlap):
            key: tuple[object, ...] = ("O", cell.f.stage, cell.b.stage)
        else:
            key = (cell.kind, cell.stage)
        if key not in self.made:
            self.made[key] = self._make(cell)
        return self.made[key]

    def _make(self, cell: Act | Overlap) -> Template:
        if isinstance(cell, Overlap):
            return tpl.overlapped(
                self.stages[cell.f.stage],
                self.stages[cell.b.stage],
                tpl.merged(self.costs[cell.f.stage], self.costs[cell.b.stage]),
            )
        units, costs = self.stages[cell.stage], self.costs[cell.stage]
        if cell.kind == "F":
            return tpl.forward(units, costs)
        if cell.kind == "W":
            return tpl.weights(units, costs)
        return tpl.backward(units, costs, weights=cell.kind == "B")


def _place(table: Table, templates: _Templates) -> list[_Instance]:
    """Give every cell its rows; a send follows its cell where the output leaves the rank."""
    last_stage = table.n_stages - 1
    instances = []
    row = 0
    for rank, cells in enumerate(table.rows):
        previous = -1
        for cell in cells:
            template = templates.of(cell)
            f, b = _parts(cell)
            first, row = row, row + template.n
            f_send = b_send = -1
            if f is not None and f.stage < last_stage and _target(table, f, 1) != rank:
                f_send, row = row, row + 1
            if b is not None and b.kind != "W" and b.stage > 0 and _target(table, b, -1) != rank:
                b_send, row = row, row + 1
            instances.append(_Instance(rank, template, f, b, first, f_send, b_send, row, previous))
            previous = first + template.last_compute
    return instances


def _parts(cell: Act | Overlap) -> tuple[Act | None, Act | None]:
    if isinstance(cell, Overlap):
        return cell.f, cell.b
    return (cell, None) if cell.kind == "F" else (None, cell)


def _target(table: Table, act: Act, step: int) -> int:
    return table.rank_of(act.stage + step, act.mb)


def _assemble(
    table: Table,
    instances: Sequence[_Instance],
    sends: Sends,
    cases: npt.NDArray[np.int32],
) -> Draft:
    n = instances[-1].end_row if instances else 0
    columns = {name: np.full(n, -1, np.int64) for name in ("stage", "layer", "microbatch", "peer")}
    zeros = ("rank", "stream", "kind", "action", "component", "block", "work", "case")
    columns |= {name: np.zeros(n, np.int64) for name in (*zeros, "mem_take", "mem_free")}
    routed = np.zeros(n, bool)
    deps: list[npt.NDArray[np.int64]] = []
    produced: dict[tuple[str, int, int], int] = {}
    wanted: list[tuple[int, tuple[str, int, int]]] = []

    for block, inst in enumerate(instances):
        t = inst.template
        here = slice(inst.first_row, inst.first_row + t.n)
        for name in ("stream", "kind", "action", "component", "layer", "work"):
            columns[name][here] = getattr(t, name)
        columns["mem_take"][here], columns["mem_free"][here] = t.mem_take, t.mem_free
        columns["rank"][inst.first_row : inst.end_row] = inst.rank
        columns["block"][inst.first_row : inst.end_row] = block
        act = [a if a is not None else Act("F", -1, -1) for a in (inst.f, inst.b)]
        columns["stage"][here] = np.array([a.stage for a in act])[t.which]
        columns["microbatch"][here] = np.array([a.mb for a in act])[t.which]
        routed[here] = t.routed
        if len(t.deps):
            deps.append(t.deps + inst.first_row)
        _send_rows(table, inst, columns, deps, produced, sends)
        for local, slot in t.slots.tolist():
            row = inst.first_row + local
            if slot == Slot.PREVIOUS:
                if inst.previous_compute >= 0:
                    deps.append(np.array([[row, inst.previous_compute]]))
            elif slot == Slot.F_IN and inst.f is not None and inst.f.stage > 0:
                wanted.append((row, ("F", inst.f.stage - 1, inst.f.mb)))
            elif slot == Slot.B_IN and inst.b is not None and inst.b.stage < table.n_stages - 1:
                wanted.append((row, ("B", inst.b.stage + 1, inst.b.mb)))

    deps.append(
        np.array([(r, produced[k]) for r, k in wanted if k in produced], np.int64).reshape(-1, 2)
    )
    has_case = np.flatnonzero(routed)
    columns["case"][has_case] = cases[columns["layer"][has_case], columns["microbatch"][has_case]]
    columns["group"] = np.full(n, -1, np.int64)
    return Draft(table.n_ranks, columns, np.concatenate(deps))


def _send_rows(
    table: Table,
    inst: _Instance,
    columns: dict[str, npt.NDArray[np.int64]],
    deps: list[npt.NDArray[np.int64]],
    produced: dict[tuple[str, int, int], int],
    sends: Sends,
) -> None:
    """Note where the instance's outputs become ready and fill in the transfers that carry them."""
    for name, act, send, out, stream, step in (
        ("F", inst.f, inst.f_send, inst.template.f_out, tpl.P2P_FORWARD, 1),
        ("B", inst.b, inst.b_send, inst.template.b_out, tpl.P2P_BACKWARD, -1),
    ):
        if act is None or out < 0 or act.kind == "W":
            continue
        ready = inst.first_row + out
        produced[name, act.stage, act.mb] = send if send >= 0 else ready
        if send < 0:
            continue
        to = _target(table, act, step)
        values = {
            "stream": stream,
            "kind": Kind.TRANSFER,
            "action": Action.P2P,
            "component": COMPONENT_ID["p2p"],
            "stage": act.stage,
            "microbatch": act.mb,
            "peer": to,
            "work": sends.work(inst.rank, to),
        }
        for column, value in values.items():
            columns[column][send] = value
        deps.append(np.array([[send, ready]]))
