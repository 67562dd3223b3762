"""Routes as arrays against networkx, what each policy promises, and what faults do to them."""

import time
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.spec.fabric import Fabric
from simdeep.spec.hardware import load_gpu
from simdeep.spec.links import KINDS, LinkTable
from simdeep.spec.overrides import Override
from simdeep.spec.paths import Forward, Paths, Policy, route
from simdeep.spec.resources import find_resource
from simdeep.spec.topology import Topology, load_topology

POLICIES: tuple[Policy, ...] = ("static", "hashed", "adaptive")
FORWARDS: tuple[Forward, ...] = ("rail", "pxn", "spine")
NEVER_ACROSS = ("nvlink", "pcie")


def cluster(fabric: Fabric, gpus: int, per_node: int, *overrides: Override) -> Topology:
    topology = Topology(
        name="small",
        description="",
        gpu=load_gpu("toy"),
        gpus=gpus,
        gpus_per_node=per_node,
        nvlink_bw=100e9,
        nvlink_latency_s=1e-6,
        nvswitches_per_node=1,
        nic_bw=10e9,
        nic_latency_s=2e-6,
        fabric=fabric,
        host_memory_bytes=None,
        usd_per_gpu_hour=1.0,
        overrides=overrides,
    )
    assert topology.plan.problems() == []
    return topology


SMALL = {
    "two layers": cluster(Fabric(kind="rail-fat-tree", ports_per_switch=8), 32, 4),
    "oversubscribed": cluster(
        Fabric(kind="rail-fat-tree", ports_per_switch=9, oversubscription=2.0), 48, 4
    ),
    "two planes": cluster(Fabric(kind="multi-plane", planes=2, ports_per_switch=8), 64, 4),
    "three layers": cluster(Fabric(kind="three-layer-fat-tree", ports_per_switch=8), 64, 2),
    "dragonfly": load_topology("dragonfly-small"),
    "edge list": load_topology("edge-list-2x8"),
    "one switch": load_topology("toy-2x8"),
    "node of 72": cluster(Fabric(kind="rail-fat-tree", rails=4, ports_per_switch=36), 144, 72),
}


def all_pairs(gpus: int) -> tuple[np.ndarray, np.ndarray]:
    src, dst = np.divmod(np.arange(gpus * gpus), gpus)
    return src, dst


def visited(table: LinkTable, paths: Paths, flow: int) -> list[str]:
    """Names of the nodes that a flow passes, each link checked to start where the last ended."""
    links = paths.of(flow)
    assert (table.head[links[:-1]] == table.tail[links[1:]]).all()
    if not len(links):
        return []
    return [table.nodes[table.tail[links[0]]], *(table.nodes[i] for i in table.head[links])]


def fabric_only(topology: Topology) -> "nx.Graph[str]":
    graph = topology.graph()
    kept = [(a, b) for a, b, kind in graph.edges(data="kind") if kind not in NEVER_ACROSS]
    return nx.Graph(kept)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("forward", FORWARDS)
def test_routes_are_shortest_paths_of_the_graph(
    name: str, policy: Policy, forward: Forward
) -> None:
    topology = SMALL[name]
    graph, table = topology.graph(), topology.link_table()
    src, dst = all_pairs(topology.gpus)
    some = np.random.default_rng(1).permutation(len(src))[:1500]
    paths = route(topology, src[some], dst[some], policy, seed=3, forward=forward)
    between_nics = dict(nx.all_pairs_shortest_path_length(fabric_only(topology)))
    per_node = topology.gpus_per_node
    for i, (s, d) in enumerate(zip(src[some].tolist(), dst[some].tolist(), strict=True)):
        nodes = visited(table, paths, i)
        if s == d:
            assert nodes == []
            continue
        assert (nodes[0], nodes[-1]) == (f"gpu {s}", f"gpu {d}")
        assert nx.is_simple_path(graph, nodes)
        if s // per_node == d // per_node:
            assert len(nodes) == 3
            continue
        nics = [n for n in nodes if n.startswith("nic")]
        assert len(nics) == 2
        first, last = nodes.index(nics[0]), nodes.index(nics[1])
        assert last - first == between_nics[nics[0]][nics[1]]
        if forward == "rail":
            assert nics == [f"nic {s}", f"nic {d - d % per_node + s % per_node}"]
        if forward == "spine" and topology.fabric.kind != "multi-plane":
            assert nics == [f"nic {s}", f"nic {d}"]
            assert len(nodes) - 1 == nx.shortest_path_length(graph, nodes[0], nodes[-1])
        if forward == "pxn":
            assert nics == [f"nic {s - s % per_node + d % per_node}", f"nic {d}"]


