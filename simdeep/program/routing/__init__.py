"""Routing: which experts tokens go to, and what that makes each rank receive and move."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from simdeep.errors import InputError
from simdeep.program.routing.balanced import balanced_loads, hits_per_token
from simdeep.program.routing.counts import ROW_PADDING, Counts, check_experts
from simdeep.program.routing.draws import MAX_TOKENS, gate_loads
from simdeep.program.routing.gate import Gate, GateSpec, affinity, select_experts
from simdeep.program.routing.loads import Loads
from simdeep.program.routing.placement import Placement, contiguous, explicit
from simdeep.program.routing.recorded import (
    TRACE,
    Direction,
    Record,
    load_record,
    recorded_loads,
)
from simdeep.program.routing.skew import Skew, default_skew
from simdeep.program.routing.stats import RoutingStats, routing_stats, unique_cv

RoutingKind = Literal["balanced", "gate", "recorded"]

__all__ = [
    "MAX_TOKENS",
    "ROW_PADDING",
    "TRACE",
    "Counts",
    "Direction",
    "Gate",
    "GateSpec",
    "Loads",
    "Placement",
    "Record",
    "RoutingKind",
    "RoutingStats",
    "Skew",
    "affinity",
    "balanced_loads",
    "check_experts",
    "contiguous",
    "default_skew",
    "draw_loads",
    "explicit",
    "gate_loads",
    "hits_per_token",
    "load_record",
    "recorded_loads",
    "routing_stats",
    "select_experts",
    "unique_cv",
]


def draw_loads(
    moe: GateSpec,
    ep: int,
    gpus_per_node: int,
    tokens_per_rank: int,
    kind: RoutingKind,
    skew: float | None = None,
    draws: int = 24,
    seed: int = 0,
    *,
    file: str | Path = TRACE,
    direction: Direction = "forward",
    max_tokens: int = MAX_TOKENS,
) -> Loads:
    """Loads of an expert-parallel group of `ep` ranks that each send `tokens_per_rank` tokens.

    Experts are placed contiguously: e on rank `e // (experts / ep)`; `gpus_per_node` counts the
    ranks of this group on a node. Kind `balanced`: expected loads, all alike. Kind `gate`: drawn
    from the gate with experts' popularity spread by `skew` (standard deviation in logits; None: as
    in the H800 trace), on a sample of tokens where there are more than `max_tokens` (see
    `gate_loads` for the noise that adds). Kind `recorded`: one rank's loads from `file` in a
    `direction`, as many draws as it has layers.
    """
    if kind == "balanced":
        return balanced_loads(moe, ep, gpus_per_node, tokens_per_rank, draws)
    if kind == "recorded":
        record = load_record(file)
        return recorded_loads(record, moe, ep, gpus_per_node, tokens_per_rank, direction)
    if kind != "gate":
        raise InputError(f"routing kind {kind!r}: must be balanced, gate or recorded")
    placement = contiguous(moe.experts, ep, gpus_per_node)
    spread = default_skew().value if skew is None else skew
    return gate_loads(moe, placement, tokens_per_rank, spread, draws, seed, max_tokens)
