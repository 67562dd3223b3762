"""Collectives over links: against the closed forms, published bandwidths, and each other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.cost.calibration import load_calibration
from simdeep.cost.collectives import Group, collective, point_to_point
from simdeep.cost.collectives.algorithms import double_tree, flat_rings, messages
from simdeep.engine.collectives import Network, format_table, run, sweep
from simdeep.errors import InputError
from simdeep.spec.topology import Override, load_topology

H800 = load_topology("h800-2048")
NET = Network.of(H800)
CURVE = load_calibration("h800")
PERFECT = replace(CURVE, collective=replace(CURVE.collective, nic_fraction=1.0, nvl_fraction=1.0))
REDUCING = ("all_reduce", "all_gather", "reduce_scatter")
ONE_A_NODE = range(0, 128, 8)


def without_latency(net):
    return replace(net, latency=np.zeros_like(net.latency))


# --- where nothing contends: the closed forms -------------------------------------------------
@pytest.mark.parametrize("kind", REDUCING)
@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("nbytes", [8.0, 1e9])
def test_ring_in_a_node_is_the_closed_form(kind, n, nbytes):
    closed = collective(kind, nbytes, Group(1, n), H800, PERFECT).alone_s
    assert run(NET, kind, nbytes, range(n), "ring").seconds == pytest.approx(closed, rel=1e-3)


@pytest.mark.parametrize("kind", REDUCING)
@pytest.mark.parametrize("nodes", [2, 16, 31])
def test_ring_over_nodes_is_the_closed_form(kind, nodes):
    closed = collective(kind, 1e9, Group(nodes, 1), H800, PERFECT).alone_s
    found = run(NET, kind, 1e9, range(0, 8 * nodes, 8), "ring").seconds
    assert found == pytest.approx(closed, rel=1e-4)


@pytest.mark.parametrize("kind", REDUCING)
@pytest.mark.parametrize("nodes", [2, 8])
def test_hierarchical_is_the_closed_form(kind, nodes):
    group = Group(nodes, 8)
    closed = collective(kind, 1e9, group, H800, PERFECT).alone_s
    found = run(NET, kind, 1e9, range(8 * nodes), "hierarchical").seconds
    assert found == pytest.approx(closed, rel=1e-4)


@pytest.mark.parametrize("peer", [1, 8])
def test_send_is_the_closed_form(peer):
    closed = point_to_point(1e8, H800, PERFECT, same_node=peer < 8).alone_s
    assert run(NET, "send", 1e8, [0, peer]).seconds == pytest.approx(closed, rel=1e-6)


def test_calibrated_shares_scale_the_links():
    net = Network.of(H800, calibration=CURVE)
    closed = point_to_point(1e9, H800, CURVE, same_node=False).alone_s
    assert run(net, "send", 1e9, [0, 8]).seconds == pytest.approx(closed)


def test_all_to_all_is_its_busiest_port():
    """64 GPUs: 56 of 64 parts leave by the NIC."""
    found = run(without_latency(NET), "all_to_all", 64e6, range(64))
    assert found.seconds == pytest.approx(56e6 / 50e9, rel=1e-6)
    assert found.bottleneck.startswith("nic")
    assert found.busbw == pytest.approx(64e6 * 63 / 64 / found.seconds)


# --- published figures -------------------------------------------------------------------------
@pytest.mark.parametrize(("gpus", "algbw"), [(5, 258), (6, 265), (7, 270), (8, 273)])
def test_nvls_of_h100(gpus, algbw):
    """NVIDIA/nccl issue 1455: all_reduce_perf on H100 by NVLS; its rings reach 365 GB/s."""
    h100 = load_topology("h100-512")
    net = Network.of(h100)
    scaled = replace(net, bandwidth=net.bandwidth * 365e9 / h100.nvlink_bw)
    found = run(scaled, "all_reduce", 4e9, range(gpus), "nvls")
    assert found.algbw / 1e9 == pytest.approx(algbw, rel=0.03)


def test_nvls_of_h800():
    """NVIDIA/nccl issue 1374: 215 GB/s on 8 H800, whose NVLink carries 160 to us."""
    assert run(NET, "all_reduce", 8e9, range(8)).busbw / 1e9 == pytest.approx(215, rel=0.03)


def test_nvls_gathers_no_faster_than_a_ring():
    """NVIDIA/nccl issue 1083: a reduce-scatter sends S either way, so NCCL takes the ring."""
    assert run(NET, "reduce_scatter", 1e9, range(8)).algorithm == "ring"
    assert run(NET, "all_reduce", 1e9, range(8)).algorithm == "nvls"


# --- one against the other ---------------------------------------------------------------------
@settings(deadline=None, max_examples=20)
@given(st.sampled_from(REDUCING), st.integers(2, 8), st.integers(1, 10**9))
def test_ring_step_by_step_takes_as_long_as_pipelined(kind, n, nbytes):
    whole = run(NET, kind, nbytes, range(n), "ring").seconds
    steps = run(NET, kind, nbytes, range(n), "ring", stepped=True).seconds
    assert steps == pytest.approx(whole, rel=1e-6, abs=1e-9 * 4 * n)


@pytest.mark.parametrize("algorithm", ["ring", "tree", "hierarchical", "nvls"])
def test_all_reduce_reaches_the_nics(algorithm):
    """On a slow fabric no algorithm beats, and each nears, 2(N-1)/N S/g over every NIC."""
    slow = np.where(NET.bandwidth == H800.nic_bw, 5e9, NET.bandwidth)
    net = without_latency(replace(NET, bandwidth=slow))
    bound = 2 * 7 / 8 * 1e9 / 8 / 5e9
    found = run(net, "all_reduce", 1e9, range(64), algorithm).seconds
    assert bound * (1 - 1e-6) <= found <= bound * 1.15


@pytest.mark.parametrize("n", [1, 2, 3, 8, 13, 32])
def test_double_tree(n):
    """Both trees reach one root, at most two children each, and no rank is inside both."""
    inner = []
    for parent in double_tree(n):
        roots = np.flatnonzero(parent == np.arange(n))
        assert len(roots) == 1
        at = np.arange(n)
        for _ in range(2 * n.bit_length()):
            at = parent[at]
        assert (at == roots[0]).all()
        children = np.bincount(parent[np.arange(n) != roots[0]], minlength=n)
        assert children.max() <= 2
        inner.append(set(np.flatnonzero(children == 2)))
    assert not inner[0] & inner[1]


def test_flat_rings_stay_on_their_rails():
    grid = np.arange(32).reshape(4, 8)
    for order in flat_rings(grid):
        assert sorted(order) == list(range(32))
        crossing = order // 8 != np.roll(order, -1) // 8
        assert crossing.sum() == 4
        assert (order[crossing] % 8 == np.roll(order, -1)[crossing] % 8).all()


def test_ring_bytes():
    """Every rank sends and receives 2(N-1)/N S in all, whatever the way it is written down."""
    for stepped in (False, True):
        sent = messages("all_reduce", "ring", np.arange(4)[None, :], 4e6, stepped=stepped)
        moved = np.repeat(sent.nbytes, np.diff(sent.ptr))
        np.testing.assert_allclose(np.bincount(sent.src, weights=moved), 6e6)
        np.testing.assert_allclose(np.bincount(sent.dst, weights=moved), 6e6)


# --- where the fabric shows --------------------------------------------------------------------
def test_slow_nic_holds_a_ring_back():
    slow = replace(H800, overrides=(Override(element="nic 8", bandwidth="10 GB/s"),))
    fast_s = run(NET, "all_gather", 1e9, ONE_A_NODE, "ring").seconds
    found = run(Network.of(slow), "all_gather", 1e9, ONE_A_NODE, "ring")
    assert found.seconds == pytest.approx(5 * fast_s, rel=0.02)
    assert "nic 8" in found.bottleneck


def test_collisions_cost_time():
    """One rail over many leaves: hashed ways meet on leaf uplinks, static ones do not."""
    ranks = range(0, 2048, 8)
    static = run(NET, "all_to_all", 256e6, ranks)
    hashed = run(Network.of(H800, "hashed", seed=1), "all_to_all", 256e6, ranks)
    assert static.seconds == pytest.approx(255e6 / 50e9, rel=0.01)
    assert hashed.seconds > 1.02 * static.seconds


def test_bad_groups():
    with pytest.raises(InputError, match="names gpu 3 twice"):
        run(NET, "all_reduce", 1e6, [1, 3, 3])
    with pytest.raises(InputError, match="is empty"):
        run(NET, "all_reduce", 1e6, [])
    with pytest.raises(InputError, match="here it can by ring"):
        run(NET, "all_gather", 1e6, range(2), "tree")


def test_one_rank_is_done_at_once():
    found = run(NET, "all_reduce", 1e6, [5])
    assert (found.seconds, found.busbw) == (0.0, 0.0)


def test_table():
    text = format_table(sweep(NET, "all_reduce", [1024, 1e9], range(8)))
    head, units, small, large = text.splitlines()
    assert head.split()[1:8] == ["size", "op", "algorithm", "ranks", "time", "algbw", "busbw"]
    assert units.split()[1:] == ["(B)", "(us)", "(GB/s)", "(GB/s)"]
    assert small.split()[0] == "1024"
    fields = large.split()
    assert fields[:4] == ["1000000000", "all_reduce", "nvls", "8"]
    assert float(fields[6]) == pytest.approx(float(fields[5]) * 1.75, rel=1e-3)
