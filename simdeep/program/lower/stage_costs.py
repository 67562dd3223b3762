"""What the units of a stage stand for: their kernels, collectives and kept bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

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
from simdeep.program.remember import remembered
from simdeep.program.workload.activations import activation_bytes
from simdeep.program.workload.edges import edge_activation_bytes, edge_kernels
from simdeep.program.workload.layer import layer_kernels
from simdeep.program.workload.shape import Shape, Style
from simdeep.spec.layout import GroupKind, GroupSpan, Layout
from simdeep.spec.model import Gqa, Layer, Model
from simdeep.spec.params import ParamCount, params
from simdeep.spec.scenario_schema import Dtypes, Train

BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0}
REPLICAS: tuple[GroupKind, ...] = ("dp_cp", "edp")
"""Groups of ranks that hold the same dense parameter, and the same expert parameter."""

_ACTIVATION_BYTES = 2.0

_What = tuple[Model, str, Layer | None, Shape, str, tuple[str, ...], Style]
"""What the kernels of a unit hang on: its component, and its layer if it has one, among them."""


@lru_cache(maxsize=64)
def _same_style(style: Style) -> Style:
    """One object for equal styles, so that what is remembered for one serves all."""
    return style


@remembered(maxsize=64)
def _first_alike(model: Model) -> tuple[Layer, ...]:
    """For each layer, MTP modules last, the first one with the same feed-forward part."""
    first: dict[object, Layer] = {}
    return tuple(first.setdefault(layer.ffn, layer) for layer in model.layers + model.mtp)


@remembered(maxsize=1024)
def _kernel_works(*what: *_What) -> dict[tuple[str, Action], KernelWork]:
    """Kernels of a unit by component and action."""
    model, component, layer, shape, precision, recompute, style = what
    options = (shape, precision, recompute, style)
    if layer is not None:
        table = layer_kernels(model, layer, *options)
    else:
        table = edge_kernels(model, component, *options)
    return {(name, Action[act]): KernelWork(tuple(ks)) for (name, act), ks in table.items()}


@remembered(maxsize=1024)
def _kept_bytes(*what: *_What) -> dict[str, tuple[int, int]]:
    """Bytes each component of a unit keeps from F until I, and from I until W.

    A rank holds many layers and micro-batches: their mean over routing draws counts.
    """
    model, component, layer, shape, precision, recompute, style = what
    if layer is not None:
        sizes = activation_bytes(
            *(model, layer, shape, precision, recompute),
            flash=style.flash,
            dropout=style.dropout,
            eager=style.eager,
        )
    else:
        sizes = edge_activation_bytes(model, component, shape, precision, recompute, style)
    return {
        name: (int(np.mean(size.until_i)), int(np.mean(size.until_w)))
        for name, size in sizes.items()
    }


@remembered(maxsize=64)
def _counts(model: Model) -> ParamCount:
    """Its parameters; looked up without hashing all its layers."""
    return params(model)


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
    copies: int
    spans: dict[GroupKind, GroupSpan] = field(default_factory=dict)

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
            repeats_forward="full" in self.train.recompute,
            tp_overlap=self.train.tp_overlap,
        )

    @property
    def style(self) -> Style:
        """Which kernels the scenario's framework has."""
        train = self.train
        style = Style(
            attention=train.attention,
            dropout=train.dropout,
            norm_residual="norm_residual" in train.fusions,
            wgrad_accumulate="wgrad_accumulate" in train.fusions,
            loss="loss" in train.fusions,
            eager=train.eager,
            ring_operators=train.cp_ring == "operators",
        )
        return _same_style(style)

    def layer(self, unit: Unit) -> Layer:
        """The layer of a unit that has one."""
        return (self.model.layers + self.model.mtp)[unit.layer]

    def _kernels(self, unit: Unit, work: dict[tuple[Unit, str, Action], int]) -> None:
        layer = self._alike(unit)
        key = (unit.component, id(layer))  # the model outlives the works
        for (component, action), item in _kernel_works(*self._what(unit, layer)).items():
            work[unit, component, action] = self.works.add((component, action, key), item)

    def _kept(self, unit: Unit, kept: dict[tuple[Unit, str], tuple[int, int]]) -> None:
        sizes = _kept_bytes(*self._what(unit, self._alike(unit)))
        for half, component in (("attn", unit.attn), ("mlp", unit.mlp)):
            if component:
                kept[unit, half] = sizes[component]

    def _alike(self, unit: Unit) -> Layer | None:
        """The first layer equal to the unit's but for its place; None for an edge of the model."""
        return _first_alike(self.model)[unit.layer] if unit.component == "layer" else None

    def _what(self, unit: Unit, layer: Layer | None) -> _What:
        train = self.train
        options = (self.shape, train.precision, train.recompute, self.style)
        return (self.model, unit.component, layer, *options)

    def _alltoall(self, unit: Unit, work: dict[tuple[Unit, str, Action], int]) -> None:
        cases = self.cases
        if cases is None or self.layout.ep == 1:
            for component in ("dispatch", "combine", "redispatch"):
                for action in (Action.F, Action.I):
                    work[unit, component, action] = 0
            return
        kinds = {
            ("dispatch", Action.F): "dispatch",
            ("combine", Action.F): "combine",
            # Backwards, combine sends gradients out by the kept layout and dispatch collects them.
            ("combine", Action.I): "dispatch_cached",
            ("dispatch", Action.I): "combine",
            ("redispatch", Action.I): "dispatch_cached",
        }
        for (component, action), kind in kinds.items():
            item = AllToAllWork(
                kind,  # type: ignore[arg-type]
                self.model.hidden,
                "fp8" if self.train.precision == "fp8" else "bf16",
                cases.group,
                min(self.gpus_per_node, self.layout.ep),
                by_rank=not self.fold,
            )
            work[unit, component, action] = self.works.add(("alltoall", kind), item)

    # -- collectives of tensor, context and fully sharded data parallelism -----------------------
    def _collectives(self, unit: Unit, work: dict[tuple[Unit, str, Action], int]) -> None:
        layout, shape = self.layout, self.shape
        hidden_bytes = shape.tokens * self.model.hidden * _ACTIVATION_BYTES
        # Full recomputation repeats the forward's collectives before the backward's own.
        again = "full" in self.train.recompute
        for action in (Action.F, Action.I):
            repeat = again and action is Action.I
            if layout.tp > 1:
                gather = self.collective("all_gather", hidden_bytes, "tp")
                scatter = self.collective("reduce_scatter", hidden_bytes, "tp")
                again_parts = (scatter, gather) if repeat else ()
                if self.train.tp_overlap == "full":
                    # Chunk by chunk: one of tp chunks at least is in nobody's shadow.
                    bare = max(1 / layout.tp, self.train.tp_exposed)
                    lead = self.collective("all_gather", hidden_bytes * bare, "tp")
                    tail = self.collective("reduce_scatter", hidden_bytes * bare, "tp")
                    work[unit, "tp_gather_lead", action] = self._add(lead)
                    work[unit, "tp_scatter_tail", action] = self._add(tail)
                    beside = hidden_bytes * (1 - bare)
                    gather = self.collective("all_gather", beside, "tp")
                    scatter = self.collective("reduce_scatter", beside, "tp")
                work[unit, "tp_gather", action] = self._add(gather, *again_parts)
                work[unit, "tp_scatter", action] = self._add(scatter)
                reduce = self.collective("all_reduce", hidden_bytes, "tp")
                work[unit, "tp_reduce", action] = self._add(*([reduce] * (1 + repeat)))
            if layout.cp > 1:
                ring = self.collective("all_gather", self._kv_bytes() * layout.cp, "cp")
                # Single operators add gradients up in FP32, and pass them on so.
                wide = 1 if self.train.cp_ring == "fused" else 2
                back = self.collective("reduce_scatter", wide * self._kv_bytes() * layout.cp, "cp")
                parts = (ring,) if action is Action.F else (ring, back)
                work[unit, "cp_ring", action] = self._add(*((ring,) if repeat else ()), *parts)
                work[unit, "cp_join", action] = 0
        if layout.tp > 1:
            gather = self.collective("all_gather", hidden_bytes, "tp")
            work[unit, "tp_gather", Action.W] = self._add(gather)
        if layout.zero >= 2:
            dtypes = self.train.dtypes
            for half in ("attn", "mlp"):
                share = self.train.gather_share
                param, grad = BYTES[dtypes.params] / share, BYTES[dtypes.grads] / share
                gather_parts = self.sharded("all_gather", unit, half, param, self.copies)
                scatter_parts = self.sharded("reduce_scatter", unit, half, grad, self.copies)
                for action in (Action.F, Action.I):
                    work[unit, f"fsdp_gather_{half}", action] = self._add(*gather_parts)
                work[unit, f"fsdp_scatter_{half}", Action.W] = self._add(*scatter_parts)

    def collective(
        self, kind: CollectiveKind, nbytes: float, group: GroupKind, copies: int = 1
    ) -> CollectiveWork:
        """A collective over the groups of a kind; `copies` of a stage lie on other nodes each."""
        if group not in self.spans:
            self.spans[group] = self.layout.span(group, self.gpus_per_node)
        span = self.spans[group]
        return CollectiveWork(kind, nbytes, span.nodes * copies, span.ranks_per_node)

    def sharded(
        self, kind: CollectiveKind, unit: Unit, half: str, bytes_each: float, copies: int = 1
    ) -> tuple[CollectiveWork, ...]:
        """Collectives over the replicas of a unit's half: dense parameters, then experts."""
        dense, expert = half_params(self.model, self.layout, unit, half)
        if half == ("mlp" if unit.component == "head" else "attn"):
            dense += sum(table_params(self.model, self.layout, unit).values())
        sizes = (dense, expert)
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
        heads = attention.heads
        if isinstance(attention, Gqa) and self.train.cp_ring == "fused":
            heads = attention.kv_heads
        values = heads * (attention.qk_dim + attention.v_dim) / self.layout.tp
        return self.shape.tokens * values * _ACTIVATION_BYTES


