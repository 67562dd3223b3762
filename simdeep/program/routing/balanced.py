"""Expected loads when all experts are alike."""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np

from simdeep.program.routing.counts import Counts
from simdeep.program.routing.dispatches import Dispatches
from simdeep.program.routing.draws import gate_tokens
from simdeep.program.routing.gate import Gate, GateSpec, canonical, check_gate
from simdeep.program.routing.kernels import F64
from simdeep.program.routing.loads import Loads, check_size
from simdeep.program.routing.placement import contiguous

_SAMPLE = 1 << 17
_SEED = 0


def balanced_loads(
    gate: GateSpec, ep: int, gpus_per_node: int, tokens_per_rank: int, draws: int
) -> Loads:
    """`balanced_dispatches`, summed up by rank: one number for all ranks and draws."""
    return balanced_dispatches(gate, ep, gpus_per_node, tokens_per_rank, draws).loads()


def balanced_dispatches(
    gate: GateSpec, ep: int, gpus_per_node: int, tokens_per_rank: int, draws: int
) -> Dispatches:
    """Expected counts when every expert is equally likely, experts placed contiguously.

    By symmetry a token uses every node, and every GPU, equally often, so all follows from the nodes
    and GPUs of a token.
    """
    check_size(tokens_per_rank, draws)
    nodes, gpus = hits_per_token(gate, ep, gpus_per_node)
    placement = contiguous(gate.experts, ep, gpus_per_node)
    per_node = ep // placement.nodes

    def everywhere(value: float, *shape: int) -> F64:
        return np.full((draws, *shape), value, dtype=np.float64)

    return Dispatches(
        placement,
        tokens=everywhere(tokens_per_rank, ep),
        slot_tokens=everywhere(tokens_per_rank * ep * gate.topk / gate.experts, gate.experts),
        landed=everywhere(tokens_per_rank * nodes / placement.nodes, ep, placement.nodes),
        forwarded=everywhere(tokens_per_rank * gpus / per_node, ep, per_node),
    )


def hits_per_token(gate: GateSpec, ep: int, gpus_per_node: int) -> tuple[float, float]:
    """Expected nodes and GPUs of a token when all experts are alike and placed contiguously.

    Without groups every set of K of E experts is equally likely, and a part that holds e of them is
    missed with probability C(E - e, K) / C(E, K). With groups the chosen ones tend to hold the
    highest affinities; the means then come from a fixed sample of about 131,072 tokens (standard
    error under 0.03%).
    """
    check_gate(gate)
    return _hits(canonical(gate), ep, gpus_per_node)


@lru_cache(maxsize=64)
def _hits(gate: Gate, ep: int, gpus_per_node: int) -> tuple[float, float]:
    placement = contiguous(gate.experts, ep, gpus_per_node)
    if gate.n_groups == 1:
        return _hit_parts(gate, placement.nodes), _hit_parts(gate, ep)
    counts = Counts(placement)
    counts.add(*gate_tokens(gate, ep, -(-_SAMPLE // ep), 0.0, _SEED, 0))
    return counts.nodes_per_token, counts.gpus_per_token


def _hit_parts(gate: Gate, parts: int) -> float:
    others = gate.experts - gate.experts // parts
    return parts * (1 - comb(others, gate.topk) / comb(gate.experts, gate.topk))
