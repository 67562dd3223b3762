"""The expert all-to-all against the trace's transfers, DeepEP's sweep and hand counts."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from simdeep.cost.alltoall import (
    AllToAllKind,
    mean_traffic,
    price_alltoall,
    token_bytes,
    traffic,
)
from simdeep.cost.calibration import Calibration
from simdeep.cost.fit.alltoall import TRANSFERS, sweep_traffic, trace_traffic
from simdeep.cost.fit.rows import Row

from .conftest import TRACES, FakeLinks


def test_bytes_of_a_token() -> None:
    assert token_bytes("dispatch", 7168) == 7392
    assert token_bytes("dispatch_cached", 7168) == 7392
    assert token_bytes("combine", 7168) == 14336
    assert token_bytes("dispatch", 7168, "bf16") == 14336


def test_busiest_is_taken_port_by_port_and_combine_goes_back() -> None:
    out, back = np.array([[1.0, 5.0, 2.0]]), np.array([[4.0, 1.0, 3.0]])
    zero = np.zeros((1, 3))
    there = traffic("dispatch", 7168, out, back, zero, zero, own=2)
    assert there.busiest.ib_out == 5 * 7392
    assert there.busiest.ib_in == 4 * 7392
    assert there.own.ib_out == 2 * 7392
    home = traffic("combine", 7168, out, back, zero, zero, own=2)
    assert home.busiest.ib_out == 4 * 14336
    assert home.own.ib_in == 2 * 14336


@pytest.mark.parametrize("kind", sorted(TRANSFERS))
def test_each_transfer_of_the_trace(
    kind: AllToAllKind, trace: list[Row], calibration: Calibration, links: FakeLinks
) -> None:
    price = price_alltoall(trace_traffic(kind), links, calibration, 20)
    for row in trace:
        if row.kernel == TRANSFERS[kind]:
            assert float(price.moving_s) == pytest.approx(row.dur * 1e-6, rel=0.10)
    assert price.sms == 20
    assert price.draw == 1.0


def test_fewer_sms_copy_slower_as_in_the_sweep(calibration: Calibration) -> None:
    """H100, 4,096 tokens, SMs the limit (4 and 8 of them): within 15% of each row."""
    fast = FakeLinks(nvlink_bw=1e13, nic_bw=1e13)
    with (TRACES / "deepep_h100_sm_sweep.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["tokens_per_gpu"] == "4096"]
    checked = 0
    for r in rows:
        if int(r["sms"]) > 8:
            continue
        for kind in ("dispatch", "combine"):
            load = sweep_traffic(kind, int(r["nodes"]), 4096)
            found = price_alltoall(load, fast, calibration, int(r["sms"])).moving_s
            measured = float(r[f"{kind}_transmit_us"]) * 1e-6
            assert float(found) == pytest.approx(measured, rel=0.15), (kind, r)
            checked += 1
    assert checked == 8


def test_the_floor_falls_with_sms_and_vanishes_without(
    calibration: Calibration, links: FakeLinks
) -> None:
    load = trace_traffic("dispatch")
    floors = [price_alltoall(load, links, calibration, s).floor_s for s in (4, 8, 20)]
    assert floors[0] > floors[1] > floors[2] > 0
    assert price_alltoall(load, links, calibration, 0).floor_s == 0.0


def test_a_hot_peer_sets_the_pace(calibration: Calibration, links: FakeLinks) -> None:
    even = np.full((2, 64), 14000.0)
    hot = even.copy()
    hot[1, 7] *= 2
    load = traffic("dispatch", 7168, even, hot, even, even)
    seconds = price_alltoall(load, links, calibration, 20).moving_s
    assert seconds[1] == pytest.approx(2 * seconds[0])
    mine = price_alltoall(load, links, calibration, 20, whose="own").moving_s
    assert mine[1] == mine[0]


def test_mean_traffic_by_hand() -> None:
    load = mean_traffic("dispatch", 7168, 4096, remote_nodes=3.0, gpus=8.0, gpus_per_node=8).busiest
    assert load.ib_out == 4096 * 3 * 7392
    assert load.nvl_in == 4096 * 7 * 7392
