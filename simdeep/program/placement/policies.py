"""Placement policies by name."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError
from simdeep.program.placement.eplb import eplb_slots
from simdeep.program.placement.room import Room
from simdeep.program.placement.search import search_slots
from simdeep.program.routing.placement import Placement, by_slot, contiguous

Policy = Literal[
    "contiguous", "eplb", "eplb-hierarchical", "eplb-global", "search-hierarchical", "search-global"
]
POLICIES: tuple[Policy, ...] = get_args(Policy)


def place(policy: Policy, load: npt.ArrayLike, room: Room) -> Placement:
    """Place experts of given loads [experts] in a room.

    `contiguous` leaves slots for replicas empty; `eplb` is hierarchical where the room allows it
    and global elsewhere, as published; the others are what they say, and refused where the groups
    of experts cannot be dealt out evenly to nodes.
    """
    values = room.check(load)
    if policy == "contiguous":
        return contiguous(len(values), room.ranks, room.gpus_per_node)
    if policy not in POLICIES:
        raise InputError(f"placement policy {policy!r}: must be one of {', '.join(POLICIES)}")
    hierarchical = None if policy == "eplb" else policy.endswith("hierarchical")
    if hierarchical and not room.hierarchical:
        raise InputError(
            f"{policy}: {room.groups} groups of experts cannot be dealt out evenly to {room.nodes} "
            "nodes; take the global policy"
        )
    find = eplb_slots if policy.startswith("eplb") else search_slots
    slots = find(values, room, hierarchical)
    return by_slot(slots.astype(np.int32), len(values), room.gpus_per_node)
