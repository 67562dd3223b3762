"""High-throughput kernels: IB to the node, NVLink behind it, both copied by a few SMs.

A GPU's time is made of two stages that run pipelined chunk by chunk:

- *wire*: bytes through its NIC, the fuller direction, at the achieved bandwidth;
- *copy*: its SMs copy tokens between memory, the NIC's buffers and the peers' buffers over NVLink.
  A channel (a pair of SMs) has one chunk in flight: it works on it alone, then queues for the GPU's
  NVLink port with the other channels. The mean of that closed queue is `copy_time`.

A channel that has n chunks overlaps all but one of them: the time is the longer stage plus 1/n of
the shorter one. With 128 tokens there is one chunk, so the hops follow each other; with 4,096 the
longer one hides the shorter. The NIC moves bytes on its own, so a full NIC does not slow the
copying of the chunks before it; a full NVLink does, since SMs wait for their own stores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simdeep.cost.moe.constants import SMS_PER_CHANNEL, Direction, Kernels
from simdeep.cost.moe.copies import F64, HopCopies
from simdeep.cost.moe.result import AllToAll

if TYPE_CHECKING:
    from simdeep.cost.moe.price import PortLinks


def normal_alltoall(
    copies: HopCopies,
    links: PortLinks,
    direction: Direction,
    sms: int,
    token_bytes: float,
    kernels: Kernels,
) -> AllToAll:
    """Price the high-throughput kernel of a direction with `sms` SMs (at least 2)."""
    kernel = kernels.normal(direction)
    one_node = copies.nodes == 1
    counts = np.stack([copies.ib_out, copies.ib_in, copies.nvl_out, copies.nvl_in])
    if direction == "combine":
        counts = counts[[1, 0, 3, 2]]
    port_bytes = counts * token_bytes
    nic = np.asarray(links.nic_bw) * kernels.nic_efficiency
    nvlink = np.asarray(links.nvlink_bw) * kernels.nvlink_efficiency
    port_s = (
        port_bytes
        / np.stack([np.broadcast_to(b, copies.ranks) for b in (nic, nvlink)])[[0, 0, 1, 1], None]
    )
    wire = port_s[:2].max(axis=0)
    nvl = port_s[2:].max(axis=0)
    if one_node:
        per_sm = copies.forwarded / kernel.local_rate
    else:
        per_sm = copies.landed / kernel.node_rate + copies.forwarded / kernel.copy_rate
    work = per_sm * token_bytes / sms
    channels = max(1, sms // SMS_PER_CHANNEL)
    copy = copy_time(work, nvl, channels)
    chunks = np.maximum(copies.tokens / channels / kernel.chunk_tokens, 1.0)
    fixed = (kernel.local_base_s if one_node else kernel.base_s) + links.nvlink_latency_s
    if not one_node:
        fixed += links.nic_latency_s

    alone = _pipelined(wire, copy, chunks) + fixed
    slow_wire, slow_copy = _slowest_feeder(copies, direction, port_s, wire, copy)
    finish = _pipelined(slow_wire, slow_copy, chunks) + fixed
    by_cause = np.stack(
        [
            slow_wire,
            np.where(nvl >= work, slow_copy, -1.0),
            np.where(nvl >= work, -1.0, slow_copy),
            np.full_like(wire, fixed),
        ]
    )
    logical = np.stack([copies.sent, copies.received]) * token_bytes
    return AllToAll(
        finish_s=finish,
        alone_s=alone,
        notify_s=kernel.notify_s + kernel.notify_per_node_s * (copies.nodes - 1),
        port_bytes=port_bytes,
        port_s=port_s,
        logical_ib_bytes=logical[0],
        logical_nvl_bytes=logical[1],
        bottleneck=by_cause.argmax(axis=0).astype(np.int8),
        sms=sms,
    )


def copy_time(work: F64, port: F64, channels: int) -> F64:
    """Time of `channels` channels whose own work and whose shared port each need this time alone.

    Mean value analysis of a closed queue: each channel works on a chunk by itself, then waits its
    turn at the port. With idle SMs or an idle port it is the other's time; where both are near
    balance it is longer than either, the less so the more channels there are.
    """
    queued = np.zeros(np.broadcast_shapes(np.shape(work), np.shape(port)))
    seconds = np.zeros_like(queued)
    for inside in range(1, channels + 1):
        at_port = port * (1.0 + queued)
        cycle = channels * work + at_port
        seconds = cycle / inside
        queued = np.divide(at_port, seconds, out=np.zeros_like(queued), where=seconds > 0)
    return np.asarray(seconds)


def _pipelined(wire: F64, copy: F64, chunks: F64) -> F64:
    return np.asarray(np.maximum(wire, copy) + np.minimum(wire, copy) / chunks)


def _slowest_feeder(
    copies: HopCopies, direction: Direction, port_s: F64, wire: F64, copy: F64
) -> tuple[F64, F64]:
    """Wire and copy times a GPU has to wait for: its own and those of who feeds it.

    Dispatch: it receives through every GPU of its node, which take in what every GPU sent. Combine:
    it receives from the GPUs of its index, each of which waited for its whole node. Senders serve
    their destinations in turn, so their last chunk to anyone comes near their own end.
    """
    shape = (*wire.shape[:-1], copies.nodes, copies.per_node)
    out, into = (port_s[i].reshape(shape) for i in (0, 1))
    copying = copy.reshape(shape)
    if direction == "dispatch":
        feed = np.maximum(out.max(axis=(-2, -1), keepdims=True), into.max(axis=-1, keepdims=True))
        slow_copy = np.broadcast_to(copying.max(axis=-1, keepdims=True), shape)
    else:
        feed = out.max(axis=-2, keepdims=True)
        slow_copy = np.broadcast_to(copying.max(axis=(-2, -1), keepdims=True), shape)
    slow_wire = np.maximum(wire.reshape(shape), feed)
    return slow_wire.reshape(wire.shape), slow_copy.reshape(copy.shape)
