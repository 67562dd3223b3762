"""Effective training time against closed forms (Young, Daly) and a published run."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.analysis.reliability import (
    DAY,
    Failures,
    daly_interval_s,
    effective_time,
    expected_ratio,
    young_interval_s,
)
from simdeep.spec.fault_schema import LLAMA_3_GPU_HOURS_PER_FAILURE

TYPICAL = Failures(mtbf_s=10_000.0, restart_s=600.0, checkpoint_s=30.0)


def test_llama_3_had_a_failure_every_three_hours():
    """arXiv 2407.21783, section 3.3.4: 419 unexpected interruptions in 54 days, 16,384 GPUs."""
    failures = Failures.of_cluster(16_384, LLAMA_3_GPU_HOURS_PER_FAILURE, 600, 10)
    assert failures.mtbf_s / 3600 == pytest.approx(54 * 24 / 419)
    month = effective_time(failures, days=54, trials=400)
    assert month.failures_per_run == pytest.approx(419, rel=0.02)
    # "higher than 90% effective training time" (the same section), by our defaults.
    assert month.ratio == pytest.approx(0.90, abs=0.01)


@pytest.mark.parametrize("interval", [300.0, 775.0, 3000.0])
@pytest.mark.parametrize("restart", [0.0, 600.0, 5000.0])
def test_monte_carlo_is_dalys_closed_form(interval, restart):
    """Over a long run the mean is eq. 20, which is exact for exponential failures."""
    failures = Failures(10_000.0, restart, 30.0)
    run = effective_time(failures, interval, days=400, trials=300)
    error = 4 * (run.high - run.low) / 3.29 / math.sqrt(run.trials) + 2 * interval / (400 * DAY)
    assert run.ratio == pytest.approx(run.expected, abs=error)


def test_dalys_optimum_is_the_best_interval():
    best = daly_interval_s(TYPICAL)
    grid = np.linspace(0.3, 3, 541) * best
    ratios = [expected_ratio(TYPICAL, interval) for interval in grid]
    assert grid[int(np.argmax(ratios))] == pytest.approx(best, rel=0.01)
    assert best == pytest.approx(young_interval_s(TYPICAL) - TYPICAL.checkpoint_s, rel=0.03)


def test_youngs_optimum_is_dalys_limit():
    rare = Failures(1e9, 600.0, 1.0)
    assert young_interval_s(rare) == pytest.approx(math.sqrt(2e9))
    assert daly_interval_s(rare) == pytest.approx(young_interval_s(rare), rel=1e-4)


def test_hopeless_clusters():
    hopeless = Failures(10.0, 600.0, 30.0)
    assert daly_interval_s(hopeless) == 10.0
    assert expected_ratio(hopeless, 1e6) == 0.0
    assert effective_time(hopeless, days=1, trials=20).ratio < 0.01


def test_no_failure_costs_only_checkpoints():
    run = effective_time(Failures(1e15, 600.0, 30.0), 970.0, trials=20)
    assert run.ratio == pytest.approx(0.97, abs=1e-3)
    assert run.restarts == run.repeated == run.failures_per_run == 0
    assert run.low == run.high == pytest.approx(run.ratio)


@settings(deadline=None, max_examples=50)
@given(
    st.floats(100, 1e6),
    st.floats(0, 5000),
    st.floats(1, 500),
    st.floats(10, 1e5),
    st.integers(0, 9),
)
def test_parts_add_up_to_the_run(mtbf, restart, checkpoint, interval, seed):
    failures = Failures(mtbf, restart, checkpoint)
    run = effective_time(failures, interval, days=3, trials=10, seed=seed)
    assert run.ratio + run.checkpoints + run.restarts + run.repeated == pytest.approx(1.0)
    assert 0 <= run.low <= run.high <= 1
    again = effective_time(failures, interval, days=3, trials=10, seed=seed)
    assert (again.ratio, again.low, again.high) == (run.ratio, run.low, run.high)


def test_more_gpus_train_a_smaller_share():
    shares = [
        effective_time(Failures.of_cluster(n, 50_000.0, 600, 10)).ratio for n in (256, 2048, 16_384)
    ]
    assert shares == sorted(shares, reverse=True)