def half_params(model: Model, layout: Layout, unit: Unit, half: str) -> tuple[float, float]:
    """Parameters of one half of a unit on one rank: dense ones (over tp) and experts (over ep).

    Vocabulary tables are not among them: see `table_params`.
    """
    count = _counts(model)
    if unit.component == "mtp_in":
        each = count.mtp_projection / max(model.mtp_layers, 1)
        return (each / layout.tp, 0.0) if half == "attn" else (0.0, 0.0)
    if unit.component != "layer":
        return 0.0, 0.0
    layer = (count.per_layer + count.mtp_per_layer)[unit.layer]
    if half == "attn":
        return layer.attn / layout.tp + layer.norm, 0.0
    dense = (layer.shared + layer.dense) / layout.tp + layer.router
    return dense, layer.routed / layout.ep


def table_params(model: Model, layout: Layout, unit: Unit) -> dict[str, float]:
    """Vocabulary tables a unit reads, with their parameters on one rank.

    The MTP module reads the embedding of the main model and its head is the main one (arXiv
    2412.19437 sec 3.2.3); a tied head is the embedding.
    """
    count = _counts(model)
    embedding = {"embedding": count.embedding / layout.tp}
    match unit.component:
        case "embed" | "mtp_in":
            return embedding
        case "head":
            return embedding if model.tied else {"head": count.head / layout.tp}
        case _:
            return {}


