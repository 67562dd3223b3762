"""The all-to-all of a training step against the trace's transfers, and how it scales."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from simdeep.cost.alltoall import AllToAllKind, isolated, price_alltoall
from simdeep.cost.calibration import Calibration
from simdeep.cost.fit.alltoall import TRANSFERS, trace_copies
from simdeep.cost.fit.rows import Row
from simdeep.cost.moe import HopCopies
from simdeep.spec.topology import load_topology

SETTING = {"hidden": 7168, "dtype": "fp8"}


@pytest.fixture(scope="module")
def copies() -> HopCopies:
    return trace_copies()[0]


@pytest.mark.parametrize("kind", sorted(TRANSFERS))
def test_each_transfer_of_the_trace(
    kind: AllToAllKind, trace: list[Row], calibration: Calibration, copies: HopCopies
) -> None:
    links = load_topology("h800-2048")
    price = price_alltoall(kind, copies, links, calibration, sms=20, **SETTING)
    for row in trace:
        if row.kernel == TRANSFERS[kind]:
            assert np.mean(price.moving_s) == pytest.approx(row.dur * 1e-6, rel=0.10)
    assert price.sms == 20
    assert price.draw == 1.0


@pytest.mark.parametrize("kind", sorted(TRANSFERS))
def test_training_slows_every_kernel_down(kind: AllToAllKind, calibration: Calibration) -> None:
    """Shared HBM and ranks that start apart cost time; more than twice would be a fault."""
    assert 1.0 < calibration.alltoall[kind].slowdown < 2.0


def test_fewer_sms_are_slower_until_the_ports_limit(
    calibration: Calibration, copies: HopCopies
) -> None:
    links = load_topology("h800-2048")
    prices = [
        price_alltoall("combine", copies, links, calibration, sms=sms, **SETTING)
        for sms in (4, 8, 12, 20, 40)
    ]
    times = [float(np.mean(price.moving_s)) for price in prices]
    assert all(a > b for a, b in pairwise(times[:4]))
    assert times[0] > 1.5 * times[3]
    assert times[3] == pytest.approx(times[4], rel=0.10)


def test_without_sms_only_the_ports_count(calibration: Calibration, copies: HopCopies) -> None:
    links = load_topology("h800-2048")
    free = isolated("dispatch", copies, links, 0, 7168, "fp8")
    many = isolated("dispatch", copies, links, 132, 7168, "fp8")
    assert (free.time_s <= many.time_s).all()
    wire = free.port_s.max(axis=(0, 2))
    assert (free.time_s >= wire).all()
    price = price_alltoall("dispatch", copies, links, calibration, sms=0, **SETTING)
    assert price.sms == 0


def test_by_rank_the_last_rank_is_the_folded_time(
    calibration: Calibration, copies: HopCopies
) -> None:
    links = load_topology("h800-2048")
    folded = price_alltoall("dispatch", copies, links, calibration, sms=20, **SETTING)
    ranks = price_alltoall("dispatch", copies, links, calibration, sms=20, by_rank=True, **SETTING)
    by_rank = np.asarray(ranks.floor_s).reshape(-1, copies.ranks)
    np.testing.assert_allclose(by_rank.max(axis=1), folded.floor_s)
    assert (by_rank.min(axis=1) < folded.floor_s).all()


def test_half_the_infiniband_is_felt(calibration: Calibration, copies: HopCopies) -> None:
    links = load_topology("h800-2048")
    half = replace(links, nic_bw=links.nic_bw / 2)
    fast, slow = (
        float(
            np.mean(price_alltoall("combine", copies, x, calibration, sms=20, **SETTING).moving_s)
        )
        for x in (links, half)
    )
    assert 1.5 * fast < slow <= 2.01 * fast
