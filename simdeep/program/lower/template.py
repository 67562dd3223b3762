"""The tasks of one schedule action, in the order its streams run them.

A template is a small program with holes: where it waits for another stage's output it names a
slot. The overlapped block follows the published trace of DeepSeek-V3's training (compute: attn(F),
mlp(I), mlp(W), mlp(F), attn(I), attn(W); communication: combine backward, dispatch, dispatch
backward, combine).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum

import numpy as np

from simdeep.program.columns import Action, Kind
from simdeep.program.lower.units import Unit

COMPUTE, COMM, P2P_FORWARD, P2P_BACKWARD, DATA_PARALLEL, PREFETCH, SHARD_FORWARD, SHARD_BACKWARD = (
    range(8)
)
STREAMS = ("compute", "comm", "p2p", "p2p_b", "dp", "prefetch", "shard", "shard_b")
"""Collectives of tensor and context parallel shards have streams of their own for either direction:
on the experts' stream one micro-batch's gather would queue behind the other's dispatch."""
COMPONENTS = (
    "attn",
    "mlp",
    "embed",
    "head",
    "mtp_in",
    "dispatch",
    "redispatch",
    "combine",
    "p2p",
    "tp_gather",
    "tp_scatter",
    "tp_reduce",
    "cp_ring",
    "cp_join",
    "fsdp_gather_attn",
    "fsdp_gather_mlp",
    "fsdp_scatter_attn",
    "fsdp_scatter_mlp",
    "grad_sync",
    "grad_norm",
    "optimizer",
    "param_sync",
    "tp_gather_lead",
    "tp_scatter_tail",
)
COMPONENT_ID = {name: i for i, name in enumerate(COMPONENTS)}


class Slot(IntEnum):
    """What a template waits for outside itself."""

    F_IN = 0
    B_IN = 1
    PREVIOUS = 2


@dataclass(frozen=True, slots=True)
class Costs:
    """Which work and how many bytes each (unit, component, action) of a stage stands for.

    `work[(unit, component, action)]` indexes the works; `kept[(unit, half)]` are the bytes its
    forward keeps until I and its I keeps until W. `fully_sharded` gathers parameters before use
    (ZeRO-3), `sharded_gradients` reduces them after every W (ZeRO-2 and 3). `repeats_forward` is
    full recomputation: I needs the tokens dispatched once more. `tp_overlap` is the scenario's.
    """

    work: dict[tuple[Unit, str, Action], int]
    kept: dict[tuple[Unit, str], tuple[int, int]]
    sequence_parallel: bool
    tensor_parallel: bool
    context_parallel: bool
    fully_sharded: bool
    sharded_gradients: bool
    repeats_forward: bool
    tp_overlap: str = "backward"


def merged(first: Costs, second: Costs) -> Costs:
    """Costs of two stages that share a block."""
    if first is second:
        return first
    return replace(first, work=first.work | second.work, kept=first.kept | second.kept)


@dataclass(frozen=True, eq=False)
class Template:
    """Columns of the tasks of one action; `which` is 0 for the F's micro-batch, 1 for the B's.

    `deps` are pairs of local rows, `slots` pairs of (row, Slot). `f_out` and `b_out` are the rows
    whose end makes the stage's output and its input gradient ready (-1: none).
    """

    stream: np.ndarray
    kind: np.ndarray
    action: np.ndarray
    component: np.ndarray
    layer: np.ndarray
    work: np.ndarray
    which: np.ndarray
    mem_take: np.ndarray
    mem_free: np.ndarray
    routed: np.ndarray
    deps: np.ndarray
    slots: np.ndarray
    f_out: int
    b_out: int
    last_compute: int

    @property
    def n(self) -> int:
        """Number of tasks."""
        return len(self.stream)


