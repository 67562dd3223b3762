"""Where experts live: which ranks of an expert-parallel group hold each expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simdeep.errors import InputError
from simdeep.program.routing.kernels import I32


@dataclass(frozen=True, eq=False)
class Placement:
    """Slots of experts on the ranks of one expert-parallel group.

    Expert e has the slots `slot_ptr[e]:slot_ptr[e + 1]`, more than one if it is replicated (its
    tokens then take them in turn); slot s is on rank `slot_rank[s]`. Rank r is GPU
    `r % gpus_per_node` of node `r // gpus_per_node`: the group fills whole nodes or part of one.
    """

    ranks: int
    gpus_per_node: int
    slot_ptr: I32
    slot_rank: I32

    def __post_init__(self) -> None:
        if self.ranks < 1 or self.gpus_per_node < 1:
            raise InputError(
                f"an expert-parallel group of {self.ranks} ranks, {self.gpus_per_node} a node: "
                "both must be at least 1"
            )
        if self.ranks > self.gpus_per_node and self.ranks % self.gpus_per_node:
            raise InputError(
                f"an expert-parallel group of {self.ranks} ranks does not fill nodes of "
                f"{self.gpus_per_node} GPUs: it must be a multiple of them or fit in one node"
            )
        unplaced = np.flatnonzero(np.diff(self.slot_ptr) < 1)
        if len(unplaced):
            raise InputError(f"expert {unplaced[0]} is placed on no rank")
        wrong = np.flatnonzero((self.slot_rank < 0) | (self.slot_rank >= self.ranks))
        if len(wrong):
            raise InputError(
                f"an expert is placed on rank {self.slot_rank[wrong[0]]}; ranks are 0 to "
                f"{self.ranks - 1}"
            )

    @property
    def experts(self) -> int:
        """Number of distinct experts."""
        return len(self.slot_ptr) - 1

    @property
    def nodes(self) -> int:
        """Number of nodes the group is on."""
        return -(-self.ranks // self.gpus_per_node)


def contiguous(experts: int, ranks: int, gpus_per_node: int) -> Placement:
    """Expert e on rank `e // (experts / ranks)`, each expert once: the training placement."""
    if ranks < 1 or experts % ranks:
        raise InputError(f"{experts} experts do not divide over {ranks} expert-parallel ranks")
    per_rank = experts // ranks
    return explicit([[e // per_rank] for e in range(experts)], ranks, gpus_per_node)


def explicit(ranks_of_expert: Sequence[Sequence[int]], ranks: int, gpus_per_node: int) -> Placement:
    """Each expert on the listed ranks, one slot (replica) for each entry."""
    counts = [len(r) for r in ranks_of_expert]
    return Placement(
        ranks,
        gpus_per_node,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        np.array([r for replicas in ranks_of_expert for r in replicas], dtype=np.int32),
    )
