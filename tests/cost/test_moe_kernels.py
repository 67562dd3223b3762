"""The kernel models: hand counts, limits, and what must follow from hot peers and slow ports."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.cost.moe import (
    HopCopies,
    PairTraffic,
    PortLinks,
    dispatch_combine,
    fewest_sms,
    from_dispatches,
    from_loads,
    ideal_kernels,
    load_kernels,
    random_pairs,
)
from simdeep.cost.moe.normal import copy_time
from simdeep.errors import InputError
from simdeep.program.routing import Gate, contiguous, gate_dispatches

LINKS = PortLinks(nvlink_bw=160e9, nic_bw=50e9, nvlink_latency_s=3.33e-6, nic_latency_s=2.8e-6)
V3 = Gate(256, 8, 8, 4)


@pytest.fixture(scope="module")
def routed() -> HopCopies:
    return from_dispatches(gate_dispatches(V3, contiguous(256, 64, 8), 1024, 0.1, 2, 0))


def test_copies_of_dispatches_agree_with_their_loads() -> None:
    routed = gate_dispatches(V3, contiguous(256, 64, 8), 256, 0.3, 2, 1)
    exact, summed = from_dispatches(routed), from_loads(routed.loads(), 8)
    for name in ("forwarded", "received", "ib_out", "ib_in", "nvl_out", "nvl_in", "tokens"):
        assert getattr(exact, name) == pytest.approx(getattr(summed, name)), name
    assert exact.sent.sum() == pytest.approx(summed.sent.sum())
    assert exact.landed.sum() == exact.sent.sum()
    assert exact.forwarded.sum() == exact.received.sum()


def test_copy_time_by_hand() -> None:
    one = np.ones(1)
    assert copy_time(one, 0 * one, 10) == pytest.approx(1.0)
    assert copy_time(0 * one, one, 10) == pytest.approx(1.0)
    # One channel does one after the other.
    assert copy_time(one, one, 1) == pytest.approx(2.0)
    # Two channels, a chunk of 2 s alone and 1 s at the port: it finds 1/3 of a chunk queued there.
    assert copy_time(one, one, 2) == pytest.approx((2 + 4 / 3) / 2)


@given(work=st.floats(0, 1e3), port=st.floats(0, 1e3), channels=st.integers(1, 66))
def test_copy_time_lies_between_the_longer_and_the_sum(
    work: float, port: float, channels: int
) -> None:
    seconds = float(copy_time(np.array(work), np.array(port), channels))
    assert seconds >= max(work, port) * (1 - 1e-9)
    assert seconds <= (work + port) * (1 + 1e-9)


def test_combine_moves_the_same_copies_back(routed: HopCopies) -> None:
    there = dispatch_combine(routed, LINKS, "dispatch")
    back = dispatch_combine(routed, LINKS, "combine")
    assert back.port_bytes[0] == pytest.approx(there.port_bytes[1] * 14336 / 7392)
    assert back.port_bytes[3] == pytest.approx(there.port_bytes[2] * 14336 / 7392)


def test_logical_counts_the_own_node_and_physical_does_not(routed: HopCopies) -> None:
    found = dispatch_combine(routed, LINKS)
    assert found.logical_ib_gbps / found.ib_gbps == pytest.approx(
        routed.sent.sum() / routed.ib_out.sum(), rel=0.05
    )


@pytest.mark.parametrize("direction", ["dispatch", "combine"])
def test_a_slow_nic_holds_up_those_it_feeds(routed: HopCopies, direction: str) -> None:
    nic = np.full(64, 50e9)
    nic[13] = 10e9
    links = replace(LINKS, nic_bw=nic)
    way = "combine" if direction == "combine" else "dispatch"
    slow, well = (dispatch_combine(routed, x, way) for x in (links, LINKS))
    assert (slow.finish_s >= slow.alone_s - 1e-12).all()
    assert slow.time_s[0] > 3 * well.time_s[0]
    assert slow.hot_ports(1)[0][0] in ("nic-in of gpu 13", "nic-out of gpu 13")
    if way == "dispatch":
        assert (slow.finish_s[0] > 3 * well.finish_s[0]).all()  # all get tokens of GPU 13
    else:
        assert slow.finish_s[0, 5] > 3 * well.finish_s[0, 5]  # its index on another node
        assert slow.finish_s[0, 6] == pytest.approx(well.finish_s[0, 6])


def test_skew_makes_the_last_gpu_later() -> None:
    place = contiguous(256, 64, 8)
    even, hot = (
        from_dispatches(gate_dispatches(V3, place, 1024, skew, 1, 0)) for skew in (0.0, 1.0)
    )
    times = [dispatch_combine(c, LINKS).time_s[0] for c in (even, hot)]
    assert times[1] > 1.2 * times[0]


@given(sms=st.integers(1, 30))
def test_more_sms_never_hurt_much(routed: HopCopies, sms: int) -> None:
    """More channels hold fewer chunks each, so that the hops overlap a little less."""
    less, more = (
        float(dispatch_combine(routed, LINKS, sms=2 * s).time_s[0]) for s in (sms, sms + 1)
    )
    assert more < less * 1.02


def test_low_latency_by_hand() -> None:
    """Two nodes of two GPUs; each GPU sends 10 messages to each."""
    traffic = PairTraffic(2, np.full((1, 4, 4), 10.0))
    links = PortLinks(nvlink_bw=100e9, nic_bw=10e9)
    found = dispatch_combine(traffic, links, mode="low-latency", kernels=ideal_kernels())
    assert found.finish_s == pytest.approx(np.full((1, 4), 20 * 7408 / 10e9))
    alone = dispatch_combine(
        traffic, links, "combine", mode="low-latency", kernels=ideal_kernels(), nvlink=False
    )
    assert alone.finish_s == pytest.approx(np.full((1, 4), 30 * 14336 / 10e9))
    assert found.limit == "ib"
    assert found.logical_ib_bytes == pytest.approx(np.full((1, 4), 40 * 7408))


def test_low_latency_combine_waits_for_the_popular_experts() -> None:
    pairs = np.full((1, 16, 16), 10.0)
    pairs[0, :, 3] = 30.0
    traffic = PairTraffic(8, pairs)
    there = dispatch_combine(traffic, LINKS, mode="low-latency")
    back = dispatch_combine(traffic, LINKS, "combine", mode="low-latency")
    assert there.finish_s[0, 3] > 1.4 * there.finish_s[0, 12]
    assert np.ptp(back.finish_s) == pytest.approx(0.0)


def test_fast_enough() -> None:
    place = contiguous(320, 320, 8)
    random_pairs(Gate(320, 8), place, 4)  # compiles
    begin = time.perf_counter()
    traffic = random_pairs(Gate(320, 8), place, 128)
    dispatch_combine(traffic, LINKS, mode="low-latency")
    assert time.perf_counter() - begin < 0.5
    begin = time.perf_counter()
    routed = gate_dispatches(V3, contiguous(256, 64, 8), 4096, 0.1, 1, 0)
    dispatch_combine(from_dispatches(routed), LINKS)
    assert time.perf_counter() - begin < 0.5


def test_fewest_sms() -> None:
    assert fewest_sms([(4, 2.0), (8, 1.04), (12, 1.0), (16, 1.01)]) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sms": 1}, "need at least 2"),
        ({"mode": "low-latency"}, "pairs"),
        ({"mode": "fast"}, "must be normal or low-latency"),
    ],
)
def test_refusals(routed: HopCopies, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dispatch_combine(routed, LINKS, **change)  # type: ignore[arg-type]


def test_a_dead_port_is_refused() -> None:
    with pytest.raises(InputError, match="nic_bw"):
        PortLinks(nvlink_bw=160e9, nic_bw=np.array([50e9, 0.0]))


def test_constants_file_without_constants(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("constants:\n  nic_efficiency:\n    value: 0.9\n")
    with pytest.raises(InputError, match="constants"):
        load_kernels(path)
