"""What a fabric's switches and cables cost, and the published comparison it is held to.

Prices are data (`simdeep/data/fabric/prices.yaml`), with where they are from. A fabric costs its
switches, its links between switches, and one link for each NIC; GPUs, NICs and NVLink are apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simdeep.spec.fabric import Fabric, plan_fabric
from simdeep.spec.yamlio import load_document

if TYPE_CHECKING:
    from simdeep.spec.topology import Topology

PRICES = Path(__file__).resolve().parents[1] / "data" / "fabric" / "prices.yaml"

_PUBLISHED_SHAPES = {
    "FT2": Fabric(kind="rail-fat-tree"),
    "MPFT": Fabric(kind="multi-plane", planes=8),
    "FT3": Fabric(kind="three-layer-fat-tree"),
    "Dragonfly": Fabric(kind="dragonfly"),
}
_SLIM_FLY_Q = 28


@dataclass(frozen=True)
class Prices:
    """US dollars for a switch of so many ports, a link between switches, and one to a NIC."""

    switch: float
    link: float
    endpoint_link: float
    ports_per_switch: int
    sources: Mapping[str, str]


@dataclass(frozen=True)
class FabricCost:
    """Size and price of one fabric; `links` are those between switches."""

    name: str
    endpoints: int
    switches: int
    links: int
    cost_musd: float
    kusd_per_endpoint: float


@cache
def load_prices() -> Prices:
    """The shipped prices."""
    data = load_document(PRICES).data
    priced = ("switch", "link", "endpoint_link")
    return Prices(
        **{key: float(data[key]["value"]) for key in priced},
        ports_per_switch=data["ports_per_switch"],
        sources={key: data[key]["source"] for key in priced},
    )


@cache
def published_costs() -> tuple[FabricCost, ...]:
    """Table 3 of arXiv 2505.09343v2: fat trees of two layers, eight planes and three layers, ..."""
    return tuple(FabricCost(**row) for row in load_document(PRICES).data["published"]["rows"])


def price_fabric(
    name: str, endpoints: int, switches: int, links: int, ports_per_switch: int = 64
) -> FabricCost:
    """The price of a fabric by its counts; a switch's price goes by its ports."""
    prices = load_prices()
    each = prices.switch * ports_per_switch / prices.ports_per_switch
    usd = switches * each + links * prices.link + endpoints * prices.endpoint_link
    return FabricCost(name, endpoints, switches, links, usd / 1e6, usd / 1e3 / endpoints)


def topology_cost(topology: Topology) -> FabricCost:
    """The price of a cluster's fabric, broken elements paid for too."""
    counts, ports = topology.counts(), topology.fabric.ports_per_switch
    return price_fabric(topology.name, counts["nics"], counts["switches"], counts["links"], ports)


def slim_fly_counts(q: int) -> tuple[int, int, int]:
    """Endpoints, switches and links of a Slim Fly of parameter q = 4w + d, d in -1, 0, 1.

    Besta and Hoefler, SC 2014: 2 q^2 switches, each linked to (3 q - d) / 2 others and holding half
    as many endpoints, rounded up. Only counted here: the graph needs a finite field of order q.
    """
    rest = {0: 0, 1: 1, 3: -1}.get(q % 4)
    if rest is None or q < 3:
        raise ValueError(f"q is {q}; must be at least 3 and not 2 modulo 4")
    degree = (3 * q - rest) // 2
    switches = 2 * q * q
    return switches * -(-degree // 2), switches, switches * degree // 2


def published_shapes() -> tuple[FabricCost, ...]:
    """simdeep's own counts and prices of the published fabrics, in their order."""
    found = []
    for row in published_costs():
        if row.name == "SlimFly":
            found.append(price_fabric(row.name, *slim_fly_counts(_SLIM_FLY_Q)))
            continue
        counts = plan_fabric(_PUBLISHED_SHAPES[row.name], row.endpoints, 8).counts()
        cost = price_fabric(row.name, counts["nics"], counts["switches"], counts["links"])
        found.append(cost)
    return tuple(found)


def cost_table(topologies: Iterable[Topology] = ()) -> list[dict[str, Any]]:
    """Rows of size and price: the given clusters, then the published fabrics as built here.

    The latter have `published_cost_musd` and `published_kusd_per_endpoint` beside them, which are
    None for the clusters.
    """
    rows = [
        asdict(topology_cost(t))
        | {"published_cost_musd": None, "published_kusd_per_endpoint": None}
        for t in topologies
    ]
    for ours, theirs in zip(published_shapes(), published_costs(), strict=True):
        published = {
            "published_cost_musd": theirs.cost_musd,
            "published_kusd_per_endpoint": theirs.kusd_per_endpoint,
        }
        rows.append(asdict(ours) | published)
    return rows
