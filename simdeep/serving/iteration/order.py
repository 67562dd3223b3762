"""The tasks of an iteration in the order its streams run them: one program for a unit's shape.

Two micro-batches take turns on the compute stream, so that one's transfers run beside the other's
compute, in the orders that DeepSeek shows (deepseek-ai/profile-data). Prefill: attention of both,
experts of both, the shared experts beside the combines. Decode in five stages, attention cut in
two: the shared experts and the other micro-batch's projections run beside a dispatch, the rest of
its attention beside a combine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from simdeep.program.columns import Action, Kind, Program
from simdeep.serving.deployment import Unit

COMPUTE, COMM, TP, HOST = range(4)
STREAMS = ("compute", "comm", "tp", "host")

COMPONENTS = (
    "embed",
    "project",
    "query",
    "core",
    "output",
    "gate",
    "norm",
    "dense",
    "shared",
    "experts",
    "receive",
    "head",
    "draft_in",
    "dispatch",
    "combine",
    "gather",
    "reduce",
    "regather",
    "launch",
)
"""Stages, transfers, and launches by the host."""
_ID = {name: i for i, name in enumerate(COMPONENTS)}
_STREAM = {"dispatch": COMM, "combine": COMM, "launch": HOST}
_STREAM |= dict.fromkeys(("gather", "reduce", "regather"), TP)

PEERS = 8
"""Most GPUs of an expert-parallel group that are simulated."""

MAIN, DRAFT = 0, 1
"""Phases: the model, and the draft module, which has one row a sequence."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the tasks of an iteration, sizes apart."""

    moe_layers: tuple[bool, ...]
    has_experts: bool
    has_shared: bool
    split_experts: bool
    tp: bool
    sp: bool
    microbatches: int
    five_steps: bool
    drafts: int
    cuda_graphs: bool
    compute: bool
    draws: int
    peers: int

    @classmethod
    def of(cls, unit: Unit) -> Shape:
        """The shape of a unit's iterations."""
        moe = unit.moe
        return cls(
            moe_layers=tuple(layer.is_moe for layer in unit.model.layers),
            has_experts=moe is not None,
            has_shared=moe is not None and bool(moe.shared_width) and not unit.shared_replicas,
            split_experts=unit.ep > 1,
            tp=unit.tp > 1,
            sp=unit.sp,
            microbatches=unit.microbatches,
            five_steps=unit.role == "decode",
            drafts=unit.mtp_tokens,
            cuda_graphs=unit.cuda_graphs,
            compute=unit.compute,
            draws=unit.draws,
            peers=simulated_peers(unit),
        )


def simulated_peers(unit: Unit) -> int:
    """GPUs simulated: some of an EP group's where overlap lets them drift, else the slowest alone.

    Without overlap all wait for the slowest at every all-to-all, so that one GPU as slow as that
    one (folded) is exact; beside the other micro-batch a late peer costs only what exceeds the
    slack. Eight sampled peers come within 1% of all 144.
    """
    drifts = unit.microbatches == 2 and unit.ep > 1
    return min(PEERS, unit.ep) if drifts else 1


def layer_steps(shape: Shape, moe: bool) -> dict[str, tuple[str, ...]]:
    """Stages of a layer by step: P and K (attention's halves), S (shared experts), M (feed-forward)
    and R (what is back from combine).

    Where tokens are not split over the tp group they are summed whole after attention; with experts
    or sequence parallelism each GPU keeps its share, and they are joined again where needed.
    """
    gather = ("gather",) if shape.tp and shape.sp else ()
    reduce = ("reduce",) if shape.tp else ()
    project, attend = ("project", *gather, "query"), ("core", "output", *reduce)
    if moe:
        dispatch, combine = (("dispatch",), ("combine",)) if shape.split_experts else ((), ())
        shared = ("shared",) if shape.has_shared else ()
        rejoin = ("regather",) if shape.tp and not shape.sp else ()
        return {
            "P": project,
            "K": (*attend, "gate", *dispatch),
            "S": shared,
            "M": ("experts", *combine),
            "R": ("receive", *rejoin),
        }
    if shape.has_experts:
        rejoin = ("regather",) if shape.tp and not shape.sp else ()
        return {"P": project, "K": (*attend, "norm"), "M": ("dense",), "R": rejoin}
    join = ("regather",) if shape.tp and shape.sp else ()
    return {"P": project, "K": (*attend, "norm", *join), "M": ("dense", *reduce), "R": ()}


