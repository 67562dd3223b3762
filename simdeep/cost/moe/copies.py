"""Token copies of the high-throughput kernels over each hop, for every GPU of the group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError
from simdeep.program.routing.dispatches import Dispatches
from simdeep.program.routing.loads import Loads

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class HopCopies:
    """Copies in dispatch direction, arrays [draws, ranks]; combine moves the same ones back.

    A dispatched token takes two hops: from its GPU to the GPU of the same index on each node that
    wants it (over IB, or none on its own node), and from there to each GPU that does (over NVLink,
    or none if it is that one). The kernels handle both cases alike, links carry the first.
    """

    gpus_per_node: int
    sent: F64
    """Nodes of this GPU's tokens, its own node included."""
    landed: F64
    """Tokens that arrive at or begin on this GPU and are wanted on its node."""
    forwarded: F64
    """Copies made of landed tokens, one for each GPU of the node that wants them."""
    received: F64
    """Distinct tokens this GPU's experts get."""
    ib_out: F64
    ib_in: F64
    nvl_out: F64
    nvl_in: F64
    tokens: F64
    """Tokens this GPU sends."""

    def __post_init__(self) -> None:
        ranks = self.sent.shape[-1]
        if ranks > self.gpus_per_node and ranks % self.gpus_per_node:
            raise InputError(
                f"an expert-parallel group of {ranks} GPUs does not fill nodes of "
                f"{self.gpus_per_node}"
            )

    @property
    def ranks(self) -> int:
        """GPUs of the group."""
        return int(self.sent.shape[-1])

    @property
    def per_node(self) -> int:
        """GPUs of the group on a node."""
        return min(self.gpus_per_node, self.ranks)

    @property
    def nodes(self) -> int:
        """Nodes of the group."""
        return self.ranks // self.per_node


def from_loads(loads: Loads, gpus_per_node: int) -> HopCopies:
    """Copies from the loads of a whole group.

    Loads do not say how many of a rank's tokens are wanted on its own node; every rank gets the
    mean of the draw, which only shifts the SMs' work by a little.
    """
    if loads.expert_tokens is None:
        raise InputError("loads of one recorded rank do not say what the other GPUs move")
    nodes = loads.nodes_per_token * loads.tokens.mean(axis=1)
    own = np.maximum(nodes - loads.ib_out_copies.mean(axis=1), 0.0)[:, None]
    return HopCopies(
        gpus_per_node=gpus_per_node,
        sent=loads.ib_out_copies + own,
        landed=loads.ib_in_copies + own,
        forwarded=loads.nvl_out_copies + (loads.unique - loads.nvl_in_copies),
        received=loads.unique,
        ib_out=loads.ib_out_copies,
        ib_in=loads.ib_in_copies,
        nvl_out=loads.nvl_out_copies,
        nvl_in=loads.nvl_in_copies,
        tokens=loads.tokens,
    )


def from_dispatches(dispatches: Dispatches) -> HopCopies:
    """Copies of routed dispatches, GPU by GPU."""
    place = dispatches.placement
    draws, ranks, nodes = dispatches.landed.shape
    per_node = ranks // nodes
    rank = np.arange(ranks)
    own = dispatches.landed[:, rank, rank // per_node]
    keep = dispatches.forwarded[:, rank, rank % per_node]
    by_index = dispatches.landed.reshape(draws, nodes, per_node, nodes).sum(axis=1)
    landed = by_index.transpose(0, 2, 1).reshape(draws, ranks)
    by_gpu = dispatches.forwarded.reshape(draws, nodes, per_node, per_node).sum(axis=2)
    received = by_gpu.reshape(draws, ranks)
    sent = dispatches.landed.sum(axis=2)
    forwarded = dispatches.forwarded.sum(axis=2)
    return HopCopies(
        gpus_per_node=place.gpus_per_node,
        sent=sent,
        landed=landed,
        forwarded=forwarded,
        received=received,
        ib_out=sent - own,
        ib_in=landed - own,
        nvl_out=forwarded - keep,
        nvl_in=received - keep,
        tokens=dispatches.tokens,
    )
