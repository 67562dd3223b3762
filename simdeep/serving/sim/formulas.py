"""Formulas both engines use. Importing this module imports numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from simdeep.jit import njit

_A = np.uint64(0x9E3779B97F4A7C15)
_B = np.uint64(0xBF58476D1CE4E5B9)
_C = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)

GAP_BINS = 1400
"""Bins of the histogram of gaps between tokens: 1% wide each, from 10 us on."""
_GAP_FROM = 1e4
_GAP_LOG = math.log(1.01)


@njit
def _mix(x: Any) -> Any:
    """SplitMix64's finaliser."""
    x = (x ^ (x >> _S30)) * _B
    x = (x ^ (x >> _S27)) * _C
    return x ^ (x >> _S31)


@njit
def accepted(seed: int, request: int, left: int, chance: float, drafted: int) -> int:
    """Drafted tokens accepted when `left` tokens are to come: draws that depend on nothing else.

    A drafted token counts only if all before it were accepted, each with `chance`.
    """
    x = _mix(np.uint64(seed) + _A)
    x = _mix(x + np.uint64(request) * _A + _B)
    x = _mix(x + np.uint64(left) * _A + _C)
    u = float(x >> _S11) * 2.0**-53
    count, limit = 0, chance
    while count < drafted and u < limit:
        count += 1
        limit *= chance
    return count


@njit
def seconds_at(grid: Any, start: int, s: float, p: float, d: float, c: float) -> float:
    """Seconds at a point of a grid that begins at `start` of a flat array (see `packed`)."""
    n0, n1, n2, n3 = (
        int(grid[start]),
        int(grid[start + 1]),
        int(grid[start + 2]),
        int(grid[start + 3]),
    )
    first = start + 4
    i0, f0 = _place(grid, first, n0, s)
    i1, f1 = _place(grid, first + n0, n1, p)
    i2, f2 = _place(grid, first + n0 + n1, n2, d)
    i3, f3 = _place(grid, first + n0 + n1 + n2, n3, c)
    first += n0 + n1 + n2 + n3
    total = 0.0
    for a in range(2):
        wa = f0 if a else 1.0 - f0
        if wa == 0.0:
            continue
        for b in range(2):
            wb = wa * (f1 if b else 1.0 - f1)
            if wb == 0.0:
                continue
            for e in range(2):
                we = wb * (f2 if e else 1.0 - f2)
                if we == 0.0:
                    continue
                at = first + (((i0 + a) * n1 + i1 + b) * n2 + i2 + e) * n3 + i3
                total += we * (1.0 - f3) * grid[at]
                if f3 != 0.0:
                    total += we * f3 * grid[at + 1]
    return total


@njit
def _place(grid: Any, first: int, size: int, x: float) -> Any:
    """Index of the axis point below `x` and how far `x` lies towards the next (over 1 beyond)."""
    if size == 1 or x <= grid[first]:
        return 0, 0.0
    low, high = first, first + size - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if grid[middle] <= x:
            low = middle
        else:
            high = middle
    return low - first, (x - grid[low]) / (grid[low + 1] - grid[low])


@njit
def work_of(tokens: int, seen: int, equal: float) -> float:
    """Work of new prompt tokens behind `seen` others, in tokens without any context.

    A token's attention to `equal` KV tokens counts as much as all else of it; 0: not at all.
    """
    if equal == 0.0:
        return float(tokens)
    return tokens + (tokens * seen + 0.5 * tokens * (tokens + 1)) / equal


@njit
def tokens_within(work: float, seen: int, equal: float) -> int:
    """Most new prompt tokens behind `seen` others whose work is no more, but at least one."""
    if equal == 0.0:
        return max(1, int(work))
    each = 1.0 + (seen + 0.5) / equal
    return max(1, int((math.sqrt(each * each + 2.0 * work / equal) - each) * equal))


@njit
def stale_at(now: int, every: int, drift: float) -> float:
    """How far popularity has moved since the last placement: a random walk (logits)."""
    if drift == 0.0:
        return 0.0
    return drift * math.sqrt((now % every) / every)


@njit
def nanoseconds(seconds: float) -> int:
    """Seconds as nanoseconds; whatever takes time takes at least one."""
    return max(1, int(seconds * 1e9 + 0.5))


@njit
def moving_ns(left: float, rate: float) -> int:
    """Time to move `left` bytes at `rate` B/s."""
    return max(1, math.ceil(left / rate * 1e9))


@njit
def gap_bin(gap_ns: int) -> int:
    """Bin of a gap between two tokens of a request."""
    if gap_ns <= _GAP_FROM:
        return 0
    return min(GAP_BINS - 1, 1 + int(math.log(gap_ns / _GAP_FROM) / _GAP_LOG))


def gap_ms(index: Any) -> Any:
    """Upper edges of bins in milliseconds."""
    return _GAP_FROM * 1.01 ** np.asarray(index, float) / 1e6
