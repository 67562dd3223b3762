"""An expert dispatch and combine on a real cluster: routed tokens, kernels, and the fabric."""

from __future__ import annotations

from simdeep.network.alltoall import BOTTLENECKS, Outcome, prepare, run_direction, simulate_alltoall
from simdeep.network.fabric import FabricRun, HotLink
from simdeep.network.read import Flags, read_setting
from simdeep.network.routed import Routed, Tokens, draw_tokens, route_tokens
from simdeep.network.setting import DIRECTIONS, PLACEMENTS, Setting, limited_gate, parse_routing
from simdeep.network.sweeps import (
    EpPoint,
    ExpertsPoint,
    SmPoint,
    sweep_ep,
    sweep_experts_per_node,
    sweep_node_limit,
    sweep_sms,
)

__all__ = [
    "BOTTLENECKS",
    "DIRECTIONS",
    "PLACEMENTS",
    "EpPoint",
    "ExpertsPoint",
    "FabricRun",
    "Flags",
    "HotLink",
    "Outcome",
    "Routed",
    "Setting",
    "SmPoint",
    "Tokens",
    "draw_tokens",
    "limited_gate",
    "parse_routing",
    "prepare",
    "read_setting",
    "route_tokens",
    "run_direction",
    "simulate_alltoall",
    "sweep_ep",
    "sweep_experts_per_node",
    "sweep_node_limit",
    "sweep_sms",
]
