"""A better placement of redundant experts: local search from the published heuristics' outcome."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simdeep.program.placement.eplb import deal, eplb_slots, packed
from simdeep.program.placement.room import Room
from simdeep.program.placement.search_kernel import search_kernel
from simdeep.program.routing.kernels import F64, I64, compiled

ROUNDS = 2_000
"""Kicks of the search: a quarter of a second for 256 experts on 32 GPUs."""

_GROUP_ROUNDS = 200


def search_slots(
    load: npt.ArrayLike,
    room: Room,
    hierarchical: bool | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> I64:
    """The expert in each slot, [ranks, slots a rank]; never worse than `eplb_slots`.

    A search that swaps slots between GPUs and gives replicas to other experts, see `search_kernel`;
    hierarchical, first in the same way for which groups are on which node, and then inside nodes.
    The outcome depends on the arguments alone.
    """
    values = room.check(load)
    if hierarchical is None:
        hierarchical = room.hierarchical
    rng = np.random.default_rng(seed)
    published = eplb_slots(values, room, hierarchical)
    starts = [published]
    if hierarchical and room.nodes > 1:
        starts.append(_by_searched_groups(values, room, rng))
    per_node = room.ranks // room.nodes if hierarchical else room.ranks
    kicks = rng.integers(0, 1 << 62, (rounds, 3))
    found = [_searched(values, start, per_node, kicks) for start in starts]
    return min(found, key=lambda slots: _peak(values, slots))


def _by_searched_groups(load: F64, room: Room, rng: np.random.Generator) -> I64:
    """Groups dealt out to nodes by the search, then replicas as published."""
    groups = load.reshape(room.groups, -1)
    weight = groups.sum(axis=1)
    kicks = rng.integers(0, 1 << 62, (_GROUP_ROUNDS, 3))
    nodes = _searched(weight, deal(weight, room.nodes)[0], room.nodes, kicks)
    members = np.arange(len(load)).reshape(room.groups, -1)
    ranks = room.ranks // room.nodes
    return np.concatenate(
        [
            packed(load[experts], experts, ranks, room.slots_per_rank)
            for experts in (members[node].ravel() for node in nodes)
        ]
    )


def _searched(load: F64, slots: I64, ranks_per_node: int, kicks: I64) -> I64:
    improved = np.ascontiguousarray(slots, dtype=np.int64).copy()
    compiled(search_kernel)(load, improved, ranks_per_node, kicks)
    return improved


def _peak(load: F64, slots: I64) -> float:
    share = load / np.maximum(1, np.bincount(slots.ravel(), minlength=len(load)))
    return float(share[slots].sum(axis=1).max())
