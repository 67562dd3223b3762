"""Predicts a step's MoE layers from routed tokens, expert times and the all-to-all curve.

Nothing here has seen the run: rows come from the gate's choices in one process, times from experts
and transfers that ran by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from simdeep.engine.reference import run
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import F64, Action, Kind, Priced, Program
from simdeep.program.routing import RoutingTrace, contiguous, point_to_point, replay
from simdeep.validate.moe.curve import Curve

DRAWS = 40
"""Steps that are simulated of each."""

VALUE_BYTES = 4
"""float32, what the small model computes and sends."""

COUNT_BYTES = 8
"""int64: how many rows come, sent ahead of them for each expert."""

_PARTS = ("dispatch", "experts", "combine")
_RENDEZVOUS = ("dispatch", "combine")


@dataclass(frozen=True)
class Prediction:
    """Seconds of a step by phase, as `Timing` counts them, and rows [MoE layers, experts]."""

    rows: F64
    phases: dict[str, float]
    waits_s: float
    bytes_sent: float


def joined(of_ranks: Sequence[RoutingTrace]) -> RoutingTrace:
    """One trace of all ranks' tokens, each with the rank it comes from."""
    sizes = [len(trace.layer) for trace in of_ranks]
    source = np.repeat(np.arange(len(of_ranks)), sizes).astype(np.int32)
    layer = np.concatenate([trace.layer for trace in of_ranks])
    order = np.argsort(layer, kind="stable")
    return RoutingTrace(
        n_experts=of_ranks[0].n_experts,
        layer=layer[order],
        microbatch=np.zeros(len(order), dtype=np.int32),
        token=np.concatenate([trace.token for trace in of_ranks])[order],
        experts=np.concatenate([trace.experts for trace in of_ranks])[order],
        source=source[order],
    )


def predict(
    trace: RoutingTrace,
    ranks: int,
    hidden: int,
    forward: Curve,
    backward: Curve,
    transfer: Curve,
    seed: int = 0,
) -> Prediction:
    """What a step's MoE layers take, median over `DRAWS` steps.

    In each the experts of a layer on a rank, and each transfer, take longer or shorter as measured
    ones did: the rank that happens to be slow holds up the others.

    Args:
        trace: of all ranks' tokens, with their sources.
        ranks: of the group; experts lie on them contiguously.
        hidden: width of a row.
        forward: seconds of one expert against its rows.
        backward: the same for both gradients.
        transfer: seconds of an all-to-all against the bytes a rank sends to others.
        seed: of the draws.
    """
    random = np.random.default_rng([seed, 0x30E])
    placement = contiguous(trace.n_experts, ranks, ranks)
    rows = replay(trace, placement).slot_tokens
    moved = [
        point_to_point(experts, source, placement).rows
        for _, _, experts, source in trace.dispatches(ranks)
    ]
    sent = np.array([_others(matrix) for matrix in moved]) * hidden * VALUE_BYTES
    counts = np.full(len(sent), COUNT_BYTES * trace.n_experts * (ranks - 1) / ranks)

    def drawn_times(curve: Curve, seconds: F64, sizes: F64) -> F64:
        jitter = np.array([curve.draw_jitter(size, random) for size in sizes.flat])
        times: F64 = seconds * jitter.reshape(sizes.shape)
        return times

    moving, counting = (np.array([*map(transfer.at, sizes)]) for sizes in (sent, counts))
    drawn: dict[str, list[float]] = {}
    for letter, curve, first in (("F", forward, counting), ("B", backward, 0.0 * counting)):
        experts = np.array([[curve.at(n) if n else 0.0 for n in layer] for layer in rows])
        usual = experts.reshape(len(rows), ranks, -1).sum(axis=2)
        each = rows.reshape(len(rows), ranks, -1).mean(axis=2)
        # In the backward the combine's gradients go to the experts, the dispatch's come back.
        before, after = ("dispatch", "combine") if letter == "F" else ("combine", "dispatch")
        for _ in range(DRAWS):
            by_rank = drawn_times(curve, usual, each)
            one, other = (drawn_times(transfer, moving, sent) for _ in range(2))
            timeline = _run(by_rank, one + drawn_times(transfer, first, counts), other)
            found = {
                f"{before} {letter}": _spent(timeline, "dispatch"),
                f"experts {letter}": float(by_rank.max(axis=1).sum()),
                f"{after} {letter}": _spent(timeline, "combine"),
                f"layer {letter}": timeline.makespan_ns * 1e-9,
                f"waits {letter}": float((by_rank.max(axis=1) - by_rank.mean(axis=1)).sum()),
            }
            for name, seconds in found.items():
                drawn.setdefault(name, []).append(seconds)
    phases = {name: median(seconds) for name, seconds in drawn.items()}
    waits = phases.pop("waits F") + phases.pop("waits B")
    return Prediction(rows, phases, waits, float(sent.mean()))


