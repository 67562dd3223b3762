"""The expert all-to-all of a training step: DeepEP's kernels as modelled alone, slowed by training.

`simdeep.cost.moe` predicts the kernel on an idle GPU from every rank's token copies. Beside compute
the same kernel takes longer (HBM and L2 are shared, ranks start apart, the traced kernels are older
than the published table's); by how much, for each kind, is measured on the H800 training trace.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Literal

from simdeep.cost.collectives import Links, TransferPrice
from simdeep.cost.moe import (
    HopCopies,
    Kernels,
    NormalKernel,
    PortLinks,
    dispatch_combine,
    load_kernels,
)
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.cost.calibration import Calibration
    from simdeep.cost.moe import AllToAll

AllToAllKind = Literal["dispatch", "dispatch_cached", "combine"]
"""`dispatch` lays out and sends activations; `dispatch_cached` reuses the layout (the backward of
combine); `combine` sends back and sums (also the backward of dispatch)."""


def isolated(
    kind: AllToAllKind, copies: HopCopies, links: Links, sms: int, hidden: int, dtype: str
) -> AllToAll:
    """The kernel on otherwise idle GPUs; with no SMs, transfers that need none to copy."""
    kernels = load_kernels()
    if sms == 1:
        message = "is 1; the transfers need at least 2 SMs to copy, or 0 (RDMA without SMs)"
        raise InputError([Problem("", "train.comm_sms", message)])
    return dispatch_combine(
        copies,
        PortLinks(links.nvlink_bw, links.nic_bw, links.nvlink_latency_s, links.nic_latency_s),
        "combine" if kind == "combine" else "dispatch",
        sms=sms or 2,
        hidden=hidden,
        dtype=dtype,
        kernels=kernels if sms else _offloaded(kernels),
    )


def _offloaded(kernels: Kernels) -> Kernels:
    """The same ports without SMs in the way."""

    def free(kernel: NormalKernel) -> NormalKernel:
        return replace(kernel, node_rate=inf, copy_rate=inf, local_rate=inf)

    return replace(kernels, dispatch=free(kernels.dispatch), combine=free(kernels.combine))


def price_alltoall(
    kind: AllToAllKind,
    copies: HopCopies,
    links: Links,
    calibration: Calibration,
    *,
    sms: int,
    hidden: int,
    dtype: str,
    by_rank: bool = False,
) -> TransferPrice:
    """Price of one all-to-all in training for each routing draw.

    The result has an entry for each draw: the ports of the busiest rank, and the time at which the
    last one is done as `floor_s`. `by_rank` gives every (draw, rank) its own, rank fastest. The
    set-up (layout, notification, cast on the communication stream) is `latency_s`; waiting for
    peers is not in it, the engine adds that.
    """
    curve = calibration.alltoall[kind]
    alone = isolated(kind, copies, links, sms, hidden, dtype)
    ports = alone.port_s * curve.slowdown
    finish = alone.finish_s * curve.slowdown
    if by_rank:
        ports, finish = ports.reshape(4, -1), finish.reshape(-1)
    else:
        ports, finish = ports.max(axis=2), finish.max(axis=1)
    ib_out, ib_in, nvl_out, nvl_in = ports
    return TransferPrice(ib_out, ib_in, nvl_out, nvl_in, finish, curve.setup_s, sms, 1.0)
