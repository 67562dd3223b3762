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

    Expert e has the slots `slot_ptr[e]:slot_ptr[e + 1]`, one or, if it is replicated, more: the
    n-th token of a dispatch that goes to it then takes replica `n % replicas`, whatever rank it
    comes from. Slot s is on rank `slot_rank[s]`. Rank r is GPU `r % gpus_per_node` of node
    `r // gpus_per_node`: the group fills whole nodes or part of one.
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
    def slots(self) -> int:
        """Number of slots of all ranks: experts and their replicas."""
        return len(self.slot_rank)

    @property
    def replicas(self) -> I32:
        """Slots of each expert, [experts]."""
        return np.diff(self.slot_ptr)

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


def explicit(
    ranks_of_expert: Sequence[Sequence[int]],
    ranks: int,
    gpus_per_node: int,
    slots_per_rank: int | None = None,
) -> Placement:
    """Each expert on the listed ranks, one slot (replica) for each entry.

    With `slots_per_rank`, a rank that would need more is refused.
    """
    counts = [len(r) for r in ranks_of_expert]
    placement = Placement(
        ranks,
        gpus_per_node,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        np.array([r for replicas in ranks_of_expert for r in replicas], dtype=np.int32),
    )
    if slots_per_rank is not None:
        used = np.bincount(placement.slot_rank, minlength=ranks)
        full = np.flatnonzero(used > slots_per_rank)
        if len(full):
            raise InputError(
                f"rank {full[0]} is given {used[full[0]]} experts and replicas; it has "
                f"{slots_per_rank} slots"
            )
    return placement


def by_slot(expert_of_slot: I32, experts: int, gpus_per_node: int) -> Placement:
    """From the expert in each slot of each rank, [ranks, slots]."""
    flat = np.asarray(expert_of_slot, dtype=np.int32).ravel()
    ranks, per_rank = np.shape(expert_of_slot)
    wrong = np.flatnonzero((flat < 0) | (flat >= experts))
    if len(wrong):
        raise InputError(
            f"rank {wrong[0] // per_rank} has a slot of expert {flat[wrong[0]]}; experts are 0 to "
            f"{experts - 1}"
        )
    order = np.argsort(flat, kind="stable")
    counts = np.bincount(flat, minlength=experts)
    return Placement(
        ranks,
        gpus_per_node,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        (order // per_rank).astype(np.int32),
    )
