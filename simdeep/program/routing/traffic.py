"""Who sends token copies to whom: matrices over the ranks of an expert-parallel group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.program.routing.counts import Counts
from simdeep.program.routing.kernels import F64, I16, I32, I64, compiled, pairs_kernel
from simdeep.program.routing.placement import Placement


@dataclass(frozen=True, eq=False)
class TrafficMatrix:
    """Token copies of one dispatch over both networks, [from, to] over the group's ranks, float64.

    A token crosses InfiniBand once for each other node that holds one of its experts, to the GPU of
    its source's index there, and then NVLink once to each other GPU of that node that does. On its
    own node it starts from its source. Combine moves the same copies the other way. Entries are
    whole numbers unless a sample was scaled up.
    """

    ib: F64
    """Copies from source GPU to landing GPU; zero inside a node."""
    nvl: F64
    """Copies from landing GPU to expert GPU; zero between nodes and on the diagonal."""


@dataclass(frozen=True, eq=False)
class PointToPoint:
    """Token copies of one dispatch straight to the experts' GPUs, [source, GPU] over ranks, int64.

    The diagonal holds the copies that stay on the source GPU.
    """

    rows: I64
    """A copy for each (token, expert), as DeepEP's low-latency kernels send them."""
    copies: I64
    """A copy for each (token, GPU that holds one of its experts)."""


def traffic(experts: I16, source: I32, placement: Placement) -> TrafficMatrix:
    """Node-limited traffic of tokens: experts [tokens, topk], source ranks [tokens].

    Inputs are trusted; `check_experts` is for those from elsewhere.
    """
    counts = Counts(placement)
    counts.add(experts, source)
    return expand(counts.landed, counts.forwarded, placement.gpus_per_node)


def point_to_point(experts: I16, source: I32, placement: Placement) -> PointToPoint:
    """Low-latency traffic of the same tokens; replicas take them in the same turn."""
    rows = np.zeros((placement.ranks, placement.ranks), dtype=np.int64)
    copies = np.zeros_like(rows)
    turn = np.zeros(placement.experts, dtype=np.int32)
    compiled(pairs_kernel)(
        experts, source, placement.slot_ptr, placement.slot_rank, turn, rows, copies
    )
    return PointToPoint(rows, copies)


def expand(landed: I64 | F64, forwarded: I64 | F64, gpus_per_node: int) -> TrafficMatrix:
    """Full matrices from tokens landed [ranks, nodes] and forwarded [ranks, GPUs a node]."""
    ranks, nodes = landed.shape
    rank = np.arange(ranks)
    node, index = rank // gpus_per_node, rank % gpus_per_node
    ib = np.zeros((ranks, ranks), dtype=np.float64)
    to_node = np.arange(nodes)
    ib[rank[:, None], to_node * gpus_per_node + index[:, None]] = landed
    ib[rank, rank] = 0
    nvl = np.zeros((ranks, ranks), dtype=np.float64)
    on_node = np.arange(forwarded.shape[1])
    nvl[rank[:, None], node[:, None] * gpus_per_node + on_node] = forwarded
    nvl[rank, rank] = 0
    return TrafficMatrix(ib, nvl)
