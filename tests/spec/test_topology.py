"""Clusters and fabrics: published switch and link counts, graph invariants, wrong files."""

import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from simdeep.errors import InputError
from simdeep.spec.resources import find_resource
from simdeep.spec.topology import Topology, TopologyFile, load_topology, topology_catalogue

SWITCHES = ("leaf", "spine", "core", "switch")


def fabric_graph(topology: Topology) -> "nx.Graph[str]":
    graph = topology.graph()
    return graph.subgraph(n for n, kind in graph.nodes(data="kind") if kind in SWITCHES)


def test_reference_cluster() -> None:
    topology = load_topology("h800-2048")
    assert (topology.gpus, topology.gpus_per_node, topology.nodes) == (2048, 8, 256)
    assert (topology.nvlink_bw, topology.nic_bw) == (160e9, 50e9)
    assert topology.usd_per_gpu_hour == 2.0
    assert topology.gpu.id == "h800"
    assert (topology.fabric.kind, topology.fabric.planes) == ("multi-plane", 8)
    json.dumps(topology.to_dict(), allow_nan=False)


def test_a_graph_is_built_once() -> None:
    topology = load_topology("h800-2048")
    assert topology.graph() is topology.graph()


@pytest.mark.parametrize("name", topology_catalogue())
def test_graph_has_what_counts_say(name: str) -> None:
    topology = load_topology(name)
    graph, counts = topology.graph(), topology.counts()
    kinds = [kind for _, kind in graph.nodes(data="kind")]
    assert kinds.count("gpu") == counts["gpus"] == topology.gpus
    assert kinds.count("nic") == counts["nics"]
    assert sum(kinds.count(kind) for kind in SWITCHES) == counts["switches"]
    assert kinds.count("nvswitch") == counts["nodes"]
    assert (
        sum(links for _, _, links in fabric_graph(topology).edges(data="links")) == counts["links"]
    )
    ports = topology.fabric.ports_per_switch
    for node, kind in graph.nodes(data="kind"):
        if kind in SWITCHES:
            assert sum(graph.edges[e]["links"] for e in graph.edges(node)) <= ports
    assert nx.is_connected(graph)
    assert all(a["bandwidth"] > 0 and a["latency"] >= 0 for _, _, a in graph.edges(data=True))


def test_planes_meet_only_over_nvlink() -> None:
    topology = load_topology("h800-2048")
    pieces = list(nx.connected_components(fabric_graph(topology)))
    assert len(pieces) == 8
    graph = topology.graph()
    assert all(graph.nodes[f"nic {g}"]["plane"] == g % 8 for g in range(64))


def path_latency(graph: "nx.Graph[str]", a: int, b: int) -> float:
    return float(nx.shortest_path_length(graph, f"gpu {a}", f"gpu {b}", weight="latency"))


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("h800-2048", [(0, 0), (0, 3), (0, 8), (0, 256), (0, 2040), (0, 9), (0, 2041)]),
        ("h100-512", [(0, 7), (0, 8), (0, 256), (0, 9), (3, 508)]),
        ("toy-2x8", [(0, 1), (0, 8), (0, 15)]),
    ],
)
def test_latency_is_that_of_the_path_through_the_graph(
    name: str, pairs: list[tuple[int, int]]
) -> None:
    topology = load_topology(name)
    a, b = np.array(pairs).T
    latency = topology.latency_between(a, b)
    expected = [path_latency(topology.graph(), *pair) for pair in pairs]
    assert latency == pytest.approx(expected)


def test_published_latencies() -> None:
    """arXiv 2505.09343 table 5: InfiniBand 2.8 us under a leaf, 3.7 us across; NVLink 3.33 us."""
    topology = load_topology("h800-2048")
    found = topology.latency_between(0, [0, 1, 8, 256])
    assert found == pytest.approx([0.0, 3.33e-6, 2.8e-6, 3.7e-6])
    graph = topology.graph()
    for peer, expected in ((1, 3.33e-6), (8, 2.8e-6), (256, 3.7e-6)):
        assert path_latency(graph, 0, peer) == pytest.approx(expected)


def load_text(tmp_path: Path, text: str) -> Topology:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return load_topology(path)


def load_toy(tmp_path: Path, *change: tuple[str, str], more: str = "") -> Topology:
    text = find_resource("topologies", "toy-2x8").read_text()
    for old, new in change:
        assert old in text
        text = text.replace(old, new, 1)
    return load_text(tmp_path, text + more)


def test_overrides_reach_graph_and_ports(tmp_path: Path) -> None:
    more = """
overrides:
  - {element: nic 5, bandwidth: 2.5 GB/s}
  - {element: nic 6, down: true}
  - {element: gpu 3, speed: 0.9}
  - {element: nvlink 2, bandwidth: 50 GB/s, latency: 3 us}
"""
    topology = load_toy(tmp_path, more=more)
    graph = topology.graph()
    assert graph.edges["nic 5", "leaf 0"]["bandwidth"] == 2.5e9
    assert graph.edges["nic 4", "leaf 0"]["bandwidth"] == 10e9
    assert "nic 6" not in graph
    assert graph.edges["gpu 2", "nvswitch 0"] == {
        "kind": "nvlink",
        "bandwidth": 50e9,
        "latency": 3e-6,
        "links": 1,
    }
    assert topology.nic_bandwidths().tolist()[4:8] == [10e9, 2.5e9, 0.0, 10e9]
    assert topology.nvlink_bandwidths()[2] == 50e9
    assert topology.gpu_speeds()[3] == 0.9
    json.dumps(topology.to_dict(), allow_nan=False)