def unit_params(
    model: Model, layout: Layout, units: Sequence[Unit], beside: Sequence[Unit] = ()
) -> list[tuple[float, float]]:
    """Dense and expert parameters that each unit brings to a rank.

    A table is held once a rank: by the first unit that reads it, unless one of the units `beside`
    (on the same rank) does. Where embedding and head or MTP module lie on different ranks, each
    holds a copy.
    """
    seen = {name for unit in beside for name in table_params(model, layout, unit)}
    found = []
    for unit in units:
        tables = table_params(model, layout, unit)
        halves = [half_params(model, layout, unit, half) for half in ("attn", "mlp")]
        new = sum(size for name, size in tables.items() if name not in seen)
        seen |= tables.keys()
        found.append((sum(dense for dense, _ in halves) + new, sum(e for _, e in halves)))
    return found


def linear_params(model: Model, layout: Layout, units: Sequence[Unit]) -> float:
    """Parameters of a stage on one rank but its vocabulary tables: what FP8 training quantises."""
    halves = [half_params(model, layout, unit, half) for unit in units for half in ("attn", "mlp")]
    return sum(dense + expert for dense, expert in halves)


def rank_params(
    model: Model, layout: Layout, held: Sequence[Sequence[Unit]]
) -> list[tuple[float, float]]:
    """Dense and expert parameters of each stage a rank holds, in the order of `held`."""
    found = []
    beside: list[Unit] = []
    for units in held:
        each = unit_params(model, layout, units, beside)
        found.append((sum(d for d, _ in each), sum(e for _, e in each)))
        beside += units
    return found


def state_bytes(dtypes: Dtypes) -> float:
    """Bytes of optimizer state for one parameter: master copy and two moments."""
    return BYTES[dtypes.master] + 2 * BYTES[dtypes.moments]
