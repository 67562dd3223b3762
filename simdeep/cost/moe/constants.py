"""The constants of the kernels, as `python -m simdeep.cost.moe.fit` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, Literal

import simdeep
from simdeep.errors import InputError
from simdeep.spec.yamlio import load_document

Direction = Literal["dispatch", "combine"]

DATA = Path(simdeep.__file__).parent / "data" / "alltoall"
FITTED = DATA / "deepep.yaml"

SMS_PER_CHANNEL = 2
"""A channel is a pair of SMs: one sends to IB and takes in from NVLink, one forwards."""

SCALE_TILE = 128
"""Elements that share one FP32 scale in an FP8 tensor (DeepSeek-V3 report, section 3.3.2)."""

PAIR_HEADER_BYTES = 16
"""Header of a low-latency dispatch message (the token's index at its source), same repository."""


def token_bytes(direction: Direction, hidden: int, dtype: str = "fp8") -> float:
    """Bytes of one token copy: 7,392 for FP8 dispatch and 14,336 for combine at hidden 7,168."""
    if direction == "combine" or dtype != "fp8":
        return 2.0 * hidden
    return hidden + 4.0 * hidden / SCALE_TILE


@dataclass(frozen=True, slots=True)
class NormalKernel:
    """One direction of the high-throughput kernels; rates in B/s for one SM, times in s."""

    node_rate: float
    """Copy of a token between its GPU and a node: the IB send and the take-in at the forwarder."""
    copy_rate: float
    """Copy of a token between where it landed and a GPU of that node."""
    local_rate: float
    """Copy of a token to a GPU where the group is one node: the kernel without forwarding."""
    chunk_tokens: float
    """Tokens of a chunk, the grain at which the hops overlap (DeepEP's test tunes 4 to 32)."""
    base_s: float
    """What passes besides moving bytes: launch, channel set-up, last flags; latencies apart."""
    local_base_s: float
    """The same of the kernel without forwarding."""
    notify_s: float
    """The layout exchange before the kernel, on one node."""
    notify_per_node_s: float
    """More of it for each further node."""


@dataclass(frozen=True, slots=True)
class LowLatencyKernel:
    """Point-to-point kernels: every (token, expert) pair is one message; no SM is held."""

    nic_efficiency: float
    nvlink_efficiency: float
    base_s: float


@dataclass(frozen=True, slots=True)
class Kernels:
    """Constants of both kinds of kernels; efficiencies are shares of the usable bandwidth."""

    nic_efficiency: float
    nvlink_efficiency: float
    dispatch: NormalKernel
    combine: NormalKernel
    low_latency: LowLatencyKernel

    def normal(self, direction: Direction) -> NormalKernel:
        """The high-throughput kernel of a direction."""
        return self.dispatch if direction == "dispatch" else self.combine


def ideal_kernels() -> Kernels:
    """Kernels that only the ports limit: all bandwidth, endless SM rate, no fixed time."""
    free = NormalKernel(inf, inf, inf, 1.0, 0.0, 0.0, 0.0, 0.0)
    return Kernels(1.0, 1.0, free, free, LowLatencyKernel(1.0, 1.0, 0.0))


@cache
def load_kernels(path: Path = FITTED) -> Kernels:
    """The shipped constants, or those of another file of the same form."""
    document = load_document(path)
    if not isinstance(document.data, Mapping) or "constants" not in document.data:
        raise InputError(f"{path}: must hold `constants`, as the kernel fit writes them")
    try:
        return kernels_of(
            {name: float(entry["value"]) for name, entry in document.data["constants"].items()}
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: constants: {error!r}; see data/alltoall/SOURCES.md") from error


def kernels_of(values: Mapping[str, Any]) -> Kernels:
    """Kernels from named constants (names as in the file, units in their last part)."""

    def normal(direction: Direction) -> NormalKernel:
        def get(name: str) -> float:
            return float(values[f"{direction}_{name}"])

        return NormalKernel(
            node_rate=get("node_GBps_per_sm") * 1e9,
            copy_rate=get("copy_GBps_per_sm") * 1e9,
            local_rate=get("local_GBps_per_sm") * 1e9,
            chunk_tokens=get("chunk_tokens"),
            base_s=get("base_us") * 1e-6,
            local_base_s=get("local_base_us") * 1e-6,
            notify_s=get("notify_us") * 1e-6,
            notify_per_node_s=get("notify_per_node_us") * 1e-6,
        )

    return Kernels(
        nic_efficiency=float(values["nic_efficiency"]),
        nvlink_efficiency=float(values["nvlink_efficiency"]),
        dispatch=normal("dispatch"),
        combine=normal("combine"),
        low_latency=LowLatencyKernel(
            nic_efficiency=float(values["low_latency_nic_efficiency"]),
            nvlink_efficiency=float(values["low_latency_nvlink_efficiency"]),
            base_s=float(values["low_latency_base_us"]) * 1e-6,
        ),
    )
