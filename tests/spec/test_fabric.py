"""Fabrics: published counts and costs, and what must hold of every shape and size."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.spec.fabric import Edge, Fabric, FabricPlan, deal, plan_fabric
from simdeep.spec.fabric_cost import cost_table, load_prices, published_costs, slim_fly_counts
from simdeep.spec.fabric_dragonfly import DragonflyPlan
from simdeep.spec.fabric_three_layer import ThreeLayerPlan
from simdeep.spec.fabric_trees import TwoLayerPlan
from simdeep.spec.topology import load_topology

# arXiv 2505.09343v2 table 3: endpoints, switches, links, cost in M$, k$ an endpoint.
PUBLISHED = {
    "FT2": (2048, 96, 2048, 9, 4.39),
    "MPFT": (16384, 768, 16384, 72, 4.39),
    "FT3": (65536, 5120, 131072, 491, 7.5),
    "SlimFly": (32928, 1568, 32928, 146, 4.4),
    "Dragonfly": (261632, 16352, 384272, 1522, 5.8),
}
SHAPES = {
    "FT2": Fabric(kind="rail-fat-tree"),
    "MPFT": Fabric(kind="multi-plane", planes=8),
    "FT3": Fabric(kind="three-layer-fat-tree"),
    "Dragonfly": Fabric(kind="dragonfly"),
}


def switch_graph(plan: FabricPlan) -> "nx.MultiGraph[int]":
    graph: nx.MultiGraph[int] = nx.MultiGraph()
    graph.add_nodes_from(range(plan.switches))
    cables = plan.cables
    for a, b, links in zip(cables.a, cables.b, cables.links, strict=True):
        graph.add_edges_from([(int(a), int(b))] * int(links))
    return graph


def check_ports(plan: FabricPlan) -> None:
    """No switch has more cables than ports; all are counted."""
    ports = np.bincount(plan.leaf_of_gpu, minlength=plan.switches)
    for end in (plan.cables.a, plan.cables.b):
        np.add.at(ports, end, plan.cables.links)
    assert ports.max() <= plan.fabric.ports_per_switch
    assert plan.counts()["links"] == switch_graph(plan).number_of_edges()


@pytest.mark.parametrize("name", SHAPES)
def test_published_switch_and_link_counts(name: str) -> None:
    endpoints, switches, links, *_ = PUBLISHED[name]
    plan = plan_fabric(SHAPES[name], endpoints, 8)
    assert plan.problems() == []
    counts = plan.counts()
    assert (counts["switches"], counts["links"]) == (switches, links)


@pytest.mark.parametrize("name", ["FT2", "MPFT", "FT3"])
def test_published_fat_trees_are_full(name: str) -> None:
    assert plan_fabric(SHAPES[name], PUBLISHED[name][0] + 8, 8).problems()


def test_published_slim_fly() -> None:
    assert slim_fly_counts(28) == PUBLISHED["SlimFly"][:3]
    # Besta and Hoefler, SC 2014: q = 5 is the Hoffman-Singleton graph, 50 switches of degree 7.
    assert slim_fly_counts(5) == (200, 50, 175)
    with pytest.raises(ValueError, match="not 2 modulo 4"):
        slim_fly_counts(6)


def test_costs_reproduce_the_published_table_within_one_percent() -> None:
    rows = {row["name"]: row for row in cost_table()}
    assert {row.name for row in published_costs()} == set(rows) == set(PUBLISHED)
    for name, (endpoints, switches, links, cost, each) in PUBLISHED.items():
        row = rows[name]
        assert (row["endpoints"], row["switches"], row["links"]) == (endpoints, switches, links)
        assert (row["published_cost_musd"], row["published_kusd_per_endpoint"]) == (cost, each)
        assert row["cost_musd"] == pytest.approx(cost, rel=0.01)
        assert row["kusd_per_endpoint"] == pytest.approx(each, rel=0.012)  # 5.817 is given as 5.8


def test_cost_of_a_cluster_comes_first_and_every_price_has_a_source() -> None:
    first = cost_table([load_topology("h800-2048")])[0]
    assert first["name"] == "h800-2048"
    assert first["kusd_per_endpoint"] == pytest.approx(4.39, rel=0.001)
    assert set(load_prices().sources) == {"switch", "link", "endpoint_link"}


@given(dealers=st.integers(1, 9), each=st.integers(0, 40), piles=st.integers(1, 9))
def test_dealing_is_in_turn_and_fair(dealers: int, each: int, piles: int) -> None:
    dealt = deal(dealers, each, piles)
    cards = np.arange(dealers * each)
    expected = np.zeros((dealers, piles), dtype=int)
    np.add.at(expected, (cards // max(each, 1), cards % piles), 1)
    assert (dealt == expected).all()


nodes = st.integers(1, 40)
ports = st.sampled_from([4, 8, 16, 40, 64])
oversubscription = st.sampled_from([1.0, 1.5, 2.0, 3.0])
rails = st.sampled_from([1, 2, 4, 8])


@given(nodes, rails, st.sampled_from([1, 2, 4]), ports, oversubscription)
def test_two_layer_invariants(
    nodes: int, rails: int, planes: int, ports: int, oversubscription: float
) -> None:
    fabric = Fabric(
        kind="multi-plane",
        planes=planes,
        rails=rails,
        ports_per_switch=ports,
        oversubscription=oversubscription,
    )
    plan = plan_fabric(fabric, 8 * nodes, 8)
    assert isinstance(plan, TwoLayerPlan)
    if plan.problems():
        return
    check_ports(plan)
    leaf = plan.leaf_of_gpu
    leaves = plan.tiers["leaf"]
    assert set(leaf) == set(range(leaves))
    for i in range(leaves):  # rail-optimised: a leaf serves one rail
        assert len(set(np.flatnonzero(leaf == i) % rails)) == 1
    graph = switch_graph(plan)
    assert nx.number_connected_components(graph) == planes
    if plan.spines_per_plane:  # every leaf reaches every spine of its plane
        assert len(set(graph.edges())) == leaves * plan.spines_per_plane
        assert all(graph.degree(i) == plan.up for i in range(leaves))
        assert plan.down <= plan.up * oversubscription + oversubscription


@given(nodes, rails, st.sampled_from([4, 6, 8, 16, 64]), oversubscription)
def test_three_layer_invariants(
    nodes: int, rails: int, ports: int, oversubscription: float
) -> None:
    fabric = Fabric(
        kind="three-layer-fat-tree",
        rails=rails,
        ports_per_switch=ports,
        oversubscription=oversubscription,
    )
    plan = plan_fabric(fabric, 8 * nodes, 8)
    assert isinstance(plan, ThreeLayerPlan)
    if plan.problems():
        return
    check_ports(plan)
    graph = switch_graph(plan)
    assert nx.is_connected(graph)
    distance = dict(nx.all_pairs_shortest_path_length(graph))
    for a in range(plan.leaves):
        for b in range(plan.leaves):
            same_pod = a // plan.leaves_per_pod == b // plan.leaves_per_pod
            assert distance[a][b] == (0 if a == b else 2 if same_pod else 4)


@given(
    endpoints=st.integers(1, 600),
    p=st.integers(1, 4),
    a=st.integers(1, 6),
    h=st.integers(1, 4),
)
def test_dragonfly_invariants(endpoints: int, p: int, a: int, h: int) -> None:
    fabric = Fabric(
        kind="dragonfly",
        ports_per_switch=16,
        endpoints_per_switch=p,
        switches_per_group=a,
        global_links=h,
    )
    plan = plan_fabric(fabric, endpoints, 1)
    assert isinstance(plan, DragonflyPlan)
    if plan.problems():
        assert plan.groups > a * h + 1
        return
    check_ports(plan)
    graph = switch_graph(plan)
    between: set[tuple[int, int]] = set()
    global_ports = np.zeros(plan.switches, dtype=int)
    for one, other in graph.edges():
        if one // a != other // a:
            between |= {(one // a, other // a), (other // a, one // a)}
            global_ports[[one, other]] += 1
    assert len(between) == plan.groups * (plan.groups - 1)  # all groups meet
    assert global_ports.max(initial=0) <= h
    if plan.groups > 1:  # at most one port of a group is left over
        assert (a * h - global_ports.reshape(-1, a).sum(axis=1) <= 1).all()
    if endpoints > 1 and plan.switches > 1:
        assert nx.diameter(nx.Graph(graph)) <= 3


WRONG_EDGES = [
    (["nic 0-7", "switch 0", 1], ["nic 8-9", "switch 0", 1], "the cluster has nic 0 to 7"),
    (["nic 0-7", "switch 0", 1], ["nic 3", "switch 1", 1], "nic 3 is on switch 0 and on switch 1"),
    (["nic 0-6", "switch 0", 1], ["switch 0", "switch 1", 1], "nic 7: no link to a switch"),
    (["nic 0-7", "switch 0", 1], ["switch 0", "switch 0", 1], "two different switches"),
    (["nic 0-7", "switch 0", 1], ["nic 0", "nic 1", 1], "must be such as"),
    (["nic 0-7", "switch 0", 1], ["leaf 0", "switch 0", 1], "must be such as"),
    (["nic 0-7", "switch 0", 2], ["switch 1", "switch 0", 1], "a NIC has one link"),
    (["nic 0-7", "switch 0", 1], ["switch 1", "switch 0", 9], "switch 0 has 17 links"),
    (["nic 0-7", "switch 0", 1], ["switch 1", "switch 99999999", 1], "numbered below"),
]


@pytest.mark.parametrize(("one", "other", "says"), WRONG_EDGES)
def test_wrong_edges(one: list[object], other: list[object], says: str) -> None:
    edges = tuple(Edge.model_validate({"ends": e[:2], "links": e[2]}) for e in (one, other))
    plan = plan_fabric(Fabric(kind="edge-list", edges=edges, ports_per_switch=16), 8, 8)
    assert any(says in message for _, message in plan.problems())


def test_an_edge_given_twice_and_no_edges_at_all() -> None:
    nics = Edge(ends=["nic 0-7", "switch 0"])
    twice = (nics, Edge(ends=["switch 0", "switch 1"]), Edge(ends=["switch 1", "switch 0"]))
    problems = plan_fabric(Fabric(kind="edge-list", edges=twice), 8, 8).problems()
    assert problems[0][0] == ("edges", 2, "ends")
    assert "joined already" in problems[0][1]
    assert "is empty" in plan_fabric(Fabric(kind="edge-list"), 8, 8).problems()[0][1]


@pytest.mark.parametrize(
    ("fabric", "key", "says"),
    [
        (Fabric(kind="dragonfly", planes=2), "planes", "only a multi-plane"),
        (Fabric(kind="dragonfly", oversubscription=2), "oversubscription", "is 2; only a rail"),
        (Fabric(kind="rail-fat-tree", global_links=2), "global_links", "only a dragonfly"),
        (Fabric(kind="single-switch", edges=(Edge(ends=["a", "b"]),)), "edges", "edge-list"),
        (Fabric(kind="dragonfly", ports_per_switch=16, global_links=9), "ports_per_switch", "20"),
        (Fabric(kind="three-layer-fat-tree", ports_per_switch=4), "ports_per_switch", "pods"),
        (Fabric(kind="rail-fat-tree", ports_per_switch=4), "ports_per_switch", "three-layer"),
    ],
)
def test_fabrics_that_cannot_be(fabric: Fabric, key: str, says: str) -> None:
    problems = plan_fabric(fabric, 512, 8).problems()
    assert any(path == (key,) and says in message for path, message in problems)
