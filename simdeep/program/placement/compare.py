"""How evenly each policy spreads given loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simdeep.program.placement.policies import POLICIES, Policy, place
from simdeep.program.placement.room import Room, max_over_mean
from simdeep.program.routing.draws import gate_tokens
from simdeep.program.routing.gate import GateSpec
from simdeep.program.routing.kernels import F64
from simdeep.program.routing.popularity import Popularity
from simdeep.program.routing.trace import expert_loads
from simdeep.program.routing.trace_file import read_trace


@dataclass(frozen=True, slots=True)
class PlacementRow:
    """Load of the busiest GPU over that of the mean one, under one policy and loads."""

    loads: str
    policy: Policy
    slots: int
    """Experts and replicas placed."""
    planned: float
    """For the loads placed for: the mean of all draws."""
    drawn: float
    """For each draw's own loads; mean over draws."""


def compare_placements(
    loads: Mapping[str, F64], room: Room, policies: tuple[Policy, ...] | None = None
) -> tuple[PlacementRow, ...]:
    """One row for each named loads ([experts] or [draws, experts]) and policy.

    Experts are placed for the mean over draws. `policies` None: all that the room allows, `eplb`
    left out as it is one of the other two.
    """
    rows = []
    for name, given in loads.items():
        draws = np.atleast_2d(np.asarray(given, dtype=np.float64))
        mean = room.check(draws.mean(axis=0))
        for policy in policies or allowed_policies(room, len(mean)):
            placement = place(policy, mean, room)
            rows.append(
                PlacementRow(
                    name,
                    policy,
                    placement.slots,
                    float(max_over_mean(placement, mean)),
                    float(max_over_mean(placement, draws).mean()),
                )
            )
    return tuple(rows)


def allowed_policies(room: Room, experts: int) -> tuple[Policy, ...]:
    """Policies that a room allows."""

    def fits(policy: Policy) -> bool:
        if policy == "contiguous":
            return experts % room.ranks == 0
        return policy != "eplb" and (room.hierarchical or not policy.endswith("hierarchical"))

    return tuple(p for p in POLICIES if fits(p))


def reference_loads(gate: GateSpec, tokens: int = 65_536, seed: int = 0) -> dict[str, F64]:
    """Loads to compare placements on: uniform, skewed, and of the shipped example trace.

    Uniform and skewed (experts' popularity by Zipf's law, exponent 0.6) are one draw of `tokens`
    tokens of the gate, [experts]; the example, where it has as many experts, [dispatches, experts].
    """

    def drawn(popularity: Popularity) -> F64:
        experts, _ = gate_tokens(gate, 1, tokens, popularity, seed, 0)
        return np.bincount(experts.ravel(), minlength=gate.experts).astype(np.float64)

    loads = {"uniform": drawn(Popularity("normal", 0.0)), "skewed": drawn(Popularity("zipf", 0.6))}
    trace = read_trace()
    if trace.n_experts == gate.experts:
        loads["recorded"] = expert_loads(trace)
    return loads
