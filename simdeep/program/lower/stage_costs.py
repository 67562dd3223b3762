"""What the units of a stage stand for: their kernels, collectives and kept bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.program.columns import Action
from simdeep.program.lower.cases import Cases
from simdeep.program.lower.template import Costs
from simdeep.program.lower.units import Unit
from simdeep.program.lower.works import (
    AllToAllWork,
    CollectiveKind,
    CollectivesWork,
    CollectiveWork,
    KernelWork,
    Nothing,
    Works,
)
from simdeep.program.workload.activations import activation_bytes
from simdeep.program.workload.edges import edge_activation_bytes, edge_kernels
from simdeep.program.workload.layer import layer_kernels
from simdeep.program.workload.shape import Shape
from simdeep.spec.layout import GroupKind, Layout
from simdeep.spec.model import Gqa, Layer, Model
from simdeep.spec.params import params
from simdeep.spec.scenario_schema import Dtypes, Train

BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0}
REPLICAS: tuple[GroupKind, ...] = ("dp_cp", "edp")
"""Groups of ranks that hold the same dense parameter, and the same expert parameter."""

_ACTIVATION_BYTES = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """Makes the works of units; equal units share theirs."""

    model: Model
    layout: Layout
    train: Train
    gpus_per_node: int
    shape: Shape
    cases: Cases | None
    works: Works
    fold: bool

    def costs(self, units: tuple[Unit, ...]) -> Costs:
        """Costs of a stage's units."""
        work: dict[tuple[Unit, str, Action], int] = {}
        kept: dict[tuple[Unit, str], tuple[int, int]] = {}
        for unit in units:
            self._kernels(unit, work)
            self._kept(unit, kept)
            if unit.moe:
                self._alltoall(unit, work)
            self._collectives(unit, work)
        layout = self.layout
        return Costs(
            work=work,
            kept=kept,
            sequence_parallel=layout.tp > 1 and layout.sp,
            tensor_parallel=layout.tp > 1,
            context_parallel=layout.cp > 1,
            fully_sharded=layout.zero == 3 and layout.dp * layout.cp > 1,
            sharded_gradients=layout.zero >= 2 and layout.dp * layout.cp > 1,
        )

    def layer(self, unit: Unit) -> Layer:
        """The layer of a unit that has one."""
        return (self.model.layers + self.model.mtp)[unit.layer]

    def _kernels(self, unit: Unit, work: dict[tuple[Unit, str, Action], int]) -> None:
        options = (self.shape, self.train.precision, self.train.recompute)
        if unit.component == "layer":
            layer = self.layer(unit)
            table = layer_kernels(self.model, layer, *options)
            key: object = layer.ffn
        else:
            table = edge_kernels(self.model, unit.component, *options)
            key = unit.component
        for (component, action), kernels in table.items():
            index = self.works.add((component, action, key), KernelWork(tuple(kernels)))
            work[unit, component, Action[action]] = index

    def _kept(self, unit: Unit, kept: dict[tuple[Unit, str], tuple[int, int]]) -> None:
        options = (self.shape, self.train.precision, self.train.recompute)
        if unit.component == "layer":
            sizes = activation_bytes(self.model, self.layer(unit), *options)
        else:
            sizes = edge_activation_bytes(self.model, unit.component, *options)
        for half, component in (("attn", unit.attn), ("mlp", unit.mlp)):
            if component:
                size = sizes[component]
                # A rank holds many layers and micro-batches: their mean over routing draws counts.
                kept[unit, half] = int(np.mean(size.until_i)), int(np.mean(size.until_w))

    def _alltoall(self, unit: Unit, work: dict[tuple[Unit, str, Action], int]) -> None:
        cases = self.cases
        if cases is None or self.layout.ep == 1:
            for component in ("dispatch", "combine"):
                for action in (Action.F, Action.I):
                    work[unit, component, action] = 0
            return
        kinds = {
            ("dispatch", Action.F): "dispatch",
            ("combine", Action.F): "combine",
            # Backwards, combine sends gradients out by the kept layout and dispatch collects them.
            ("combine", Action.I): "dispatch_cached",
            ("dispatch", Action.I): "combine",
        }
        for (component, action), kind in kinds.items():
            item = AllToAllWork(
                kind,  # type: ignore[arg-type]
                self.model.hidden,
                self.train.precision,
                cases.group,
                min(self.gpus_per_node, self.layout.ep),
                by_rank=not self.fold,
            )
            work[unit, component, action] = self.works.add(("alltoall", kind), item)

    # -- collectives of tensor, context and fully sharded data parallelism -----------------------
    def _collectives(self, unit: Unit, work: dict[tuple[Unit, str, Action], int]) -> None:
        layout, shape = self.layout, self.shape
        hidden_bytes = shape.tokens * self.model.hidden * _ACTIVATION_BYTES
        for action in (Action.F, Action.I):
            if layout.tp > 1:
                gather = self.collective("all_gather", hidden_bytes, "tp")
                work[unit, "tp_gather", action] = self._add(gather)
                scatter = self.collective("reduce_scatter", hidden_bytes, "tp")
                work[unit, "tp_scatter", action] = self._add(scatter)
                reduce = self.collective("all_reduce", hidden_bytes, "tp")
                work[unit, "tp_reduce", action] = self._add(reduce)
            if layout.cp > 1:
                ring = self.collective("all_gather", self._kv_bytes() * layout.cp, "cp")
                back = self.collective("reduce_scatter", self._kv_bytes() * layout.cp, "cp")
                parts = (ring,) if action is Action.F else (ring, back)
                work[unit, "cp_ring", action] = self._add(*parts)
                work[unit, "cp_join", action] = 0
        if layout.zero >= 2:
            dtypes = self.train.dtypes
            for half in ("attn", "mlp"):
                gather_parts = self.sharded("all_gather", unit, half, BYTES[dtypes.params])
                scatter_parts = self.sharded("reduce_scatter", unit, half, BYTES[dtypes.grads])
                for action in (Action.F, Action.I):
                    work[unit, f"fsdp_gather_{half}", action] = self._add(*gather_parts)
                work[unit, f"fsdp_scatter_{half}", Action.W] = self._add(*scatter_parts)

    def collective(
        self, kind: CollectiveKind, nbytes: float, group: GroupKind, copies: int = 1
    ) -> CollectiveWork:
        """A collective over the groups of a kind; `copies` of a stage lie on other nodes each."""
        span = self.layout.span(group, self.gpus_per_node)
        return CollectiveWork(kind, nbytes, span.nodes * copies, span.ranks_per_node)

    def sharded(
        self, kind: CollectiveKind, unit: Unit, half: str, bytes_each: float, copies: int = 1
    ) -> tuple[CollectiveWork, ...]:
        """Collectives over the replicas of a unit's half: dense parameters, then experts."""
        sizes = half_params(self.model, self.layout, unit, half)
        return self.over_replicas(kind, sizes, bytes_each, copies)

    def over_replicas(
        self, kind: CollectiveKind, sizes: tuple[float, float], bytes_each: float, copies: int
    ) -> tuple[CollectiveWork, ...]:
        """Collectives for (dense, expert) parameters over the ranks that hold the same ones."""
        return tuple(
            self.collective(kind, size * bytes_each, group, copies)
            for size, group in zip(sizes, REPLICAS, strict=True)
            if size and self.layout.size(group) * copies > 1
        )

    def _add(self, *parts: CollectiveWork) -> int:
        return self.works.add(parts, CollectivesWork(parts) if parts else Nothing())

    def _kv_bytes(self) -> float:
        """Keys and values of a rank's tokens, as the context-parallel ring passes them on."""
        attention = self.model.attention
        heads = attention.kv_heads if isinstance(attention, Gqa) else attention.heads
        values = heads * (attention.qk_dim + attention.v_dim) / self.layout.tp
        return self.shape.tokens * values * _ACTIVATION_BYTES