class _Builder:
    """Appends tasks in stream order and keeps the two chains of data: hidden state and gradient."""

    def __init__(self, costs: Costs, *, weights_inline: bool = True):
        self.costs = costs
        self.weights_inline = weights_inline
        self.gathered: dict[tuple[Unit, str], int] = {}
        self.rows: list[tuple[int, ...]] = []
        self.deps: list[tuple[int, int]] = []
        self.slots: list[tuple[int, int]] = []
        self.f_last: int | None = None
        self.b_last: int | None = None
        self.compute_rows: list[int] = []

    def task(
        self,
        stream: int,
        action: Action,
        component: str,
        unit: Unit,
        after: Sequence[int | Slot | None],
        *,
        take: int = 0,
        free: int = 0,
    ) -> int:
        row = len(self.rows)
        kind = Kind.COMPUTE if stream == COMPUTE else Kind.TRANSFER
        if component == "cp_join":
            kind = Kind.SYNC
        routed = unit.moe and component in ("mlp", "dispatch", "combine")
        self.rows.append(
            (
                stream,
                kind,
                action,
                COMPONENT_ID[component],
                unit.layer,
                self.costs.work[unit, component, action],
                0 if action is Action.F else 1,
                take,
                free,
                routed,
            )
        )
        for dep in after:
            if isinstance(dep, Slot):
                self.slots.append((row, dep))
            elif dep is not None:
                self.deps.append((row, dep))
        if stream == COMPUTE:
            self.compute_rows.append(row)
        return row

    @property
    def f_ready(self) -> int | Slot:
        return Slot.F_IN if self.f_last is None else self.f_last

    @property
    def b_ready(self) -> int | Slot:
        return Slot.B_IN if self.b_last is None else self.b_last

    # -- forward ---------------------------------------------------------------------------------
    def f_half(self, unit: Unit, half: str) -> None:
        component = unit.attn if half == "attn" else unit.mlp
        if not component:
            return
        self.f_last = self._compute(Action.F, unit, half, component, self.f_ready)

    def f_dispatch(self, unit: Unit) -> None:
        if unit.moe:
            self.f_last = self.task(COMM, Action.F, "dispatch", unit, [self.f_ready])

    def f_combine(self, unit: Unit) -> None:
        if unit.moe:
            self.f_last = self.task(COMM, Action.F, "combine", unit, [self.f_ready])

    # -- backward --------------------------------------------------------------------------------
    def b_combine(self, unit: Unit) -> None:
        if unit.moe:
            self.b_last = self.task(COMM, Action.I, "combine", unit, [self.b_ready])

    def b_dispatch(self, unit: Unit) -> None:
        if unit.moe:
            self.b_last = self.task(COMM, Action.I, "dispatch", unit, [self.b_ready])

    def b_input(self, unit: Unit, half: str) -> None:
        component = unit.attn if half == "attn" else unit.mlp
        if not component or component == "embed":
            return
        if half == "mlp" and unit.moe and self.costs.repeats_forward:
            self.b_last = self.task(COMM, Action.I, "redispatch", unit, [self.b_ready])
        self.b_last = self._compute(Action.I, unit, half, component, self.b_ready)

    def b_weight(self, unit: Unit, half: str) -> None:
        component = unit.attn if half == "attn" else unit.mlp
        if not component:
            return
        after: list[int | Slot | None] = []
        until_i, until_w = self.costs.kept[unit, half]
        if component == "embed":
            # The embedding has no input gradient: W consumes what arrives and ends its memory.
            after, until_w = [self.b_ready], until_i
        elif self.costs.sequence_parallel and component in ("attn", "mlp"):
            # The input, kept split, is gathered once more (arXiv 2205.05198 sec 4.2.2): beside I
            # where W follows it, else here.
            row = self.gathered.get((unit, half))
            after = [self._gather_input(unit) if row is None else row]
        if self.costs.tp_overlap == "none" and self.costs.tensor_parallel:
            after = [*after, self.b_last]
        row = self.task(COMPUTE, Action.W, component, unit, after, free=until_w)
        if self.costs.sharded_gradients:
            self.task(DATA_PARALLEL, Action.W, f"fsdp_scatter_{half}", unit, [row])

    def _compute(
        self, action: Action, unit: Unit, half: str, component: str, ready: int | Slot
    ) -> int:
        """One half of a unit with the collectives its sharding puts around it."""
        costs = self.costs
        until_i, until_w = costs.kept[unit, half]
        after: list[int | Slot | None] = [ready]
        if costs.fully_sharded:
            ahead = self.compute_rows[-2] if len(self.compute_rows) > 1 else Slot.PREVIOUS
            after.append(self.task(PREFETCH, action, f"fsdp_gather_{half}", unit, [ahead]))
        shard = SHARD_FORWARD if action is Action.F else SHARD_BACKWARD
        rest = None
        if costs.sequence_parallel:
            if costs.tp_overlap == "full":
                # The GEMM starts with the first shard; the others arrive while it runs.
                after = [self.task(shard, action, "tp_gather_lead", unit, after)]
                rest = self.task(shard, action, "tp_gather", unit, after)
            else:
                after = [self.task(shard, action, "tp_gather", unit, after)]
            if action is Action.I and self.weights_inline and component in ("attn", "mlp"):
                self.gathered[unit, half] = self._gather_input(unit)
        ring = None
        if costs.context_parallel and component == "attn":
            ring = self.task(shard, action, "cp_ring", unit, after)
        bulk = None
        if rest is not None and component in ("attn", "mlp"):
            bulk = self.task(shard, action, "tp_scatter", unit, after)
        row = self.task(
            COMPUTE,
            action,
            component,
            unit,
            after,
            take=until_i if action is Action.F else until_w,
            free=until_i if action is Action.I else 0,
        )
        if costs.tensor_parallel and component in ("attn", "mlp"):
            name = "tp_scatter" if costs.sequence_parallel else "tp_reduce"
            if bulk is not None:
                name = "tp_scatter_tail"
            row = self.task(shard, action, name, unit, [row, ring, bulk])
        elif ring is not None:
            row = self.task(shard, action, "cp_join", unit, [row, ring])
        return row

    def _gather_input(self, unit: Unit) -> int:
        return self.task(SHARD_BACKWARD, Action.W, "tp_gather", unit, [])

    def finish(self) -> Template:
        names = [field.name for field in fields(Template)][:10]
        columns = np.array(self.rows, np.int64).reshape(len(self.rows), len(names)).T
        return Template(
            **dict(zip(names, columns, strict=True)),
            deps=np.array(self.deps, np.int64).reshape(-1, 2),
            slots=np.array(self.slots, np.int64).reshape(-1, 2),
            f_out=-1 if self.f_last is None else self.f_last,
            b_out=-1 if self.b_last is None else self.b_last,
            last_compute=self.compute_rows[-1],
        )


