"""Max-min fair flows written the slow, plain way, as an oracle for the compiled simulation."""

from __future__ import annotations

import math

import numpy as np


def water_fill(paths, bandwidth, caps):
    """Rates by progressive filling: raise all, freeze whoever meets a full link or its cap."""
    n = len(paths)
    use = np.zeros((n, len(bandwidth)))
    for flow, path in enumerate(paths):
        for link in path:
            use[flow, link] += 1
    rate = np.zeros(n)
    active = np.ones(n, bool)
    while active.any():
        load = use[active].sum(axis=0)
        room = bandwidth - use.T @ rate
        with np.errstate(divide="ignore", invalid="ignore"):
            rises = np.where(load > 0, room / load, np.inf)
        rise = min(rises.min(initial=np.inf), (caps - rate)[active].min())
        if not np.isfinite(rise):
            rate[active] = np.inf
            break
        rate[active] += rise
        full = rises <= rise * (1 + 1e-9) + 1e-15
        stop = (use[:, full].sum(axis=1) > 0) | (rate >= caps * (1 - 1e-12))
        active &= ~stop
    return rate


def simulate(paths, nbytes, start, latency, bandwidth, caps, overhead, after):
    """Ends (seconds) of flows; every rate computed anew at every event, in real time."""
    n = len(paths)
    left = np.array(nbytes, float)
    opens = np.full(n, np.nan)
    end = np.full(n, np.nan)
    moving: list[int] = []
    now = 0.0
    while np.isnan(end).any():
        for f in range(n):
            if np.isnan(opens[f]) and not any(math.isnan(end[p]) for p in after[f]):
                opens[f] = max([start[f], *(end[p] for p in after[f])]) + overhead[f]
        rates = water_fill([paths[f] for f in moving], bandwidth, caps[moving])
        ends = [now + left[f] / r for f, r in zip(moving, rates, strict=True)]
        waiting = [f for f in range(n) if f not in moving and np.isnan(end[f])]
        coming = [opens[f] for f in waiting if not np.isnan(opens[f])]
        then = min([*ends, *coming])
        for f, r in zip(moving, rates, strict=True):
            left[f] -= r * (then - now)
        gone = [f for f, e in zip(moving, ends, strict=True) if e <= then * (1 + 1e-12)]
        now = then
        for f in gone:
            end[f] = now + latency[f]
            moving.remove(f)
        for f in waiting:
            if opens[f] <= now:
                if nbytes[f] == 0 or (not paths[f] and np.isinf(caps[f])):
                    end[f] = now + latency[f]
                else:
                    moving.append(f)
    return end
