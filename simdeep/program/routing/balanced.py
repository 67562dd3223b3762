"""Expected loads when all experts are alike."""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np

from simdeep.program.routing.counts import ROW_PADDING
from simdeep.program.routing.draws import noise_bank, route_draw
from simdeep.program.routing.gate import Gate, GateSpec, canonical, check_gate
from simdeep.program.routing.kernels import F64
from simdeep.program.routing.loads import Loads, check_size
from simdeep.program.routing.placement import contiguous

_SAMPLE = 1 << 17
_SEED = 0


def balanced_loads(
    gate: GateSpec, ep: int, gpus_per_node: int, tokens_per_rank: int, draws: int
) -> Loads:
    """Loads [draws, ep] when every expert is equally likely: one number for all ranks and draws.

    By symmetry a token uses every node, and every GPU, equally often, so all follows from the nodes
    and GPUs of a token. Rows are each expert's expected tokens, padded.
    """
    check_size(tokens_per_rank, draws)
    nodes, gpus = hits_per_token(gate, ep, gpus_per_node)
    per_node = min(gpus_per_node, ep)
    n_nodes = ep // per_node
    expert_tokens = tokens_per_rank * ep * gate.topk / gate.experts
    rows = np.ceil(expert_tokens / ROW_PADDING) * ROW_PADDING * (gate.experts // ep)
    ib = tokens_per_rank * nodes * (n_nodes - 1) / n_nodes
    nvl = tokens_per_rank * gpus * (per_node - 1) / per_node

    def everywhere(value: float) -> F64:
        return np.full((draws, ep), value, dtype=np.float64)

    return Loads(
        tokens=everywhere(tokens_per_rank),
        rows=everywhere(rows),
        unique=everywhere(tokens_per_rank * gpus),
        ib_out_copies=everywhere(ib),
        ib_in_copies=everywhere(ib),
        nvl_out_copies=everywhere(nvl),
        nvl_in_copies=everywhere(nvl),
        nodes_per_token=np.full(draws, nodes),
        gpus_per_token=np.full(draws, gpus),
        expert_tokens=np.full((draws, gate.experts), expert_tokens),
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
    bank = noise_bank(_SEED, gate.experts)
    counts = route_draw(gate, placement, -(-_SAMPLE // ep), 0.0, _SEED, 0, bank)
    return counts.nodes_per_token, counts.gpus_per_token


def _hit_parts(gate: Gate, parts: int) -> float:
    others = gate.experts - gate.experts // parts
    return parts * (1 - comb(others, gate.topk) / comb(gate.experts, gate.topk))
