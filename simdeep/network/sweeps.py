"""The same all-to-all with other SMs, other group sizes, other node limits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simdeep.cost.moe import (
    Direction,
    HopCopies,
    NodeLimit,
    PortLinks,
    dispatch_combine,
    ideal_kernels,
    load_kernels,
    node_limit_times,
)
from simdeep.errors import InputError
from simdeep.network.alltoall import Outcome, price_kernel, simulate_alltoall
from simdeep.network.routed import Routed
from simdeep.network.setting import DIRECTIONS, Setting

LIMIT_NODES = 8
"""Nodes of the sweep over node limits, as many as DeepSeek-V3's groups."""

_SAMPLE = 1 << 16


@dataclass(frozen=True, slots=True)
class SmPoint:
    """Time of one direction with so many SMs."""

    direction: Direction
    sms: int
    time_s: float


@dataclass(frozen=True, slots=True)
class ExpertsPoint:
    """Time of a dispatch whose tokens have so many experts on each of their nodes."""

    experts_per_node: float
    time_s: float
    ib_s: float
    nvlink_s: float


@dataclass(frozen=True, slots=True)
class EpPoint:
    """Time of one direction in a group of so many GPUs."""

    direction: Direction
    ep: int
    time_s: float
    bottleneck: str


def sweep_sms(setting: Setting, routed: Routed) -> tuple[SmPoint, ...]:
    """The kernel's time for 4, 8, ... SMs up to 32; none in low-latency mode, which holds none."""
    if setting.mode != "normal":
        return ()
    counts = sorted({*range(4, min(33, setting.topology.gpu.sms), 4), setting.comm_sms})
    return tuple(
        SmPoint(d, sms, float(price_kernel(setting, routed, d, sms).time_s.mean()))
        for d in DIRECTIONS
        for sms in counts
    )


def sweep_ep(setting: Setting, own: tuple[Outcome, ...]) -> tuple[EpPoint, ...]:
    """Times in groups of other sizes, doubled and halved, of the same tokens a GPU.

    Sizes that cluster, gate or placement cannot take are left out. Replicas are left out too, so
    other sizes are compared without.
    """
    sizes = {setting.ep}
    sizes |= {2**k for k in range(1, 8) if setting.topology.gpus_per_node <= 2**k}
    points = []
    for ep in sorted(sizes):
        if ep == setting.ep:
            outcomes = own
        elif setting.gate.experts % ep:
            continue
        else:
            try:
                other = replace(setting, ep=ep, placement="contiguous", redundant=0, draws=1)
                outcomes = simulate_alltoall(other, max_tokens=_SAMPLE)
            except InputError:
                continue
        points += [EpPoint(o.direction, ep, o.time_s, o.bottleneck) for o in outcomes]
    return tuple(points)


def sweep_node_limit(
    setting: Setting, direction: Direction = "dispatch", *, ideal: bool = True
) -> tuple[NodeLimit, ...]:
    """Times of a token's experts in at most 1, 2, ... 8 of 8 nodes.

    `ideal`: kernels that only the ports limit, as in the claim that 3.2 experts a node are free.
    """
    gate, topology = setting.gate, setting.topology
    links = PortLinks(topology.nvlink_bw, topology.nic_bw)
    per_node = gate.experts // LIMIT_NODES
    if gate.experts % (LIMIT_NODES * topology.gpus_per_node):
        return ()
    return tuple(
        node_limit_times(
            links,
            topk=gate.topk,
            limit=limit,
            experts=gate.experts,
            nodes=LIMIT_NODES,
            gpus_per_node=topology.gpus_per_node,
            tokens=1024,
            direction=direction,
            sms=setting.comm_sms,
            kernels=None if ideal else load_kernels(),
            seed=setting.seed,
        )
        for limit in range(1, LIMIT_NODES + 1)
        if limit * per_node >= gate.topk
    )


def sweep_experts_per_node(setting: Setting, nodes: int = 4) -> tuple[ExpertsPoint, ...]:
    """Times with every token on `nodes` other nodes and 1 to 6 experts on each, by ports alone.

    Each expert is on a GPU of its own, none where the token lands: the case the claim of DeepSeek's
    report is about. A real gate puts some experts together, which NVLink then moves once.
    """
    topology = setting.topology
    links = PortLinks(topology.nvlink_bw, topology.nic_bw)
    ones = np.ones((1, topology.gpus_per_node * (nodes + 1)))
    ib = setting.tokens * nodes * ones
    points = []
    for tenths in range(10, 62, 2):
        nvl = ib * (tenths / 10)
        copies = HopCopies(
            gpus_per_node=topology.gpus_per_node,
            sent=ib,
            landed=ib,
            forwarded=nvl,
            received=nvl,
            ib_out=ib,
            ib_in=ib,
            nvl_out=nvl,
            nvl_in=nvl,
            tokens=setting.tokens * ones,
        )
        found = dispatch_combine(copies, links, hidden=setting.hidden, kernels=ideal_kernels())
        ports = found.port_s.max(axis=(1, 2))
        time_s = float(found.time_s[0])
        points.append(ExpertsPoint(tenths / 10, time_s, float(ports[0]), float(ports[2])))
    return tuple(points)
