"""Fixtures: the shipped calibration, its GPU, links as of the H800 cluster, and trace rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import simdeep
from simdeep.cost.calibration import Calibration, load_calibration
from simdeep.cost.fit.rows import Row, read_trace
from simdeep.spec.hardware import Gpu, load_gpu

TRACES = Path(simdeep.__file__).parent / "data" / "traces"


@dataclass(frozen=True)
class FakeLinks:
    nvlink_bw: float = 160e9
    nic_bw: float = 50e9
    nvlink_latency_s: float = 0.0
    nic_latency_s: float = 0.0


@pytest.fixture(scope="session")
def h800() -> Gpu:
    return load_gpu("h800")


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    return load_calibration("h800")


@pytest.fixture
def links() -> FakeLinks:
    return FakeLinks()


@pytest.fixture
def perfect(calibration: Calibration) -> Calibration:
    """The H800's calibration with links that reach their full bandwidth."""
    curve = replace(calibration.collective, nic_fraction=1.0, nvl_fraction=1.0)
    return replace(calibration, collective=curve)


@pytest.fixture(scope="session")
def trace() -> list[Row]:
    return read_trace(TRACES / "h800_train_trace.csv")
