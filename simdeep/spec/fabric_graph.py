"""The whole cluster as a networkx graph, and what in it cannot be reached.

Nodes are named `gpu 5`, `nic 5`, `nvswitch 0` (one for each NVLink domain, standing for all its
chips) and, by the fabric's kind, `leaf 3`, `spine 1`, `core 0` or `switch 7`, numbered over all
planes. Each edge is full duplex: `bandwidth` (B/s) is that of one direction, `latency` (s) that of
one crossing. An edge between two switches may stand for several `links`; its bandwidth is theirs
together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simdeep.spec.fabric import FabricPlan
from simdeep.spec.fabric_edges import EdgeListPlan

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class LinkSpeeds:
    """Bandwidth (B/s, one direction) and latency (s) of each kind of edge.

    The latencies of NVLink and NIC are end to end between two GPUs (same node, same leaf); each of
    the two edges on the way carries half.
    """

    nvlink_bw: float
    nvlink_latency: float
    pcie_bw: float
    nic_bw: float
    nic_latency: float
    nvswitches_per_node: int = 1


def build_graph(plan: FabricPlan, speeds: LinkSpeeds) -> nx.Graph[str]:
    """The cluster as a networkx graph; attributes of nodes and edges as in the module's text."""
    import networkx as nx

    graph: nx.Graph[str] = nx.Graph()
    names = plan.switch_names
    for node in range(plan.gpus // plan.gpus_per_node):
        graph.add_node(
            f"nvswitch {node}",
            kind="nvswitch",
            index=node,
            node=node,
            chips=speeds.nvswitches_per_node,
        )
    for kind, count in plan.tiers.items():
        for i in range(count):
            plane = plan.plane_of_switch(kind, i)
            graph.add_node(f"{kind} {i}", kind=kind, index=i, plane=plane)
    _add_gpus(graph, plan, speeds)
    _add_nic_links(graph, plan, speeds)
    fabric, cables = plan.fabric, plan.cables
    link_bw = fabric.switch_link_bandwidth or speeds.nic_bw
    bundles = (cables.a, cables.b, cables.links, cables.bandwidth, cables.latency)
    for kind, *bundle in zip(cables.kind, *(x.tolist() for x in bundles), strict=True):
        a, b, links, bandwidth, latency = bundle
        edge = _edge(
            kind,
            links * (link_bw if math.isnan(bandwidth) else bandwidth),
            fabric.hop_latency if math.isnan(latency) else latency,
            links,
        )
        graph.add_edge(names[a], names[b], **edge)
    return graph


def _add_gpus(graph: nx.Graph[str], plan: FabricPlan, speeds: LinkSpeeds) -> None:
    names, leaf_of = plan.switch_names, plan.leaf_of_gpu.tolist()
    nvlink = _edge("nvlink", speeds.nvlink_bw, speeds.nvlink_latency / 2)
    pcie = _edge("pcie", speeds.pcie_bw, 0.0)
    for gpu, leaf in enumerate(leaf_of):
        node, host = gpu // plan.gpus_per_node, gpu // plan.gpus_per_host
        graph.add_node(f"gpu {gpu}", kind="gpu", index=gpu, node=node, host=host, speed=1.0)
        graph.add_node(
            f"nic {gpu}",
            kind="nic",
            index=gpu,
            node=node,
            plane=graph.nodes[names[leaf]]["plane"],
            rail=gpu % plan.rails,
        )
        graph.add_edge(f"gpu {gpu}", f"nvswitch {node}", **nvlink)
        graph.add_edge(f"gpu {gpu}", f"nic {gpu}", **pcie)


def _add_nic_links(graph: nx.Graph[str], plan: FabricPlan, speeds: LinkSpeeds) -> None:
    names = plan.switch_names
    access = _edge("access", speeds.nic_bw, speeds.nic_latency / 2)
    for gpu, leaf in enumerate(plan.leaf_of_gpu.tolist()):
        graph.add_edge(f"nic {gpu}", names[leaf], **access)
    for nic, switch, edge in plan.nics if isinstance(plan, EdgeListPlan) else ():
        attributes = graph.edges[f"nic {nic}", names[switch]]
        if edge.bandwidth is not None:
            attributes["bandwidth"] = edge.bandwidth
        if edge.latency is not None:
            attributes["latency"] = edge.latency


def _edge(kind: str, bandwidth: float, latency: float, links: int = 1) -> dict[str, Any]:
    return {"kind": kind, "bandwidth": bandwidth, "latency": latency, "links": links}


def disconnected(graph: nx.Graph[str]) -> list[list[int]]:
    """Sets of GPUs that can talk among themselves but not to each other, largest first."""
    import networkx as nx

    pieces = [
        sorted(graph.nodes[n]["index"] for n in piece if graph.nodes[n]["kind"] == "gpu")
        for piece in nx.connected_components(graph)
    ]
    return sorted((p for p in pieces if p), key=lambda p: (-len(p), p))


def list_gpus(gpus: Iterable[int], most: int = 6) -> str:
    """Numbers of GPUs for a message: `gpu 0-7, 12 (9 in all)`, cut after `most` runs."""
    runs: list[list[int]] = []
    numbers = sorted(set(gpus))
    for gpu in numbers:
        if runs and runs[-1][1] == gpu - 1:
            runs[-1][1] = gpu
        else:
            runs.append([gpu, gpu])
    shown: Sequence[str] = [f"{a}-{b}" if b > a else f"{a}" for a, b in runs[:most]]
    more = ", ..." if len(runs) > most else ""
    return f"gpu {', '.join(shown)}{more}" + (f" ({len(numbers)} in all)" if len(runs) > 1 else "")
