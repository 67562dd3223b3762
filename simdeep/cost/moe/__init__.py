"""Expert dispatch and combine kernels: where their bytes go, and when each GPU is done."""

from __future__ import annotations

from simdeep.cost.moe.claims import NodeLimit, experts_within_ib_time, node_limit_times
from simdeep.cost.moe.constants import (
    Direction,
    Kernels,
    LowLatencyKernel,
    NormalKernel,
    ideal_kernels,
    load_kernels,
    token_bytes,
)
from simdeep.cost.moe.copies import HopCopies, from_dispatches, from_loads
from simdeep.cost.moe.pairs import PairTraffic, from_tokens, random_pairs
from simdeep.cost.moe.price import Mode, PortLinks, dispatch_combine, fewest_sms
from simdeep.cost.moe.result import BOTTLENECKS, AllToAll

__all__ = [
    "BOTTLENECKS",
    "AllToAll",
    "Direction",
    "HopCopies",
    "Kernels",
    "LowLatencyKernel",
    "Mode",
    "NodeLimit",
    "NormalKernel",
    "PairTraffic",
    "PortLinks",
    "dispatch_combine",
    "experts_within_ib_time",
    "fewest_sms",
    "from_dispatches",
    "from_loads",
    "from_tokens",
    "ideal_kernels",
    "load_kernels",
    "node_limit_times",
    "random_pairs",
    "token_bytes",
]
