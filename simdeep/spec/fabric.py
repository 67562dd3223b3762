"""Scale-out fabrics: which switch each NIC hangs on, how many there are, and the graph of it all.

Every GPU has one NIC. The NICs of the GPUs of equal index modulo `rails` form a rail; a leaf serves
one rail only (rail-optimised). A plane is a fat tree of its own: rail r belongs to plane
r % planes, and planes meet only inside a node, over NVLink. `rail-fat-tree` has one plane;
`multi-plane` (arXiv 2505.09343 sec 5.1) several; `single-switch` is one leaf for everything.

Nodes of the graph are named `gpu 5`, `nic 5`, `nvswitch 0` (one for each NVLink domain, standing
for all its chips), `leaf 3` and `spine 1`, numbered over all planes. Each edge is full duplex:
`bandwidth` (B/s) is that of one direction, `latency` (s) that of one crossing. An edge between two
switches may stand for several `links`, whose bandwidth it adds up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from simdeep.spec.hardware import Bandwidth, Count, FileSection, Latency

if TYPE_CHECKING:
    import networkx as nx

I64 = npt.NDArray[np.int64]
FabricKind = Literal["single-switch", "rail-fat-tree", "multi-plane"]


class Fabric(FileSection):
    """The switches between nodes."""

    kind: FabricKind = Field(description="shape of the fabric", examples=["rail-fat-tree"])
    planes: Count = Field(default=1, description="separate fat trees; divides the rails")
    rails: Count | None = Field(
        default=None, description="GPUs of a node with leaves of their own; default: all of them"
    )
    ports_per_switch: Annotated[int, Field(ge=2, le=4096)] = Field(
        default=64, description="ports of one switch"
    )
    oversubscription: Annotated[float, Field(ge=1, le=64)] = Field(
        default=1.0, description="bandwidth of a leaf down over up"
    )
    hop_latency: Latency = Field(
        default=0.0, description="time to cross one more switch and its cable"
    )
    switch_link_bandwidth: Bandwidth | None = Field(
        default=None, description="link between switches, one direction; default: the NIC's"
    )


@dataclass(frozen=True)
class FabricPlan:
    """A fabric sized for a number of GPUs: plain arithmetic, no graph."""

    fabric: Fabric
    gpus: int
    gpus_per_node: int

    @property
    def rails(self) -> int:
        """Rails over all planes."""
        if self.fabric.kind == "single-switch":
            return 1
        return self.fabric.rails or self.gpus_per_node

    @property
    def down(self) -> int:
        """Ports of a leaf that go to NICs."""
        ports, over = self.fabric.ports_per_switch, self.fabric.oversubscription
        return ports if self.fabric.kind == "single-switch" else int(ports * over / (1 + over))

    @property
    def up(self) -> int:
        """Ports of a leaf that go to spines, where there are spines."""
        return int(self.down / self.fabric.oversubscription)

    @property
    def leaves_per_rail(self) -> int:
        """Leaves that share the NICs of one rail."""
        return -(-(self.gpus // self.rails) // self.down)

    @property
    def leaves_per_plane(self) -> int:
        """Leaves of one fat tree."""
        return self.leaves_per_rail * self.rails // self.fabric.planes

    @property
    def spines_per_plane(self) -> int:
        """Spines of one fat tree; none where one leaf holds everything."""
        if self.leaves_per_plane == 1:
            return 0
        return -(-self.leaves_per_plane * self.up // self.fabric.ports_per_switch)

    @property
    def leaves(self) -> int:
        """Leaves over all planes."""
        return self.leaves_per_plane * self.fabric.planes

    @property
    def spines(self) -> int:
        """Spines over all planes."""
        return self.spines_per_plane * self.fabric.planes

    def problem(self) -> tuple[str, str] | None:
        """Why the fabric cannot be built, as (key, message); None when it can."""
        fabric, planes, rails = self.fabric, self.fabric.planes, self.rails
        if fabric.kind != "multi-plane" and planes > 1:
            return "planes", f"is {planes}; only a multi-plane fabric has more than one plane"
        if fabric.kind == "single-switch" and fabric.rails not in (None, 1):
            return "rails", f"is {fabric.rails}; a single switch has no rails"
        if self.gpus_per_node % rails:
            return "rails", f"is {rails}; must divide gpus_per_node = {self.gpus_per_node}"
        if rails % planes:
            return "planes", f"is {planes}; must divide the {rails} rails"
        if fabric.kind == "single-switch":
            if self.gpus > fabric.ports_per_switch:
                message = (
                    f"one switch of {fabric.ports_per_switch} ports cannot hold {self.gpus} NICs"
                )
                return "ports_per_switch", f"{message}; take a fabric of kind rail-fat-tree"
            return None
        if self.up < 1:
            return "oversubscription", f"is {fabric.oversubscription:g}; leaves no port to go up"
        if self.leaves_per_plane > fabric.ports_per_switch:
            return "ports_per_switch", (
                f"two layers of {fabric.ports_per_switch}-port switches take at most "
                f"{fabric.ports_per_switch} leaves in a plane; {self.gpus} GPUs on {rails} rails "
                f"and {planes} plane(s) need {self.leaves_per_plane}; more planes or ports do it"
            )
        return None

    @cached_property
    def leaf_of_gpu(self) -> I64:
        """Leaf of each GPU's NIC, shape [gpus]."""
        gpu = np.arange(self.gpus)
        position, rail = np.divmod(gpu, self.rails)
        rail_in_plane, plane = np.divmod(rail, self.fabric.planes)
        leaf = rail_in_plane * self.leaves_per_rail + position // self.down
        found: I64 = plane * self.leaves_per_plane + leaf
        return found

    def plane_of_leaf(self, leaf: int) -> int:
        """Plane a leaf belongs to."""
        return leaf // self.leaves_per_plane

    def links_to_spines(self, leaf: int) -> dict[int, int]:
        """Links of a leaf to each spine of its plane: dealt out in turn, so each gets its share."""
        plane, local = divmod(leaf, self.leaves_per_plane)
        n = self.spines_per_plane
        if n == 0:
            return {}
        dealt = np.bincount((local * self.up + np.arange(self.up)) % n, minlength=n)
        return {plane * n + spine: int(links) for spine, links in enumerate(dealt) if links}

    def counts(self) -> dict[str, int]:
        """How many there are; `switches` are leaves and spines, `links` those between them."""
        return {
            "gpus": self.gpus,
            "nodes": self.gpus // self.gpus_per_node,
            "nics": self.gpus,
            "switches": self.leaves + self.spines,
            "links": self.leaves * self.up if self.spines else 0,
        }


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
    fabric, per_node = plan.fabric, plan.gpus_per_node
    leaf_of = plan.leaf_of_gpu.tolist()
    for node in range(plan.gpus // per_node):
        graph.add_node(
            f"nvswitch {node}",
            kind="nvswitch",
            index=node,
            node=node,
            chips=speeds.nvswitches_per_node,
        )
    for kind, count in (("leaf", plan.leaves), ("spine", plan.spines)):
        per_plane = count // fabric.planes
        for i in range(count):
            graph.add_node(f"{kind} {i}", kind=kind, index=i, plane=i // per_plane)
    nvlink = _edge("nvlink", speeds.nvlink_bw, speeds.nvlink_latency / 2)
    pcie = _edge("pcie", speeds.pcie_bw, 0.0)
    access = _edge("access", speeds.nic_bw, speeds.nic_latency / 2)
    for gpu in range(plan.gpus):
        node, leaf = gpu // per_node, leaf_of[gpu]
        graph.add_node(f"gpu {gpu}", kind="gpu", index=gpu, node=node, speed=1.0)
        graph.add_node(
            f"nic {gpu}",
            kind="nic",
            index=gpu,
            node=node,
            plane=plan.plane_of_leaf(leaf),
            rail=gpu % plan.rails,
        )
        graph.add_edge(f"gpu {gpu}", f"nvswitch {node}", **nvlink)
        graph.add_edge(f"gpu {gpu}", f"nic {gpu}", **pcie)
        graph.add_edge(f"nic {gpu}", f"leaf {leaf}", **access)
    link_bw = fabric.switch_link_bandwidth or speeds.nic_bw
    for leaf in range(plan.leaves):
        for spine, links in plan.links_to_spines(leaf).items():
            edge = _edge("fabric", links * link_bw, fabric.hop_latency, links)
            graph.add_edge(f"leaf {leaf}", f"spine {spine}", **edge)
    return graph


def _edge(kind: str, bandwidth: float, latency: float, links: int = 1) -> dict[str, Any]:
    return {"kind": kind, "bandwidth": bandwidth, "latency": latency, "links": links}
