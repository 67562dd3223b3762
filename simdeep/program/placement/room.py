"""The room there is for experts, and how evenly a placement fills it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError
from simdeep.program.routing.kernels import F64
from simdeep.program.routing.placement import Placement


@dataclass(frozen=True, slots=True)
class Room:
    """Equal slots for experts on the GPUs of an expert-parallel group."""

    ranks: int
    gpus_per_node: int
    slots_per_rank: int
    groups: int = 1
    """Groups the gate's experts form; a hierarchical placement keeps a group on one node."""

    def __post_init__(self) -> None:
        for name in ("ranks", "gpus_per_node", "slots_per_rank", "groups"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"room for experts with {name} {getattr(self, name)}: must be at least 1"
                )
        if self.ranks > self.gpus_per_node and self.ranks % self.gpus_per_node:
            raise InputError(
                f"{self.ranks} ranks do not fill nodes of {self.gpus_per_node} GPUs: must be a "
                "multiple of them or fit in one node"
            )

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return -(-self.ranks // self.gpus_per_node)

    @property
    def slots(self) -> int:
        """Slots of all ranks: experts with their replicas."""
        return self.ranks * self.slots_per_rank

    @property
    def hierarchical(self) -> bool:
        """Whether whole groups of experts can be dealt out evenly to nodes."""
        return self.groups % self.nodes == 0

    def check(self, load: npt.ArrayLike) -> F64:
        """The loads of experts [experts], refused if they are wrong or the experts do not fit."""
        values = np.asarray(load, dtype=np.float64)
        if values.ndim != 1 or not values.size:
            raise InputError(f"loads of experts of shape {list(values.shape)}: must be [experts]")
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(wrong):
            raise InputError(
                f"expert {wrong[0]} has a load of {values[wrong[0]]}: must be a number from 0"
            )
        if values.size > self.slots:
            raise InputError(
                f"{values.size} experts on {self.ranks} ranks of {self.slots_per_rank} slots: "
                f"{values.size - self.slots} would not be placed"
            )
        if self.hierarchical and values.size % self.groups:
            raise InputError(f"{values.size} experts do not divide into {self.groups} groups")
        return values


def gpu_loads(placement: Placement, load: F64) -> F64:
    """Load of each GPU [..., ranks] from those of experts [..., experts], evenly over replicas."""
    share = np.repeat(load / placement.replicas, placement.replicas, axis=-1)
    where = np.zeros((placement.slots, placement.ranks))
    where[np.arange(placement.slots), placement.slot_rank] = 1.0
    return np.asarray(share @ where)


def max_over_mean(placement: Placement, load: F64) -> F64:
    """Load of the busiest GPU over that of the mean one, [...]; 1 where there is no load."""
    loads = gpu_loads(placement, load)
    mean = loads.mean(axis=-1)
    return np.asarray(np.where(mean > 0, loads.max(axis=-1) / np.where(mean > 0, mean, 1.0), 1.0))