@dataclass(slots=True)
class _Builder:
    """Appends tasks; `last` is the row each micro-batch waits for."""

    shape: Shape
    rows: list[tuple[int, ...]] = field(default_factory=list)
    deps: list[tuple[int, ...]] = field(default_factory=list)
    last: dict[int, int] = field(default_factory=dict)
    ready: dict[int, int] = field(default_factory=dict)
    beside: dict[int, int] = field(default_factory=dict)

    def row(
        self, stage: str, micro: int, layer: int, phase: int, after: Sequence[int], draw: int = 0
    ) -> int:
        """One task."""
        stream = _STREAM.get(stage, COMPUTE)
        computes = stream == COMPUTE
        kind = Kind.COMPUTE if computes else Kind.TRANSFER
        if not self.shape.compute and stream in (COMPUTE, HOST):
            kind = Kind.SYNC
        after = list(after)
        if computes and not self.shape.cuda_graphs:
            # The host launches the stage's kernels one by one, and runs ahead as far as it can.
            launch = Kind.TRANSFER if self.shape.compute else Kind.SYNC
            work = phase * len(COMPONENTS) + _ID[stage]
            self.rows.append((HOST, launch, _ID["launch"], layer, micro, work, draw))
            self.deps.append(())
            after.append(len(self.rows) - 1)
        work = phase * len(COMPONENTS) + _ID[stage]
        self.rows.append((stream, kind, _ID[stage], layer, micro, work, draw))
        self.deps.append(tuple(after))
        return len(self.rows) - 1

    def stage(self, stage: str, micro: int, layer: int, phase: int = MAIN) -> None:
        """A stage after what its micro-batch did last."""
        draw = layer % self.shape.draws if layer >= 0 else 0
        if stage == "shared":
            # It needs what is sent, not what arrives; its result is wanted by `receive` alone.
            after = [self.ready[micro]]
            self.beside[micro] = self.row(stage, micro, layer, phase, after, draw)
            return
        after = [self.last[micro]] if micro in self.last else []
        if stage == "receive" and micro in self.beside:
            after.append(self.beside.pop(micro))
        self.last[micro] = self.row(stage, micro, layer, phase, after, draw)
        if stage == "gate":
            self.ready[micro] = self.last[micro]

    def joined(self, stage: str, micros: Sequence[int], phase: int) -> None:
        """A stage of all micro-batches at once, after the last of them."""
        row = self.row(stage, -1, -1, phase, sorted({self.last[m] for m in micros}))
        for micro in micros:
            self.last[micro] = row

    def launch(self, micros: Sequence[int]) -> None:
        """The host launches a captured graph; everything in it waits for that."""
        if not self.shape.cuda_graphs:
            return
        after = sorted({self.last[m] for m in micros if m in self.last})
        row = self.row("launch", -1, -1, MAIN, after)
        for micro in micros:
            self.last[micro] = row

    def steps(self, steps: str, micro: int, layer: int, phase: int = MAIN) -> None:
        """Steps of a layer for a micro-batch, such as `PK`."""
        moe = self.shape.has_experts if phase == DRAFT else self.shape.moe_layers[layer]
        by_step = layer_steps(self.shape, moe)
        for step in steps:
            for stage in by_step.get(step, ()):
                self.stage(stage, micro, layer, phase)


