"""Every link of a cluster as arrays: what routing and the simulation of flows work on.

One direction of one cable is one link. A bundle of parallel cables between two switches becomes as
many links, since a flow rides on one of them. Links have ids 0..L-1, dense, overrides applied,
broken ones left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import networkx as nx

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

KINDS = (
    "nvlink-out",
    "nvlink-in",
    "pcie-out",
    "pcie-in",
    "nic-out",
    "nic-in",
    "leaf-up",
    "leaf-down",
    "spine-up",
    "spine-down",
    "local",
    "global",
    "fabric",
)
"""What a link can be, in the order of its code in `LinkTable.kind`; `out` is away from the GPU."""

_TWO_WAY = {
    ("gpu", "nvswitch"): ("nvlink-out", "nvlink-in"),
    ("gpu", "nic"): ("pcie-out", "pcie-in"),
    ("nic", "leaf"): ("nic-out", "nic-in"),
    ("nic", "switch"): ("nic-out", "nic-in"),
    ("leaf", "spine"): ("leaf-up", "leaf-down"),
    ("spine", "core"): ("spine-up", "spine-down"),
}
_RANK = {"gpu": 0, "nic": 1, "nvswitch": 2, "leaf": 3, "switch": 3, "spine": 4, "core": 5}


@dataclass(frozen=True, eq=False)
class SwitchLinks:
    """Links between switches by the switch they leave, in CSR form.

    Entries ptr[u]..ptr[u+1] are the neighbours of switch u in the order of their numbers: `to` the
    neighbour, `first` the id of the first of `count` parallel links to it.
    """

    ptr: I64
    to: I32
    first: I32
    count: I32
    component: I32
    """Connected piece of the switches that each switch belongs to."""


@dataclass(frozen=True, eq=False)
class LinkTable:
    """Links of a cluster: arrays over links, and for each GPU the ids of its own.

    `bandwidth` is in B/s, `latency` in s for one crossing, `kind` an index of `KINDS`. `tail` and
    `head` are the ends of a link as indices of `nodes`, `cable` its number in its bundle. The port
    arrays have shape [gpus] and hold link ids, -1 for a broken port; `leaf` is the switch
    (numbered as in `switches`) that a GPU's NIC hangs on, -1 for none.
    """

    bandwidth: F64
    latency: F64
    kind: npt.NDArray[np.int8]
    tail: I32
    head: I32
    cable: I32
    bundle: I32
    nodes: tuple[str, ...]
    gpus_per_node: int
    alive: npt.NDArray[np.bool_]
    nvlink_out: I32
    nvlink_in: I32
    pcie_out: I32
    pcie_in: I32
    nic_out: I32
    nic_in: I32
    leaf: I32
    place: I64
    """Order of the NICs by switch and place on it: the destination as static routing sees it."""
    switches: SwitchLinks

    def __len__(self) -> int:
        return len(self.bandwidth)

    @property
    def gpus(self) -> int:
        """Number of GPUs, broken ones too."""
        return len(self.leaf)

    def name(self, link: int) -> str:
        """`leaf 3 -> spine 1`, with `#2` behind for a cable of a bundle."""
        text = f"{self.nodes[self.tail[link]]} -> {self.nodes[self.head[link]]}"
        return f"{text} #{self.cable[link]}" if self.bundle[link] > 1 else text

    def of_kind(self, *kinds: str) -> I64:
        """Ids of all links of some kinds."""
        codes = [KINDS.index(kind) for kind in kinds]
        found: I64 = np.flatnonzero(np.isin(self.kind, codes))
        return found


def build_link_table(graph: nx.Graph[str], gpus: int, gpus_per_node: int) -> LinkTable:
    """The links of a cluster's graph."""
    attributes: dict[str, dict[str, Any]] = {n: graph.nodes[n] for n in graph}
    nodes = tuple(attributes)
    number = {name: i for i, name in enumerate(nodes)}
    kinds = {name: str(a["kind"]) for name, a in attributes.items()}
    ends: list[tuple[int, int]] = []
    data: list[tuple[float, float, int, int, int]] = []  # bandwidth, latency, two kinds, links
    for one, other, edge in graph.edges(data=True):
        a, b = sorted((one, other), key=lambda name: _RANK[kinds[name]])
        out, back = _TWO_WAY.get((kinds[a], kinds[b]), (edge["kind"],) * 2)
        links = edge["links"]
        ends.append((number[a], number[b]))
        codes = KINDS.index(out), KINDS.index(back)
        data.append((edge["bandwidth"] / links, edge["latency"], *codes, links))
    table = np.array(data, dtype=np.float64).reshape(-1, 5)
    pairs = np.array(ends, dtype=np.int64).reshape(-1, 2)
    # Each edge becomes its cables one way, then its cables back.
    bundle = np.repeat(table[:, 4].astype(np.int64), 2)
    row = np.repeat(np.arange(len(table)), 2)
    back_way = np.tile([0, 1], len(table))
    start = np.cumsum(bundle) - bundle
    tail, head = pairs[row, back_way], pairs[row, 1 - back_way]
    kind = table[row, 2 + back_way].astype(np.int8)
    index = np.array([attributes[name]["index"] for name in nodes], dtype=np.int64)
    is_switch = np.array([_RANK[kinds[name]] >= 3 for name in nodes], dtype=bool)
    switch = np.where(is_switch, np.cumsum(is_switch) - 1, -1)
    ports = {}
    for name in KINDS[:6]:
        mine = np.flatnonzero(kind == KINDS.index(name))
        owner = index[tail[mine] if name.endswith("out") else head[mine]]
        ports[name.replace("-", "_")] = _scatter(gpus, owner, start[mine])
    up = np.flatnonzero(kind == KINDS.index("nic-out"))
    leaf = _scatter(gpus, index[tail[up]], switch[head[up]])
    alive = np.zeros(gpus, dtype=bool)
    alive[index[[kinds[name] == "gpu" for name in nodes]]] = True
    between = np.flatnonzero(is_switch[tail] & is_switch[head])
    return LinkTable(
        bandwidth=np.repeat(table[row, 0], bundle),
        latency=np.repeat(table[row, 1], bundle),
        kind=np.repeat(kind, bundle),
        tail=np.repeat(tail, bundle).astype(np.int32),
        head=np.repeat(head, bundle).astype(np.int32),
        cable=(np.arange(bundle.sum()) - np.repeat(start, bundle)).astype(np.int32),
        bundle=np.repeat(bundle, bundle).astype(np.int32),
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        alive=alive,
        **ports,
        leaf=leaf,
        place=_places(leaf),
        switches=_switch_links(
            int(is_switch.sum()),
            switch[tail[between]],
            switch[head[between]],
            start[between],
            bundle[between],
        ),
    )