def test_table_has_every_cable_both_ways() -> None:
    for topology in SMALL.values():
        graph, table = topology.graph(), topology.link_table()
        assert len(table) == 2 * sum(links for _, _, links in graph.edges(data="links"))
        capacity = sum(2 * bandwidth for _, _, bandwidth in graph.edges(data="bandwidth"))
        assert table.bandwidth.sum() == pytest.approx(capacity)
        names = [table.name(i) for i in range(len(table))]
        assert len(set(names)) == len(table)
        for i, gpu in ((table.nvlink_out[1], 1), (table.nvlink_in[2], 2)):
            assert f"gpu {gpu}" in table.name(i)
        assert set(table.kind) <= set(range(len(KINDS)))
        outward = table.of_kind("nic-out", "leaf-up", "spine-up")
        inward = table.of_kind("nic-in", "leaf-down", "spine-down")
        assert len(outward) == len(inward)


@pytest.mark.parametrize("name", ["two layers", "two planes", "three layers"])
@pytest.mark.parametrize("shift", [1, 3, 4, 5, 9])
def test_static_and_adaptive_routes_of_a_rail_pattern_never_collide(name: str, shift: int) -> None:
    """Every GPU sends to the one of its index some nodes further: a permutation of each rail."""
    topology = SMALL[name]
    src = np.arange(topology.gpus)
    dst = (src + shift * topology.gpus_per_node) % topology.gpus
    for policy in ("static", "adaptive"):
        paths = route(topology, src, dst, policy)
        assert paths.link_bytes(topology.link_table(), 1.0).max() == 1.0


def test_hashed_routes_collide_and_follow_the_seed() -> None:
    topology = SMALL["two layers"]
    src = np.arange(32)
    dst = (src + 16) % 32
    worst = [
        route(topology, src, dst, "hashed", seed).link_bytes(topology.link_table(), 1.0).max()
        for seed in range(20)
    ]
    assert max(worst) >= 3
    one, again, other = (route(topology, src, dst, "hashed", seed).links for seed in (1, 1, 2))
    assert (one == again).all()
    assert not (one == other).all()
    pairs = route(topology, src, dst, "hashed", 1, flow=np.arange(32))
    assert not (pairs.links == one).all()


def test_a_hashed_route_does_not_depend_on_the_other_flows() -> None:
    topology = SMALL["three layers"]
    src, dst = all_pairs(topology.gpus)
    together = route(topology, src, dst, "hashed", 5)
    for i in (3, 40, 333):
        alone = route(topology, src[i : i + 1], dst[i : i + 1], "hashed", 5)
        assert (alone.links == together.of(i)).all()


def test_hashing_is_even_over_parallel_cables() -> None:
    topology = load_topology("h800-2048")
    src = np.tile(np.arange(0, 256, 8), 100)
    dst = np.tile(np.arange(256, 512, 8), 100)
    paths = route(topology, src, dst, "hashed", flow=np.repeat(np.arange(100), 32))
    table = topology.link_table()
    up = paths.link_bytes(table, 1.0)[table.of_kind("leaf-up")]
    used = up[up > 0]
    assert len(used) == 32  # cables of one leaf
    chi_square = ((used - 100) ** 2 / 100).sum()
    assert chi_square < 61  # 31 degrees of freedom, p = 0.001


def test_adaptive_balances_bytes_not_flows() -> None:
    topology = SMALL["two layers"]
    src, dst = np.array([0, 4, 8, 12]), np.array([16, 20, 24, 28])
    weight = np.array([9.0, 1.0, 1.0, 1.0])
    many = np.concatenate([np.tile(x, 6) for x in (src, dst)])
    weights = np.tile(weight, 6)
    paths = route(topology, *np.split(many, 2), "adaptive", weight=weights)
    table = topology.link_table()
    up = table.of_kind("leaf-up")
    load = paths.link_bytes(table, weights)[up]
    assert load.max() <= weights.sum() / 4 + 9
    assert load.sum() == weights.sum()


def test_adaptive_avoids_a_slow_cable() -> None:
    slow = Override(element="leaf 0 - spine 0", bandwidth="1 GB/s")
    topology = cluster(Fabric(kind="rail-fat-tree", ports_per_switch=8), 32, 4, slow)
    table = topology.link_table()
    src, dst = np.tile([0, 4, 8, 12], 8), np.tile([16, 20, 24, 28], 8)
    for policy, most in (("static", 8), ("adaptive", 2)):
        crossed = route(topology, src, dst, policy).link_bytes(table, 1.0)
        (mine,) = (i for i in table.of_kind("leaf-up") if table.name(i) == "leaf 0 -> spine 0")
        assert crossed[mine] <= most
        assert policy != "static" or crossed[mine] == 8


