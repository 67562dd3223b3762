"""Collectives against nccl-tests' definition of bus bandwidth, and against exact small cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.cost.calibration import Calibration, load_calibration
from simdeep.cost.collectives import CollectiveKind, Group, collective, point_to_point

from .conftest import FakeLinks

CALIBRATION = load_calibration("h800")
BUSBW = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0}
kinds = st.sampled_from(sorted(BUSBW))


@pytest.mark.parametrize("kind", sorted(BUSBW))
@pytest.mark.parametrize("n", [2, 4, 8])
def test_bus_bandwidth_in_a_node_is_nvlinks(
    kind: CollectiveKind, n: int, links: FakeLinks, perfect: Calibration
) -> None:
    """busbw = S/t x passes x (N-1)/N equals the link's bandwidth (nccl-tests PERFORMANCE.md)."""
    size = 1e9
    seconds = collective(kind, size, Group(1, n), links, perfect).alone_s
    assert size / seconds * BUSBW[kind] * (n - 1) / n == pytest.approx(links.nvlink_bw)


@pytest.mark.parametrize("kind", sorted(BUSBW))
@pytest.mark.parametrize("n", [2, 16, 64])
def test_bus_bandwidth_with_one_gpu_a_node_is_the_nics(
    kind: CollectiveKind, n: int, links: FakeLinks, perfect: Calibration
) -> None:
    size = 1e9
    seconds = collective(kind, size, Group(n, 1), links, perfect).alone_s
    assert size / seconds * BUSBW[kind] * (n - 1) / n == pytest.approx(links.nic_bw)


def test_all_nics_of_a_node_work(links: FakeLinks, perfect: Calibration) -> None:
    """Two nodes of eight: NVLink carries 7/8 S a pass, each NIC S/16."""
    price = collective("all_gather", 16e9, Group(2, 8), links, perfect)
    assert price.nvl_out_s == pytest.approx(14e9 / 160e9)
    assert price.ib_out_s == pytest.approx(1e9 / 50e9)
    assert price.alone_s == pytest.approx(14e9 / 160e9)


def test_small_messages_cost_their_hops(perfect: Calibration) -> None:
    links = FakeLinks(nvlink_latency_s=3e-6, nic_latency_s=4e-6)
    assert collective("all_gather", 1.0, Group(1, 8), links, perfect).alone_s == pytest.approx(
        7 * 3e-6, rel=1e-3
    )
    assert collective("all_reduce", 1.0, Group(4, 8), links, perfect).alone_s == pytest.approx(
        2 * (2 * 4e-6 + 7 * 3e-6),
        rel=1e-3,  # a tree over four nodes is two hops deep
    )


def test_one_rank_has_nothing_to_send(links: FakeLinks, perfect: Calibration) -> None:
    assert collective("all_reduce", 1e9, Group(1, 1), links, perfect).alone_s == 0.0


@given(kinds, st.integers(1, 32), st.integers(1, 8), st.floats(1, 1e10), st.floats(1, 4))
def test_more_bytes_are_never_faster(
    kind: CollectiveKind, nodes: int, per_node: int, size: float, factor: float
) -> None:
    group, links = Group(nodes, per_node), FakeLinks(nvlink_latency_s=1e-6, nic_latency_s=4e-6)
    less = collective(kind, size, group, links, CALIBRATION).alone_s
    more = collective(kind, size * factor, group, links, CALIBRATION).alone_s
    assert more >= less


@given(st.integers(1, 32), st.integers(1, 8), st.floats(1, 1e10))
def test_all_reduce_is_reduce_scatter_and_all_gather(
    nodes: int, per_node: int, size: float
) -> None:
    group, links = Group(nodes, per_node), FakeLinks(nvlink_latency_s=1e-6, nic_latency_s=4e-6)

    def seconds(kind: CollectiveKind) -> float:
        return float(collective(kind, size, group, links, CALIBRATION).alone_s)

    halves = seconds("reduce_scatter") + seconds("all_gather")
    assert seconds("all_reduce") <= halves * (1 + 1e-9)
    if size > 1e9:  # a tree is for small messages only
        assert seconds("all_reduce") == pytest.approx(halves)


def test_point_to_point_uses_one_link(links: FakeLinks, perfect: Calibration) -> None:
    out = point_to_point(1e9, links, perfect, same_node=False)
    inside = point_to_point(1e9, links, perfect, same_node=True)
    assert out.ports == pytest.approx((0.02, 0.02, 0.0, 0.0))
    assert inside.ports == pytest.approx((0.0, 0.0, 0.00625, 0.00625))
    assert 0 < out.draw < 1


def test_sizes_may_be_arrays(links: FakeLinks, perfect: Calibration) -> None:
    price = point_to_point(np.array([1e9, 2e9]), links, perfect, same_node=False)
    assert np.allclose(price.alone_s, [0.02, 0.04])


def test_group_of_a_size() -> None:
    assert Group.of(64, 8) == Group(8, 8)
    assert Group.of(4, 8) == Group(1, 4)
    with pytest.raises(ValueError, match="at least one GPU"):
        Group(0, 8)