def half_params(model: Model, layout: Layout, unit: Unit, half: str) -> tuple[float, float]:
    """Parameters of one half of a unit on one rank: dense ones (over tp) and experts (over ep)."""
    count = params(model)
    if unit.component == "embed":
        return (count.embedding / layout.tp, 0.0) if half == "attn" else (0.0, 0.0)
    if unit.component == "head":
        return (count.head / layout.tp, 0.0) if half == "mlp" else (0.0, 0.0)
    if unit.component == "mtp_in":
        each = count.mtp_projection / max(model.mtp_layers, 1)
        return (each / layout.tp, 0.0) if half == "attn" else (0.0, 0.0)
    layer = (count.per_layer + count.mtp_per_layer)[unit.layer]
    if half == "attn":
        return layer.attn / layout.tp + layer.norm, 0.0
    dense = (layer.shared + layer.dense) / layout.tp + layer.router
    return dense, layer.routed / layout.ep


def rank_params(model: Model, layout: Layout, units: tuple[Unit, ...]) -> tuple[float, float]:
    """Parameters of a stage on one rank: dense and expert. The MTP's head is the main head."""
    dense = expert = 0.0
    seen_head = False
    for unit in units:
        if unit.component == "head":
            if seen_head:
                continue
            seen_head = True
        for half in ("attn", "mlp"):
            d, e = half_params(model, layout, unit, half)
            dense, expert = dense + d, expert + e
    return dense, expert


def state_bytes(dtypes: Dtypes) -> float:
    """Bytes of optimizer state for one parameter: master copy and two moments."""
    return BYTES[dtypes.master] + 2 * BYTES[dtypes.moments]