def test_latency_is_the_sum_of_the_links() -> None:
    topology = load_topology("h800-2048")
    paths = route(topology, [0, 0, 0, 0, 0], [0, 1, 8, 256, 257])
    latency = paths.latency(topology.link_table())
    assert latency == pytest.approx([0, 3.33e-6, 2.8e-6, 3.7e-6, 3.7e-6 + 3.33e-6])


def down(*elements: str) -> tuple[Override, ...]:
    return tuple(Override(element=element, down=True) for element in elements)


TWO_LAYERS = Fabric(kind="rail-fat-tree", ports_per_switch=8)
TWO_PLANES = Fabric(kind="multi-plane", planes=2, ports_per_switch=8)


def test_traffic_of_a_dead_nic_goes_over_nvlink_to_its_peers() -> None:
    topology = cluster(TWO_LAYERS, 32, 4, *down("nic 5"))
    table = topology.link_table()
    src, dst = all_pairs(32)
    paths = route(topology, src, dst)
    assert "nic 5" not in table.nodes
    for i in np.flatnonzero((src == 5) & (dst // 4 != 1)):
        nodes = visited(table, paths, int(i))
        assert nodes[:3] == ["gpu 5", "nvswitch 1", nodes[2]]
        assert nodes[3] in {"nic 4", "nic 6", "nic 7"}
        assert nodes[-1] == f"gpu {dst[i]}"
        assert nx.is_simple_path(topology.graph(), nodes)
    loads = paths.link_bytes(table, 1.0)
    before = 28.0  # flows that each NIC of the node sends when all are well
    extra = loads[table.nic_out[[4, 6, 7]]] - before
    assert extra.sum() == 28
    assert extra.min() >= 7
    untouched = np.flatnonzero((src % 4 != 1) & (dst // 4 != 1) & (src // 4 != 1))
    healthy = route(SMALL["two layers"], src, dst)
    assert (paths.hops[untouched] == healthy.hops[untouched]).all()


@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize(
    "broken",
    [
        ("spine 1",),
        ("leaf 3",),
        ("leaf 0 - spine 2", "leaf 2 - spine 3"),
        ("nvlink 9",),
        ("pcie 9", "nic 10"),
        ("nic 4", "nic 5", "nic 6", "nic 23"),
    ],
)
@pytest.mark.parametrize("fabric", [TWO_LAYERS, TWO_PLANES], ids=["two layers", "two planes"])
def test_whatever_is_left_is_used(
    fabric: Fabric, broken: tuple[str, ...], forward: Forward
) -> None:
    gpus = 32 * fabric.planes
    topology = cluster(fabric, gpus, 4, *down(*(b for b in broken if linked(fabric, b))))
    src, dst = all_pairs(gpus)
    table = topology.link_table()
    paths = route(topology, src, dst, "adaptive", forward=forward)
    for i in range(0, len(src), 7):
        if src[i] != dst[i]:
            nodes = visited(table, paths, i)
            assert nx.is_simple_path(topology.graph(), nodes)
            assert (nodes[0], nodes[-1]) == (f"gpu {src[i]}", f"gpu {dst[i]}")


def test_a_gpu_without_nvlink_reaches_its_own_node_by_its_nic() -> None:
    topology = cluster(TWO_PLANES, 64, 4, *down("nvlink 9"))
    table = topology.link_table()
    paths = route(topology, [9, 9], [11, 8])
    straight, beyond = visited(table, paths, 0), visited(table, paths, 1)
    assert straight[:2] + straight[-2:] == ["gpu 9", "nic 9", "nic 11", "gpu 11"]
    assert beyond == [*straight, "nvswitch 2", "gpu 8"]  # whose NIC is on the other plane


def linked(fabric: Fabric, element: str) -> bool:
    """Whether the fabric has this link at all."""
    whole = cluster(fabric, 32 * fabric.planes, 4).graph()
    return " - " not in element or whole.has_edge(*element.split(" - "))


def test_a_dead_gpu_and_an_unreachable_one_are_named() -> None:
    topology = cluster(TWO_LAYERS, 32, 4, *down("gpu 7"))
    src, dst = all_pairs(32)
    with pytest.raises(InputError, match="gpu 7 is down and cannot send or receive"):
        route(topology, src, dst)
    others = (src != 7) & (dst != 7)
    assert len(route(topology, src[others], dst[others])) == 31 * 31
    alone = cluster(TWO_LAYERS, 32, 4, *down("nic 9", "nvlink 9"))
    with pytest.raises(InputError, match=r"gpu 0 to gpu 9 and 61 more pairs; gpu 9 cut off"):
        route(alone, src, dst)
    with pytest.raises(InputError, match="src holds gpu 32; the cluster has gpu 0 to 31"):
        route(topology, [32], [0])
    with pytest.raises(ValueError, match="2 sources and 1 destinations"):
        route(topology, [0, 1], [0])
    assert len(route(topology, [], []).links) == 0


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_faults_leave_routes_or_a_message(data: st.DataObject) -> None:
    """A route is refused only where networkx finds no way between the two nodes' NICs either."""
    elements = st.one_of(
        st.sampled_from(["nic", "nvlink", "pcie"]).flatmap(
            lambda kind: st.integers(0, 15).map(lambda i: f"{kind} {i}")
        ),
        st.sampled_from(["leaf 0", "leaf 1", "spine 0", "leaf 2 - spine 0", "leaf 3 - spine 1"]),
    )
    broken = data.draw(st.lists(elements, max_size=8, unique=True))
    fabric = Fabric(kind="rail-fat-tree", rails=2, ports_per_switch=8)
    topology = cluster(fabric, 16, 4, *down(*broken))
    s, d = data.draw(st.integers(0, 15)), data.draw(st.integers(0, 15))
    graph = nx.Graph(topology.graph())
    foreign = {s // 4, d // 4}
    graph.remove_nodes_from(
        [n for n, node in topology.graph().nodes(data="node", default=None)
         if node is not None and node not in foreign]
    )  # fmt: skip
    reachable = nx.has_path(graph, f"gpu {s}", f"gpu {d}")
    try:
        paths = route(topology, [s], [d])
    except InputError:
        assert not direct(graph, s, d)
        return
    assert reachable
    nodes = visited(topology.link_table(), paths, 0)
    assert s == d or nx.is_simple_path(graph, nodes)


def direct(graph: "nx.Graph[str]", s: int, d: int) -> bool:
    """Whether some way enters the fabric once: by NVLink at either end, and NICs between."""
    around = [g for g in range(16) if g // 4 in (s // 4, d // 4)]
    fabric = graph.subgraph(
        n for n in graph if n.split()[0] in ("nic", "leaf", "spine")
    )  # NICs have no way through but to their switch

    def near(gpu: int) -> list[int]:
        mine = [g for g in around if g // 4 == gpu // 4]
        local = graph.has_edge(f"gpu {gpu}", f"nvswitch {gpu // 4}")
        return [
            g
            for g in mine
            if graph.has_edge(f"gpu {g}", f"nic {g}")
            and (g == gpu or (local and graph.has_edge(f"gpu {g}", f"nvswitch {g // 4}")))
        ]

    if s // 4 == d // 4 and all(graph.has_edge(f"gpu {g}", f"nvswitch {g // 4}") for g in (s, d)):
        return True
    return any(
        nx.has_path(fabric, f"nic {e}", f"nic {f}") for e in near(s) for f in near(d) if e != f
    )


def test_routing_is_fast() -> None:
    topology = load_topology("h800-2048")
    src, dst = all_pairs(64)
    route(topology, src, dst)  # compiled, or loaded from the cache
    start = time.perf_counter()
    route(topology, src, dst)
    assert time.perf_counter() - start < 0.05
    src, dst = all_pairs(2048)
    start = time.perf_counter()
    paths = route(topology, src, dst, "adaptive")
    assert time.perf_counter() - start < 15
    load = paths.link_bytes(topology.link_table(), 1.0)
    up = load[topology.link_table().of_kind("leaf-up")]
    assert up.max() <= 1.01 * up.mean()


def test_a_fabric_of_the_shipped_file_is_used(tmp_path: Path) -> None:
    text = find_resource("topologies", "edge-list-2x8").read_text()
    (tmp_path / "mine.yaml").write_text(text)
    topology = load_topology(tmp_path / "mine.yaml")
    table = topology.link_table()
    paths = route(topology, [0, 0], [8, 15], forward="spine")
    assert "switch 2" in visited(table, paths, 1)
    assert table.bandwidth[paths.of(0)].min() == 10e9
    assert table.bandwidth[paths.of(1)].min() == 5e9
    assert paths.latency(table) == pytest.approx([2.5e-6, 3.0e-6])
