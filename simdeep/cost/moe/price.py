"""The one call: routed copies or messages in, finish times and bottlenecks out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from simdeep.cost.moe.constants import (
    PAIR_HEADER_BYTES,
    Direction,
    Kernels,
    load_kernels,
    token_bytes,
)
from simdeep.cost.moe.copies import HopCopies
from simdeep.cost.moe.lowlatency import low_latency_alltoall
from simdeep.cost.moe.normal import normal_alltoall
from simdeep.cost.moe.pairs import PairTraffic
from simdeep.cost.moe.result import AllToAll
from simdeep.errors import InputError

Mode = Literal["normal", "low-latency"]
Bandwidth = float | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PortLinks:
    """Usable bandwidth in B/s of a GPU and direction, one for all or one each, and latencies."""

    nvlink_bw: Bandwidth
    nic_bw: Bandwidth
    nvlink_latency_s: float = 0.0
    nic_latency_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("nvlink_bw", "nic_bw"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if not (np.isfinite(value).all() and (value > 0).all()):
                raise InputError(f"{name} must be above zero for every GPU, is {value.min()}")


def dispatch_combine(
    traffic: HopCopies | PairTraffic,
    links: PortLinks,
    direction: Direction = "dispatch",
    *,
    sms: int = 20,
    mode: Mode = "normal",
    hidden: int = 7168,
    dtype: str = "fp8",
    kernels: Kernels | None = None,
    nvlink: bool = True,
) -> AllToAll:
    """Finish times of every GPU of one dispatch or combine, for each routing draw.

    `traffic` is in dispatch direction for both: `HopCopies` in mode `normal`, `PairTraffic` in
    `low-latency`. `dtype` is the dispatched tokens'; combine is BF16. `sms` counts in `normal`
    only; `nvlink` False keeps low-latency messages of one node on the NIC, as DeepEP's first
    kernels did.
    """
    kernels = kernels or load_kernels()
    size = token_bytes(direction, hidden, dtype)
    if mode == "low-latency":
        if not isinstance(traffic, PairTraffic):
            raise InputError("low-latency kernels are priced from (token, expert) pairs")
        size += PAIR_HEADER_BYTES if direction == "dispatch" else 0
        return low_latency_alltoall(traffic, links, direction, size, kernels, nvlink=nvlink)
    if mode != "normal":
        raise InputError(f"mode {mode!r}: must be normal or low-latency")
    if not isinstance(traffic, HopCopies):
        raise InputError("normal kernels are priced from the copies over each hop")
    if sms < 2:
        raise InputError(f"{sms} communication SMs: normal kernels need at least 2")
    return normal_alltoall(traffic, links, direction, sms, size, kernels)


def fewest_sms(times: Sequence[tuple[int, float]], slack: float = 0.05) -> int:
    """The SM count where more stop helping: the fewest whose time is within `slack` of the best."""
    best = min(t for _, t in times)
    return min(s for s, t in times if t <= best * (1.0 + slack))