def forward(units: Sequence[Unit], costs: Costs) -> Template:
    """F of a stage."""
    builder = _Builder(costs)
    for unit in units:
        _forward_unit(builder, unit)
    return builder.finish()


def backward(units: Sequence[Unit], costs: Costs, *, weights: bool) -> Template:
    """I of a stage, with W inline (B) or without (I)."""
    builder = _Builder(costs, weights_inline=weights)
    for unit in reversed(units):
        _backward_unit(builder, unit, weights)
    if not builder.compute_rows:
        # A stage of the embedding alone has no input gradient: its I is an empty task.
        builder.task(COMPUTE, Action.I, units[0].attn, units[0], [builder.b_ready])
    return builder.finish()


def weights(units: Sequence[Unit], costs: Costs) -> Template:
    """W of a stage, deferred."""
    builder = _Builder(costs)
    for unit in reversed(units):
        builder.b_weight(unit, "mlp")
        builder.b_weight(unit, "attn")
    return builder.finish()


def overlapped(f_units: Sequence[Unit], b_units: Sequence[Unit], costs: Costs) -> Template:
    """An F and a B as one block, unit by unit; what one side has more of runs alone at the end."""
    builder = _Builder(costs)
    backward_units = list(reversed(b_units))
    for unit_f, unit_b in zip(f_units, backward_units, strict=False):
        builder.b_combine(unit_b)
        builder.f_half(unit_f, "attn")
        builder.f_dispatch(unit_f)
        builder.b_input(unit_b, "mlp")
        builder.b_weight(unit_b, "mlp")
        builder.b_dispatch(unit_b)
        builder.f_half(unit_f, "mlp")
        builder.f_combine(unit_f)
        builder.b_input(unit_b, "attn")
        builder.b_weight(unit_b, "attn")
    for unit in f_units[len(backward_units) :]:
        _forward_unit(builder, unit)
    for unit in backward_units[len(f_units) :]:
        _backward_unit(builder, unit, True)
    return builder.finish()


def _forward_unit(builder: _Builder, unit: Unit) -> None:
    builder.f_half(unit, "attn")
    builder.f_dispatch(unit)
    builder.f_half(unit, "mlp")
    builder.f_combine(unit)


def _backward_unit(builder: _Builder, unit: Unit, with_weights: bool) -> None:
    builder.b_combine(unit)
    builder.b_input(unit, "mlp")
    if with_weights:
        builder.b_weight(unit, "mlp")
    builder.b_dispatch(unit)
    builder.b_input(unit, "attn")
    if with_weights:
        builder.b_weight(unit, "attn")
