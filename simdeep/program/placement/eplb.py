"""DeepSeek's published heuristics for redundant experts (github.com/deepseek-ai/EPLB).

Hierarchical: deal out groups of experts to nodes, replicate experts inside each node, deal out
replicas to the node's GPUs. Global: replicate experts whatever their group, deal out replicas to
all GPUs. Replication gives one more replica, again and again, to the expert with the largest load a
replica; dealing out takes things from the largest down, each to the least loaded place with room.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simdeep.program.placement.room import Room
from simdeep.program.routing.kernels import F64, I64
from simdeep.program.routing.placement import Placement, by_slot


def eplb(load: npt.ArrayLike, room: Room) -> Placement:
    """`eplb_slots` as a placement."""
    slots = eplb_slots(load, room)
    return by_slot(slots.astype(np.int32), np.size(load), room.gpus_per_node)


def eplb_slots(load: npt.ArrayLike, room: Room, hierarchical: bool | None = None) -> I64:
    """The expert in each slot, [ranks, slots a rank], for loads of experts [experts].

    `hierarchical` None chooses as published: so if the number of groups is a multiple of the number
    of nodes, else globally. Ties go to the lower index.
    """
    values = room.check(load)
    if hierarchical is None:
        hierarchical = room.hierarchical
    if not hierarchical:
        return packed(values, np.arange(len(values)), room.ranks, room.slots_per_rank)
    groups = values.reshape(room.groups, -1)
    node_of, _ = deal(groups.sum(axis=1), room.nodes)
    members = np.arange(len(values)).reshape(room.groups, -1)
    ranks = room.ranks // room.nodes
    nodes = []
    for node in range(room.nodes):
        # In the order in which the groups were dealt: ties between experts go by it.
        dealt = node_of[node]
        experts = members[dealt].ravel()
        nodes.append(packed(values[experts], experts, ranks, room.slots_per_rank))
    return np.concatenate(nodes)


def packed(load: F64, experts: I64, ranks: int, slots_per_rank: int) -> I64:
    """`experts` with replicas dealt out to some ranks, [ranks, slots a rank]; `load` is theirs."""
    replica = replicate(load, ranks * slots_per_rank)
    counts = np.bincount(replica, minlength=len(load))
    members, _ = deal((load / counts)[replica], ranks)
    return experts[replica[members]]


def replicate(load: F64, slots: int) -> I64:
    """The expert of each of `slots` replicas: all experts in order, then the extra ones."""
    replicas = np.arange(slots)
    counts = np.ones(len(load))
    for extra in range(len(load), slots):
        most = int(np.argmax(load / counts))
        replicas[extra] = most
        counts[most] += 1
    return replicas


def deal(weight: F64, places: int) -> tuple[I64, F64]:
    """Deal out things to places, equally many each: things of each place, and its weight.

    Things are [places, things a place], in the order in which the place got them. One a place is
    not sorted but left as it is, as published.
    """
    room = len(weight) // places
    if room == 1:
        return np.arange(places).reshape(places, 1), weight
    members = np.empty((places, room), dtype=np.int64)
    held = np.zeros(places, dtype=np.int64)
    total = np.zeros(places)
    for thing in np.argsort(-weight, kind="stable"):
        place = int(np.argmin(np.where(held < room, total, np.inf)))
        members[place, held[place]] = thing
        held[place] += 1
        total[place] += weight[thing]
    return members, total