def _others(rows: np.ndarray) -> float:
    """Rows of an all-to-all of equal shares that takes as long as this one [source, rank].

    A process moves what it sends and what it receives; the busiest one holds up the others.
    """
    away = rows - np.diag(np.diag(rows))
    return float((away.sum(axis=0) + away.sum(axis=1)).max()) / 2


def _run(experts: F64, first: F64, last: F64) -> Timeline:
    """Layers one after the other in the reference engine: transfer, experts, transfer.

    `experts` [layers, ranks] and the transfers [layers] are in seconds; every transfer is a
    rendezvous of all ranks, which starts when the slowest is there.
    """
    layers, ranks = experts.shape
    n = layers * ranks * len(_PARTS)
    layer, rank, part = (a.ravel() for a in np.indices((layers, ranks, len(_PARTS))))
    is_experts = part == _PARTS.index("experts")
    meeting = layer * len(_PARTS) + part
    moving = np.where(part == 0, first[layer], last[layer])
    zeros, none = np.zeros(n), np.full(n, -1, dtype=np.int32)
    program = Program(
        n_ranks=ranks,
        streams=("compute",),
        components=_PARTS,
        works=(),
        rank=rank.astype(np.int32),
        stream=np.zeros(n, dtype=np.int8),
        kind=np.where(is_experts, Kind.COMPUTE, Kind.TRANSFER).astype(np.int8),
        action=np.full(n, Action.F, dtype=np.int8),
        component=part.astype(np.int32),
        stage=none,
        layer=layer.astype(np.int32),
        microbatch=none,
        block=none,
        work=none,
        case=np.zeros(n, dtype=np.int32),
        peer=none,
        group=np.where(is_experts, -1, meeting).astype(np.int32),
        dep_ptr=np.zeros(n + 1, dtype=np.int64),
        dep_idx=np.zeros(0, dtype=np.int64),
        mem_take=np.zeros(n, dtype=np.int64),
        mem_free=np.zeros(n, dtype=np.int64),
    )
    priced = Priced(
        program=program,
        sm_ns=zeros,
        mem_ns=zeros,
        fixed_ns=np.where(is_experts, experts[layer, rank] * 1e9, 0.0),
        sm_want=np.zeros(n, dtype=np.int32),
        sm_drag=zeros,
        mem_drag=zeros,
        port=np.full((n, 4), -1, dtype=np.int32),
        port_ns=np.zeros((n, 4)),
        floor_ns=zeros,
        latency_ns=np.where(is_experts, 0.0, moving * 1e9),
        sms=np.zeros(n, dtype=np.int32),
        draw_milli=np.zeros(n, dtype=np.int32),
        n_ports=0,
        hardware_sms=1,
        comm_sms=0,
        static_split=False,
    )
    return run(priced)


def _spent(timeline: Timeline, part: str) -> float:
    """Seconds of a transfer over all layers, on one rank."""
    program = timeline.program
    wanted = (program.component == _PARTS.index(part)) & (program.rank == 0)
    return float((timeline.end_ns - timeline.start_ns)[wanted].sum()) * 1e-9
