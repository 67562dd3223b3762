"""Expert placement: which GPUs hold which experts, and which experts are held more than once."""

from __future__ import annotations

from simdeep.program.placement.compare import (
    PlacementRow,
    compare_placements,
    reference_loads,
)
from simdeep.program.placement.eplb import eplb, eplb_slots
from simdeep.program.placement.policies import POLICIES, Policy, place
from simdeep.program.placement.room import Room, gpu_loads, max_over_mean
from simdeep.program.placement.search import search_slots
from simdeep.program.routing.placement import Placement, by_slot, contiguous, explicit

__all__ = [
    "POLICIES",
    "Placement",
    "PlacementRow",
    "Policy",
    "Room",
    "by_slot",
    "compare_placements",
    "contiguous",
    "eplb",
    "eplb_slots",
    "explicit",
    "gpu_loads",
    "max_over_mean",
    "place",
    "reference_loads",
    "search_slots",
]
