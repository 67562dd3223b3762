"""Ring collectives and point-to-point sends, in closed form: latency plus the busiest port.

A group spans `nodes` nodes with `gpus_per_node` of its members in each. Chunks are pipelined, so
the NVLink and the NIC part run at once and the slower port sets the pace. Bytes are nccl-tests'
sizes: all-reduce S a rank in and out; all-gather and reduce-scatter S as the whole (gathered)
buffer. Bus bandwidth, by their definition, is S/t x 2(N-1)/N for all-reduce and
S/t x (N-1)/N for the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from simdeep.cost.calibration import Calibration, CollectiveCurve
    from simdeep.program.workload.kernel import F

CollectiveKind = Literal["all_reduce", "all_gather", "reduce_scatter"]

_PASSES = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}


class Links(Protocol):
    """The links of one GPU: bandwidths in B/s per direction, latencies in seconds."""

    @property
    def nvlink_bw(self) -> float:
        """NVLink bandwidth."""

    @property
    def nic_bw(self) -> float:
        """NIC bandwidth."""

    @property
    def nvlink_latency_s(self) -> float:
        """Latency of one hop inside a node."""

    @property
    def nic_latency_s(self) -> float:
        """Latency between nodes."""


@dataclass(frozen=True, slots=True, eq=False)
class TransferPrice:
    """Seconds a transfer takes on each port of a GPU alone, and what it takes from compute.

    `floor_s` is the time its SMs need to copy the bytes, `latency_s` what passes before bytes move
    (set-up and hops), `sms` the SMs held, `draw` its pull on HBM and L2 in units of one all-to-all
    transfer of the calibration.
    """

    ib_out_s: F
    ib_in_s: F
    nvl_out_s: F
    nvl_in_s: F
    floor_s: F
    latency_s: F
    sms: int
    draw: float

    @property
    def ports(self) -> tuple[F, F, F, F]:
        """Port times in the order IB out, IB in, NVLink out, NVLink in."""
        return self.ib_out_s, self.ib_in_s, self.nvl_out_s, self.nvl_in_s

    @property
    def moving_s(self) -> F:
        """Seconds bytes move: the busiest port or the copying SMs."""
        slowest: F = np.maximum.reduce(np.broadcast_arrays(*self.ports, self.floor_s))
        return float(slowest) if np.ndim(slowest) == 0 else slowest

    @property
    def alone_s(self) -> F:
        """Seconds with nothing beside it."""
        return self.latency_s + self.moving_s


@dataclass(frozen=True, slots=True)
class Group:
    """Members of a collective: `gpus_per_node` of them in each of `nodes` nodes."""

    nodes: int
    gpus_per_node: int

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.gpus_per_node < 1:
            raise ValueError(f"a group needs at least one GPU, got {self}")

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self.nodes * self.gpus_per_node

    @classmethod
    def of(cls, size: int, per_node: int) -> Group:
        """`size` ranks, `per_node` to a node (the last node may be the only, smaller one)."""
        inside = min(size, per_node)
        return cls(-(-size // inside), inside)


def collective(
    kind: CollectiveKind,
    nbytes: F,
    group: Group,
    links: Links,
    calibration: Calibration,
    sms: int = 0,
) -> TransferPrice:
    """A collective over a group by the best of a flat ring, a hierarchical ring and a tree.

    Flat: every node boundary is crossed by as many rings as it has NICs, so each NIC carries
    (N-1)/N S/g a pass. Hierarchical: (g-1)/g S over NVLink and (n-1)/n S/g over the NIC, in far
    fewer steps.
    """
    if group.size == 1:
        return _transfer(0.0 * nbytes, 0.0 * nbytes, 0.0, links, calibration, sms)
    passes, n, g = _PASSES[kind], group.nodes, group.gpus_per_node
    setup = calibration.collective.setup_s
    hop_in, hop_out = links.nvlink_latency_s, links.nic_latency_s
    hierarchical = _transfer(
        passes * (n - 1) / n * nbytes / g,
        passes * (g - 1) / g * nbytes,
        setup + passes * ((n - 1) * hop_out + (g - 1) * hop_in),
        links,
        calibration,
        sms,
    )
    if n == 1 or g == 1:
        return hierarchical
    share = passes * (group.size - 1) / group.size
    flat = _transfer(
        share * nbytes / g,
        share * nbytes,
        setup + passes * (n * hop_out + (group.size - 1 - n) * hop_in),
        links,
        calibration,
        sms,
    )
    found = [flat, hierarchical]
    if kind == "all_reduce":
        # A tree over nodes moves whole buffers, in few steps: best for a handful of bytes.
        tree = _transfer(
            passes * nbytes / g,
            passes * nbytes,
            setup + passes * (math.ceil(math.log2(n)) * hop_out + (g - 1) * hop_in),
            links,
            calibration,
            sms,
        )
        found.append(tree)
    return min(found, key=lambda p: float(np.sum(p.alone_s)))


def point_to_point(
    nbytes: F, links: Links, calibration: Calibration, *, same_node: bool, sms: int = 0
) -> TransferPrice:
    """One send to a peer, over NVLink within a node and over the NIC between nodes."""
    if same_node:
        return _transfer(0.0 * nbytes, nbytes, links.nvlink_latency_s, links, calibration, sms)
    return _transfer(nbytes, 0.0 * nbytes, links.nic_latency_s, links, calibration, sms)


def _transfer(
    nic_bytes: F, nvl_bytes: F, latency_s: float, links: Links, calibration: Calibration, sms: int
) -> TransferPrice:
    """The price of the same bytes out of and into a GPU."""
    curve: CollectiveCurve = calibration.collective
    nic_s = nic_bytes / (links.nic_bw * curve.nic_fraction)
    nvl_s = nvl_bytes / (links.nvlink_bw * curve.nvl_fraction)
    moved = 2.0 * float(np.sum(nic_bytes) + np.sum(nvl_bytes))
    busy = float(np.sum(np.maximum(nic_s, nvl_s)))
    rate = moved / busy if busy > 0 else 0.0
    draw = rate / calibration.draw_reference
    return TransferPrice(nic_s, nic_s, nvl_s, nvl_s, 0.0, latency_s, sms, draw)