def _scatter(size: int, index: I64, value: I64) -> I32:
    found = np.full(size, -1, dtype=np.int32)
    found[index] = value
    return found


def _places(leaf: I32) -> I64:
    """Switch by switch, every switch taking as many numbers as the fullest one needs."""
    order = np.argsort(leaf, kind="stable")
    ordered = leaf[order]
    first = np.searchsorted(ordered, ordered)
    position = np.arange(len(leaf)) - first
    _, rank = np.unique(ordered, return_inverse=True)
    places = np.empty(len(leaf), dtype=np.int64)
    places[order] = rank * (int(position.max(initial=0)) + 1) + position
    return places


def _switch_links(switches: int, tail: I64, head: I64, first: I64, count: I64) -> SwitchLinks:
    import networkx as nx

    order = np.lexsort((head, tail))
    wires: nx.Graph[int] = nx.Graph()
    wires.add_nodes_from(range(switches))
    wires.add_edges_from(zip(tail.tolist(), head.tolist(), strict=True))
    component = np.zeros(switches, dtype=np.int32)
    for i, piece in enumerate(nx.connected_components(wires)):
        component[list(piece)] = i
    return SwitchLinks(
        ptr=np.searchsorted(tail[order], np.arange(switches + 1)).astype(np.int64),
        to=head[order].astype(np.int32),
        first=first[order].astype(np.int32),
        count=count[order].astype(np.int32),
        component=component,
    )
