"""Routing: which experts tokens go to, and what that makes each rank receive and move."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from simdeep.errors import InputError, Problem
from simdeep.program.routing.balanced import balanced_dispatches, balanced_loads, hits_per_token
from simdeep.program.routing.bias import BiasRun, balance, updated_bias
from simdeep.program.routing.counts import Counts, check_experts
from simdeep.program.routing.dispatches import ROW_PADDING, Dispatches
from simdeep.program.routing.draws import MAX_TOKENS, gate_dispatches, gate_loads, gate_tokens
from simdeep.program.routing.gate import Gate, GateSpec, affinity, select_experts
from simdeep.program.routing.loads import Loads
from simdeep.program.routing.placement import Placement, by_slot, contiguous, explicit
from simdeep.program.routing.popularity import Popularity, parse_popularity
from simdeep.program.routing.recorded import (
    TRACE,
    Direction,
    Record,
    load_record,
    recorded_loads,
)
from simdeep.program.routing.stats import RoutingStats, routing_stats, unique_cv
from simdeep.program.routing.trace import RoutingTrace, expert_loads, replay
from simdeep.program.routing.trace_file import EXAMPLE, is_trace, read_trace, write_trace
from simdeep.program.routing.traffic import PointToPoint, TrafficMatrix, point_to_point, traffic
from simdeep.spec.resources import find_resource
from simdeep.spec.skew import Skew, default_skew

RoutingKind = Literal["balanced", "gate", "recorded"]

__all__ = [
    "EXAMPLE",
    "MAX_TOKENS",
    "ROW_PADDING",
    "TRACE",
    "BiasRun",
    "Counts",
    "Direction",
    "Dispatches",
    "Gate",
    "GateSpec",
    "Loads",
    "Placement",
    "PointToPoint",
    "Popularity",
    "Record",
    "RoutingKind",
    "RoutingStats",
    "RoutingTrace",
    "Skew",
    "TrafficMatrix",
    "affinity",
    "balance",
    "balanced_dispatches",
    "balanced_loads",
    "by_slot",
    "check_experts",
    "contiguous",
    "default_skew",
    "draw_dispatches",
    "draw_loads",
    "expert_loads",
    "explicit",
    "gate_dispatches",
    "gate_loads",
    "gate_tokens",
    "hits_per_token",
    "load_record",
    "parse_popularity",
    "point_to_point",
    "read_trace",
    "recorded_loads",
    "replay",
    "routing_stats",
    "select_experts",
    "traffic",
    "unique_cv",
    "updated_bias",
    "write_trace",
]


def draw_loads(
    moe: GateSpec,
    ep: int,
    gpus_per_node: int,
    tokens_per_rank: int,
    kind: RoutingKind,
    skew: float | Popularity | None = None,
    draws: int = 24,
    seed: int = 0,
    *,
    file: str | Path = TRACE,
    direction: Direction = "forward",
    max_tokens: int = MAX_TOKENS,
    placement: Placement | None = None,
) -> Loads:
    """Loads of an expert-parallel group of `ep` ranks that each send `tokens_per_rank` tokens.

    As `draw_dispatches`, but kind `recorded` also takes a record of one rank's loads (a YAML file),
    which then are the loads of that rank in a `direction`, as many draws as it has layers.
    """
    if kind == "recorded":
        path = find_resource("routing", file)
        if not is_trace(path):
            if placement is not None:
                message = "loads of one rank cannot be placed anew; take a trace of tokens"
                raise InputError([Problem(str(path), "", message)])
            record = load_record(path)
            return recorded_loads(record, moe, ep, gpus_per_node, tokens_per_rank, direction)
    return draw_dispatches(
        moe,
        ep,
        gpus_per_node,
        tokens_per_rank,
        kind,
        skew,
        draws,
        seed,
        file=file,
        max_tokens=max_tokens,
        placement=placement,
    ).loads()


def draw_dispatches(
    moe: GateSpec,
    ep: int,
    gpus_per_node: int,
    tokens_per_rank: int,
    kind: RoutingKind,
    skew: float | Popularity | None = None,
    draws: int = 24,
    seed: int = 0,
    *,
    file: str | Path = EXAMPLE,
    max_tokens: int = MAX_TOKENS,
    placement: Placement | None = None,
) -> Dispatches:
    """Dispatches of an expert-parallel group of `ep` ranks that each send `tokens_per_rank` tokens.

    Experts are placed as `placement` says, by default contiguously: e on rank
    `e // (experts / ep)`; `gpus_per_node` counts the ranks of this group on a node. Kind
    `balanced`: expected counts, all alike, contiguous only. Kind `gate`: drawn from the gate with
    experts' popularity spread by `skew` (a number is the standard deviation in logits; None: as in
    the H800 trace), on a sample of tokens where there are more than `max_tokens` (see
    `gate_dispatches` for the noise that adds). Kind `recorded`: each layer and micro-batch of the
    token trace in `file`, its tokens scaled to `tokens_per_rank`.
    """
    if kind == "balanced":
        if placement is not None:
            raise InputError(
                "balanced routing knows contiguous experts only; with a placement of experts take "
                "routing kind gate with skew 0"
            )
        return balanced_dispatches(moe, ep, gpus_per_node, tokens_per_rank, draws)
    if placement is None:
        placement = contiguous(moe.experts, ep, gpus_per_node)
    elif (placement.ranks, placement.gpus_per_node) != (ep, gpus_per_node):
        raise InputError(
            f"experts are placed on {placement.ranks} ranks, {placement.gpus_per_node} a node; the "
            f"expert-parallel group has {ep}, {gpus_per_node} a node"
        )
    if kind == "recorded":
        trace = read_trace(file, moe.experts)
        if trace.topk != moe.topk:
            message = f"tokens have {trace.topk} experts; the gate takes {moe.topk}"
            raise InputError([Problem(str(trace.path), "experts", message)])
        return replay(trace, placement, tokens_per_rank)
    if kind != "gate":
        raise InputError(f"routing kind {kind!r}: must be balanced, gate or recorded")
    spread = default_skew().value if skew is None else skew
    return gate_dispatches(moe, placement, tokens_per_rank, spread, draws, seed, max_tokens)