def test_a_slow_link_of_a_bundle_and_a_dead_spine(tmp_path: Path) -> None:
    text = find_resource("topologies", "h100-512").read_text()
    more = """
overrides:
  - {element: leaf 3 - spine 1, bandwidth: 25 GB/s}
  - {element: spine 2, down: true}
"""
    graph = load_text(tmp_path, text + more).graph()
    slow, normal = graph.edges["leaf 3", "spine 1"], graph.edges["leaf 3", "spine 0"]
    assert slow["bandwidth"] == 25e9 * slow["links"]
    assert normal["bandwidth"] == 50e9 * normal["links"]
    assert "spine 2" not in graph


WRONG = [
    ("bandwidth: 10 GB/s", "bandwidth: -10 GB/s", "nic.bandwidth", "greater than zero"),
    ("bandwidth: 10 GB/s", "bandwidth: 0 GB/s", "nic.bandwidth", "greater than zero"),
    ("bandwidth: 10 GB/s", "bandwidth: .nan", "nic.bandwidth", "finite"),
    ("bandwidth: 10 GB/s", "bandwidth: 10 GB", "nic.bandwidth", "wrong unit"),
    ("bandwidth: 10 GB/s", "bandwidth: 10", "nic.bandwidth", "no unit"),
    ("latency: 2 us", "latency: 2 GB/s", "nic.latency", "wrong unit"),
    ("latency: 2 us", "latencies: 2 us", "nic.latencies", "did you mean latency"),
    ("gpus: 16", "gpus: 17", "gpus", "multiple of gpus_per_node = 8"),
    ("gpus: 16", "gpus: 0", "gpus", "at least 1"),
    ("gpus: 16", 'gpus: "16"', "gpus", "without quotes"),
    ("gpus: 16", "gpu_count: 16", "gpus", "missing"),
    ("gpu: toy", "gpu: h80", "gpu", "h800"),
    ("single-switch", "single-swich", "fabric.kind", "single-switch"),
    ("ports_per_switch: 16", "ports_per_switch: 8", "fabric.ports_per_switch", "cannot hold 16"),
    ("ports_per_switch: 16", "planes: 2", "fabric.planes", "only a multi-plane"),
    ("usd_per_gpu_hour: 1.0", "usd_per_gpu_hour: -1", "usd_per_gpu_hour", "at least 0"),
    ("usd_per_gpu_hour: 1.0", "usd_per_gpu_hour: .inf", "usd_per_gpu_hour", "finite"),
]


@pytest.mark.parametrize(("old", "new", "key", "rule"), WRONG)
def test_a_wrong_value_gets_its_line_key_and_rule(
    tmp_path: Path, old: str, new: str, key: str, rule: str
) -> None:
    # The GPU's and NVLink's lines hold the same words further up: change the NIC's.
    text = find_resource("topologies", "toy-2x8").read_text()
    head, _, tail = text.rpartition(old)
    with pytest.raises(InputError) as caught:
        load_text(tmp_path, head + new + tail)
    problem = next(p for p in caught.value.problems if p.key == key and rule in p.message)
    line = head.count("\n") + 1
    expected = {str(tmp_path / "cluster.yaml"), f"{tmp_path / 'cluster.yaml'}:{line}"}
    assert problem.place in expected or "missing" in problem.message


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    more = """
overrides:
  - {element: nic 16, bandwidth: 25 GB/s}
  - {element: nics 1, down: true}
  - {element: nic 1, bandwith: 25 GB/s}
  - {element: gpu 1, bandwidth: 25 GB/s}
  - {element: gpu 2, speed: 1.5}
  - {element: gpu 2}
  - 7
"""
    with pytest.raises(InputError) as caught:
        load_toy(tmp_path, ("gpu: toy", "gpu: tog"), ("1.0", "-1.0"), more=more)
    problems = {p.key: p for p in caught.value.problems}
    assert set(problems) >= {"gpu", "usd_per_gpu_hour", "overrides.0.element"}
    assert "nic 0 to 15" in problems["overrides.0.element"].message
    assert "did you mean 'nic'" in problems["overrides.1.element"].message
    assert "did you mean bandwidth" in problems["overrides.2.bandwith"].message
    assert "nvlink" in problems["overrides.3"].message
    assert "at most 1" in problems["overrides.4.speed"].message
    assert "changes nothing" in problems["overrides.5"].message
    assert "overrides.6" in problems
    assert all(":" in p.place for p in problems.values())


def test_links_that_are_not_there_are_refused(tmp_path: Path) -> None:
    text = find_resource("topologies", "h800-2048").read_text()
    more = """
overrides:
  - {element: leaf 0 - spine 31, down: true}
  - {element: spine 1 - leaf 0, down: true}
  - {element: leaf 64, down: true}
"""
    with pytest.raises(InputError) as caught:
        load_text(tmp_path, text + more)
    messages = [p.message for p in caught.value.problems]
    assert "not linked" in messages[0]
    assert "must be such as" in messages[1]
    assert "leaf 0 to 63" in messages[2]


@pytest.mark.parametrize("text", ["", "- 1\n", "gpus: [1\n"])
def test_files_that_hold_nothing_useful(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        load_text(tmp_path, text)


def test_a_gpu_beside_the_topology_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(find_resource("gpus", "toy").read_text())
    assert load_toy(tmp_path, ("gpu: toy", "gpu: mine.yaml")).gpu.id == "mine"


def test_schema_describes_every_field() -> None:
    schema = TopologyFile.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        assert all("description" in f for f in section.get("properties", {}).values())
