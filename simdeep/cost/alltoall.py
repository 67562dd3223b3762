"""The expert all-to-all: bytes over each port of the busiest and the own rank, and their price.

A token goes over IB once to the GPU of its own index in each other node that wants it, then over
NVLink to the GPUs that hold its experts. The two hops are pipelined: the busier port sets the
pace. Combine takes the same way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from simdeep.cost.collectives import Links, TransferPrice

if TYPE_CHECKING:
    from simdeep.cost.calibration import Calibration
    from simdeep.program.workload.kernel import F

AllToAllKind = Literal["dispatch", "dispatch_cached", "combine"]
"""`dispatch` lays out and sends activations; `dispatch_cached` reuses the layout (the backward of
combine); `combine` sends back and sums (also the backward of dispatch)."""

SCALE_TILE = 128
"""Elements that share one FP32 scale in an FP8 tensor (DeepSeek-V3 report, section 3.3.2)."""


@dataclass(frozen=True, slots=True, eq=False)
class PortBytes:
    """Bytes through the four ports of one GPU, one number or one for each routing draw."""

    ib_out: F
    ib_in: F
    nvl_out: F
    nvl_in: F

    def reversed(self) -> PortBytes:
        """The way back: what went out comes in."""
        return PortBytes(self.ib_in, self.ib_out, self.nvl_in, self.nvl_out)

    @property
    def total(self) -> F:
        """Bytes through all four ports."""
        return self.ib_out + self.ib_in + self.nvl_out + self.nvl_in


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """One all-to-all: bytes of the busiest rank (largest over ranks, port by port) and of ours."""

    kind: AllToAllKind
    busiest: PortBytes
    own: PortBytes


def token_bytes(kind: AllToAllKind, hidden: int, dtype: str = "fp8") -> float:
    """Bytes of one token copy: 7,392 for FP8 dispatch and 14,336 for combine at hidden 7,168."""
    if kind == "combine" or dtype != "fp8":
        return 2.0 * hidden
    return hidden + 4.0 * hidden / SCALE_TILE


def traffic(
    kind: AllToAllKind,
    hidden: int,
    ib_out: npt.ArrayLike,
    ib_in: npt.ArrayLike,
    nvl_out: npt.ArrayLike,
    nvl_in: npt.ArrayLike,
    *,
    own: int = 0,
    dtype: str = "fp8",
) -> Traffic:
    """Traffic from token copies through each port in dispatch direction, ranks on the last axis."""
    size = token_bytes(kind, hidden, dtype)
    columns = [np.asarray(c, dtype=np.float64) * size for c in (ib_out, ib_in, nvl_out, nvl_in)]
    busiest = PortBytes(*(c.max(axis=-1) for c in columns))
    mine = PortBytes(*(c[..., own] for c in columns))
    if kind == "combine":
        busiest, mine = busiest.reversed(), mine.reversed()
    return Traffic(kind, busiest, mine)


def mean_traffic(
    kind: AllToAllKind,
    hidden: int,
    tokens: F,
    *,
    remote_nodes: float,
    gpus: float,
    gpus_per_node: int,
    dtype: str = "fp8",
) -> Traffic:
    """Traffic of the average rank: every rank the same.

    A token is copied over IB to `remote_nodes` nodes and is wanted by `gpus` GPUs, of which one in
    `gpus_per_node` is the very GPU where it arrived and needs no NVLink.
    """
    size = token_bytes(kind, hidden, dtype)
    ib = tokens * remote_nodes * size
    nvl = tokens * gpus * (1.0 - 1.0 / gpus_per_node) * size
    same = PortBytes(ib, ib, nvl, nvl)
    return Traffic(kind, same, same)


def price_alltoall(
    load: Traffic,
    links: Links,
    calibration: Calibration,
    sms: int,
    whose: Literal["busiest", "own"] = "busiest",
) -> TransferPrice:
    """Port times, copying floor and set-up of one all-to-all with `sms` copying SMs.

    The busiest rank sets the pace, since every rank waits for all it is to receive. `latency_s` is
    the set-up (layout, notification, cast on the communication stream), which the trace's transfer
    spans do not hold (`moving_s` is what compares to them); waiting for peers is in
    neither. With no SMs (RDMA issued by a few threads) nothing is floored.
    """
    curve = calibration.alltoall[load.kind]
    port = load.busiest if whose == "busiest" else load.own
    ib = links.nic_bw * curve.ib_fraction
    nvl = links.nvlink_bw * curve.nvl_fraction
    floor: F = 0.0
    if sms > 0:
        floor = (
            np.maximum(port.ib_out, port.ib_in) / curve.ib_per_sm
            + np.maximum(port.nvl_out, port.nvl_in) / curve.nvl_per_sm
        ) / sms
    return TransferPrice(
        port.ib_out / ib,
        port.ib_in / ib,
        port.nvl_out / nvl,
        port.nvl_in / nvl,
        floor,
        curve.setup_s,
        sms,
        1.0,
    )
