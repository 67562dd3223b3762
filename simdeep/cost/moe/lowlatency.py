"""Low-latency kernels: one message for each (token, expert) pair, straight to its GPU.

Messages to other nodes go over the NIC, those inside a node over NVLink (or over the NIC too, in
kernels that use RDMA alone); the two run side by side. A receiver is done when the slowest
sender's last message is in: senders serve their destinations in turn. In dispatch all send alike
and the receiver's own port counts; in combine a GPU with popular experts has more to send back,
and all wait for it, the longer the more GPUs there are. No SM is held while messages are under way.

At 7,168 hidden a NIC sends some 6 million messages a second, far below what its message rate
limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simdeep.cost.moe.constants import Direction, Kernels
from simdeep.cost.moe.pairs import PairTraffic
from simdeep.cost.moe.result import AllToAll

if TYPE_CHECKING:
    from simdeep.cost.moe.price import PortLinks


def low_latency_alltoall(
    traffic: PairTraffic,
    links: PortLinks,
    direction: Direction,
    message_bytes: float,
    kernels: Kernels,
    *,
    nvlink: bool = True,
) -> AllToAll:
    """Price the point-to-point kernel of a direction; `nvlink` False: RDMA inside nodes too."""
    kernel = kernels.low_latency
    ranks = traffic.ranks
    node = np.arange(ranks) // traffic.gpus_per_node
    same_node = node[:, None] == node[None, :]
    other = ~np.eye(ranks, dtype=bool)
    pairs = traffic.pairs if direction == "dispatch" else traffic.pairs.swapaxes(-1, -2)
    by_nvl = pairs * (same_node & other if nvlink else False)
    by_ib = pairs * (~same_node if nvlink else other)
    counts = np.stack([by_ib.sum(-1), by_ib.sum(-2), by_nvl.sum(-1), by_nvl.sum(-2)])
    port_bytes = counts * message_bytes
    bandwidth = np.stack(
        [
            np.broadcast_to(np.asarray(links.nic_bw) * kernel.nic_efficiency, ranks),
            np.broadcast_to(np.asarray(links.nvlink_bw) * kernel.nvlink_efficiency, ranks),
        ]
    )
    port_s = port_bytes / bandwidth[[0, 0, 1, 1], None]
    own = port_s.max(axis=0)
    ib_wait = port_s[0].max(axis=-1, keepdims=True)
    per_node = min(traffic.gpus_per_node, ranks)
    nvl_out = port_s[2].reshape(-1, ranks // per_node, per_node)
    nvl_wait = np.broadcast_to(nvl_out.max(axis=-1, keepdims=True), nvl_out.shape)
    ib = np.maximum(port_s[:2].max(axis=0), ib_wait)
    nvl = np.maximum(port_s[2:].max(axis=0), nvl_wait.reshape(own.shape))
    uses_nic = bool(by_ib.any())
    fixed = kernel.base_s + (links.nic_latency_s if uses_nic else links.nvlink_latency_s)
    causes = np.stack([ib, nvl, np.zeros_like(ib), np.full_like(ib, fixed)])
    logical = pairs.sum(-1) if direction == "dispatch" else pairs.sum(-2)
    return AllToAll(
        finish_s=fixed + np.maximum(ib, nvl),
        alone_s=fixed + own,
        notify_s=0.0,
        port_bytes=port_bytes,
        port_s=port_s,
        logical_ib_bytes=logical * message_bytes,
        logical_nvl_bytes=logical * message_bytes,
        bottleneck=causes.argmax(axis=0).astype(np.int8),
        sms=0,
    )
