"""How many experts a token may have before NVLink, and not IB, sets the time of an all-to-all."""

from __future__ import annotations

from dataclasses import dataclass

from simdeep.cost.moe.constants import Direction, Kernels, ideal_kernels
from simdeep.cost.moe.copies import from_dispatches
from simdeep.cost.moe.price import PortLinks, dispatch_combine
from simdeep.program.routing.draws import gate_dispatches
from simdeep.program.routing.gate import Gate
from simdeep.program.routing.placement import contiguous


def experts_within_ib_time(nvlink_bw: float, nic_bw: float, nodes: int) -> tuple[float, int]:
    """Experts a node, and in all over `nodes` nodes, that NVLink serves in the IB time.

    A token crosses IB once for each node and NVLink once for each of its experts there (each on a
    GPU of its own): the times meet at nvlink_bw / nic_bw experts a node. DeepSeek-V3's report
    (arXiv 2412.19437, section 3.2.2) has 160 / 50 = 3.2, and 4 x 3.2 as 13 in all.
    """
    per_node = nvlink_bw / nic_bw
    return per_node, round(per_node * nodes)


@dataclass(frozen=True, slots=True)
class NodeLimit:
    """One routing's time and ports, seconds of the busiest GPU."""

    topk: int
    limit: int
    nodes_per_token: float
    gpus_per_token: float
    time_s: float
    ib_s: float
    nvlink_s: float
    bottleneck: str


def node_limit_times(
    links: PortLinks,
    *,
    topk: int = 8,
    limit: int = 4,
    experts: int = 256,
    nodes: int = 8,
    gpus_per_node: int = 8,
    tokens: int = 4096,
    direction: Direction = "dispatch",
    sms: int = 20,
    kernels: Kernels | None = None,
    seed: int = 0,
) -> NodeLimit:
    """Time of a routing with `topk` experts in at most `limit` nodes; ideal kernels by default."""
    gate = Gate(experts, topk, n_groups=nodes, topk_groups=limit)
    place = contiguous(experts, nodes * gpus_per_node, gpus_per_node)
    routed = gate_dispatches(gate, place, tokens, 0.0, 1, seed)
    copies = from_dispatches(routed)
    found = dispatch_combine(copies, links, direction, sms=sms, kernels=kernels or ideal_kernels())
    return NodeLimit(
        topk=topk,
        limit=limit,
        nodes_per_token=float(copies.sent.sum() / copies.tokens.sum()),
        gpus_per_token=float(copies.received.sum() / copies.tokens.sum()),
        time_s=float(found.time_s.max()),
        ib_s=float(found.port_s[:2].max()),
        nvlink_s=float(found.port_s[2:].max()),
        bottleneck=found.limit,
    )