@lru_cache(maxsize=64)
def build_order(shape: Shape) -> Program:
    """The program of an iteration on the simulated peers.

    `work` is phase * len(COMPONENTS) + component, `case` is draw * peers + peer. All-to-all is a
    rendezvous of the peers: nobody has all tokens before the last has sent.
    """
    b = _Builder(shape)
    micros = range(shape.microbatches)
    b.launch(micros)
    for micro in micros:
        b.stage("embed", micro, -1)
    _model(b, len(shape.moe_layers), MAIN)
    b.joined("head", micros, MAIN)
    for draft in range(shape.drafts):
        b.launch(micros)
        for micro in micros:
            b.stage("draft_in", micro, -1, DRAFT)
        _model(b, 1, DRAFT, first=len(shape.moe_layers) + draft)
        b.joined("head", micros, DRAFT)
    return _program(b)


def _model(b: _Builder, layers: int, phase: int, first: int = 0) -> None:
    """Some layers of all micro-batches."""
    numbers = range(first, first + layers)
    if b.shape.microbatches == 1:
        for layer in numbers:
            b.steps("PKSMR", 0, layer, phase)
        return
    (_five_steps if b.shape.five_steps else _four_steps)(b, numbers, phase)


def _four_steps(b: _Builder, layers: range, phase: int) -> None:
    """Prefill: A(0) S(1) A(1) M(0) M(1) S(0), the last of each turn beside the other's combine."""
    for layer in layers:
        if layer > layers[0]:
            b.steps("R", 0, layer - 1, phase)
        b.steps("PK", 0, layer, phase)
        if layer > layers[0]:
            b.steps("SR", 1, layer - 1, phase)
        b.steps("PK", 1, layer, phase)
        b.steps("M", 0, layer, phase)
        b.steps("M", 1, layer, phase)
        b.steps("S", 0, layer, phase)
    b.steps("R", 0, layers[-1], phase)
    b.steps("SR", 1, layers[-1], phase)


def _five_steps(b: _Builder, layers: range, phase: int) -> None:
    """Decode: K(0) S(0) P(1) M(0) K(1) S(1) P(0) M(1)."""
    b.steps("P", 0, layers[0], phase)
    for layer in layers:
        b.steps("K", 0, layer, phase)
        if layer > layers[0]:
            b.steps("R", 1, layer - 1, phase)
        b.steps("S", 0, layer, phase)
        b.steps("P", 1, layer, phase)
        b.steps("M", 0, layer, phase)
        b.steps("K", 1, layer, phase)
        b.steps("R", 0, layer, phase)
        b.steps("S", 1, layer, phase)
        if layer + 1 in layers:
            b.steps("P", 0, layer + 1, phase)
        b.steps("M", 1, layer, phase)
    b.steps("R", 1, layers[-1], phase)


def _program(b: _Builder) -> Program:
    """The rows of one GPU, once for each peer."""
    one = np.array(b.rows, np.int64)
    n, peers = len(one), b.shape.peers
    stream, kind, component, layer, micro, work, draw = np.tile(one, (peers, 1)).T
    peer = np.repeat(np.arange(peers), n)
    sizes = np.array([len(d) for d in b.deps])
    deps = np.array([d for row in b.deps for d in row], np.int64)
    nothing = np.full(n * peers, -1, np.int32)
    meets = (stream == COMM) & (peers > 1)
    return Program(
        n_ranks=peers,
        streams=STREAMS,
        components=COMPONENTS,
        works=(),
        rank=peer.astype(np.int32),
        stream=stream.astype(np.int8),
        kind=kind.astype(np.int8),
        action=np.full(n * peers, Action.F, np.int8),
        component=component.astype(np.int32),
        stage=nothing,
        layer=layer.astype(np.int32),
        microbatch=micro.astype(np.int32),
        block=nothing,
        work=work.astype(np.int32),
        case=(draw * peers + peer).astype(np.int32),
        peer=nothing,
        group=np.where(meets, np.tile(np.arange(n), peers), -1).astype(np.int32),
        dep_ptr=np.concatenate([[0], np.cumsum(np.tile(sizes, peers))]).astype(np.int64),
        dep_idx=(np.tile(deps, (peers, 1)) + np.arange(peers)[:, None] * n).ravel(),
        mem_take=np.zeros(n * peers, np.int64),
        mem_free=np.zeros(n * peers, np.int64),
    )
