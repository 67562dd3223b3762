"""Broken, slow and misspelt elements of a cluster, and clusters in pieces."""

from pathlib import Path

import pytest

from simdeep.errors import InputError
from simdeep.spec.fabric_graph import list_gpus
from simdeep.spec.resources import find_resource
from simdeep.spec.topology import Topology, load_topology


def load(
    tmp_path: Path, name: str, *overrides: str, change: tuple[str, str] = ("", "")
) -> Topology:
    text = find_resource("topologies", name).read_text()
    assert change[0] in text
    text = text.replace(change[0], change[1], 1) if change[0] else text
    path = tmp_path / "cluster.yaml"
    path.write_text(text + "overrides:\n" + "".join(f"  - {{{o}}}\n" for o in overrides))
    return load_topology(path)


def messages(tmp_path: Path, name: str, *overrides: str, **change: tuple[str, str]) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(tmp_path, name, *overrides, **change)
    assert caught.value.exit_code == 2
    return [str(problem) for problem in caught.value.problems]


def test_hosts_of_an_nvlink_domain() -> None:
    topology = load_topology("gb200-nvl72-576")
    assert topology.counts()["hosts"] == 144
    assert topology.counts()["nodes"] == 8
    graph = topology.graph()
    assert (graph.nodes["gpu 75"]["node"], graph.nodes["gpu 75"]["host"]) == (1, 18)


def test_hosts_must_divide_the_domain(tmp_path: Path) -> None:
    change = ("gpus_per_host: 4", "gpus_per_host: 5")
    (message,) = messages(tmp_path, "gb200-nvl72-576", "element: nic 5, down: true", change=change)
    assert "must divide gpus_per_node = 72" in message


def test_some_cables_of_a_bundle_break(tmp_path: Path) -> None:
    topology = load(tmp_path, "h800-2048", "element: leaf 0 - spine 1, down: true, links: 3")
    edge = topology.graph().edges["leaf 0", "spine 1"]
    assert (edge["links"], edge["bandwidth"]) == (5, 5 * 50e9)
    table = topology.link_table()
    mine = [i for i in table.of_kind("leaf-up") if table.name(i).startswith("leaf 0 -> spine 1 #")]
    assert [table.name(i)[-2:] for i in mine] == ["#0", "#1", "#2", "#3", "#4"]
    assert (table.bandwidth[mine] == 50e9).all()


def test_every_tier_can_be_overridden(tmp_path: Path) -> None:
    topology = load(
        tmp_path,
        "h800-2048-ft3",
        "element: core 3, down: true",
        "element: spine 1 - core 1, bandwidth: 25 GB/s",
        "element: pcie 7, bandwidth: 32 GB/s",
    )
    graph = topology.graph()
    assert "core 3" not in graph
    edge = graph.edges["spine 1", "core 1"]
    assert edge["bandwidth"] == 25e9 * edge["links"]
    assert graph.edges["gpu 7", "nic 7"]["bandwidth"] == 32e9
    assert graph.edges["gpu 6", "nic 6"]["bandwidth"] == 64e9


def test_pcie_of_an_h800_node_is_within_what_its_lanes_carry() -> None:
    """arXiv 2505.09343v2 sec 4.5: 160 lanes of PCIe 5, 640 GB/s a node; 16 lanes for each GPU."""
    table = load_topology("h800-2048").link_table()
    lanes = table.of_kind("pcie-out")
    assert table.bandwidth[lanes[:8]].sum() == 512e9 <= 640e9
    assert (table.bandwidth[lanes] >= table.bandwidth[table.of_kind("nic-out")]).all()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("element: core 0, down: true", "the cluster has no core"),
        ("element: switch 0, down: true", "the cluster has no switch"),
        ("element: lead 0, down: true", "did you mean 'leaf'"),
        ("element: leaf 0 - spine 1, down: true, links: 9", "the two have 8 link(s)"),
        ("element: leaf 0, down: true, links: 1", "links goes with down"),
        ("element: nic 3, bandwidth: 0 GB/s", "greater than zero"),
        ("element: leaf 0 - leaf 1, down: true", "must be such as"),
    ],
)
def test_overrides_that_name_nothing(tmp_path: Path, override: str, says: str) -> None:
    (message,) = messages(tmp_path, "h800-2048", override)
    assert says in message


def test_a_cluster_in_pieces_is_refused_with_its_gpus(tmp_path: Path) -> None:
    (message,) = messages(tmp_path, "toy-2x8", "element: leaf 0, down: true")
    assert "overrides: disconnected: no way between gpu 8-15 and gpu 0-7" in message
    both = ("element: nic 5, down: true", "element: nvlink 5, down: true")
    (message,) = messages(tmp_path, "toy-2x8", *both)
    assert "no way between gpu 5 and gpu 0-4, 6-15 (15 in all)" in message


def test_an_edge_list_in_pieces_is_refused(tmp_path: Path) -> None:
    cut = ("    - {ends: [switch 0, switch 1], links: 2, bandwidth: 20 GB/s}\n", "")
    assert load(tmp_path, "edge-list-2x8", "element: gpu 1, speed: 0.9", change=cut).gpus == 16
    text = find_resource("topologies", "edge-list-2x8").read_text()
    path = tmp_path / "pieces.yaml"
    kept = [line for line in text.splitlines() if "[switch" not in line and "nic 15" not in line]
    text = "\n".join(kept).replace("nic 8-14", "nic 8-15")
    path.write_text(text)
    with pytest.raises(InputError, match=r"fabric.edges: disconnected: no way between gpu 8-15"):
        load_topology(path)


def test_all_gpus_down(tmp_path: Path) -> None:
    downs = [f"element: gpu {i}, down: true" for i in range(16)]
    assert messages(tmp_path, "toy-2x8", *downs)[0].endswith("every gpu is down")


def test_wrong_edges_have_their_lines(tmp_path: Path) -> None:
    for old, new, says in (
        ("[nic 0-7, switch 0]", "[nic 0-77, switch 0]", "the cluster has nic 0 to 15"),
        ("latency: 1 us}", "latency: 1 GB}", "wrong unit"),
        ("bandwidth: 20 GB/s", "bandwidth: 0 GB/s", "greater than zero"),
        ("bandwidth: 20 GB/s", "bandwith: 20 GB/s", "did you mean bandwidth"),
        ("[nic 0-7, switch 0]", "[nic 0-7]", "ends"),
    ):
        text = find_resource("topologies", "edge-list-2x8").read_text()
        path = tmp_path / "edges.yaml"
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(InputError) as caught:
            load_topology(path)
        problem = caught.value.problems[0]
        assert says in str(problem)
        assert problem.key.startswith("fabric.edges.")
        line = 1 + text[: text.index(old)].count("\n")
        assert problem.place == f"{path}:{line}"


def test_gpus_are_listed_in_runs() -> None:
    assert list_gpus([3]) == "gpu 3"
    assert list_gpus([3, 1, 2, 9]) == "gpu 1-3, 9 (4 in all)"
    assert list_gpus(range(0, 40, 2)) == "gpu 0, 2, 4, 6, 8, 10, ... (20 in all)"
