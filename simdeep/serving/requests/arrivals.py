"""When requests arrive: Poisson or bursty, at a rate that may change by the hour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simdeep.errors import InputError, Problem
from simdeep.serving.sim.fleet import F64, I64

HOUR = 3600.0


def arrival_times(
    rate: float,
    duration: float,
    rng: np.random.Generator,
    *,
    burstiness: float = 1.0,
    by_hour: Sequence[float] = (),
) -> I64:
    """Arrival times in nanoseconds, ascending, from 0 to `duration` seconds.

    Intervals are gamma distributed (`burstiness` 1: exponential, so Poisson). With `by_hour` the
    same process runs on a clock that goes faster in busy hours, so that expected counts follow.

    Args:
        rate: requests a second on average over `duration`.
        duration: seconds.
        rng: source of draws.
        burstiness: squared coefficient of variation of intervals.
        by_hour: relative rate of each hour from time zero on, repeated.
    """
    if not (rate > 0 and duration > 0 and burstiness > 0):
        values = f"rate {rate:g}/s, duration {duration:g} s, burstiness {burstiness:g}"
        raise InputError([Problem("", "traffic", f"{values}: all must be greater than zero")])
    expected = rate * duration
    # Of a gamma renewal process seen from far: the first interval is one like all others.
    spread = np.sqrt(burstiness * expected)
    times = np.empty(0)
    while len(times) == 0 or times[-1] < expected:
        count = int(expected + 6 * spread + 16)
        steps = rng.gamma(1.0 / burstiness, burstiness, count)
        start = times[-1] if len(times) else 0.0
        times = np.concatenate([times, start + np.cumsum(steps)])
    clock = times[times < expected] / expected
    return (_by_hour(clock, duration, by_hour) * 1e9).astype(np.int64)


def _by_hour(clock: F64, duration: float, by_hour: Sequence[float]) -> F64:
    """Times in seconds at which a clock, from 0 to 1 by load, shows these values."""
    if not by_hour:
        return clock * duration
    edges = np.append(np.arange(0.0, duration, HOUR), duration)
    shares = np.resize(np.asarray(by_hour, float), len(edges) - 1) * np.diff(edges)
    load = np.concatenate([[0.0], np.cumsum(shares)])
    if load[-1] <= 0:
        raise InputError([Problem("", "traffic.by_hour", "nothing arrives in the time simulated")])
    times: F64 = np.interp(clock, load / load[-1], edges)
    return times
