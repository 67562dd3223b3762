"""Equal flows found and put together, compiled. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from simdeep.jit import njit

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT = np.uint64(29)
_LINK_BITS = np.uint64(24)
_HASH_BITS = np.uint64(40)


@njit
def _mix(key: Any, value: Any) -> Any:
    """One round of a 64-bit mixing function (the constants of splitmix64)."""
    key = (key ^ np.uint64(value)) * _SPREAD
    return (key ^ (key >> _SHIFT)) + _MIX


@njit
def keys(
    ptr: Any,
    links: Any,
    nbytes: Any,
    start: Any,
    overhead: Any,
    latency: Any,
    cap: Any,
    key: Any,
) -> None:
    """A key of each flow's content, equal for equal flows; sizes and caps come as their bits.

    The high bits are the first link: flows over one link lie side by side in memory.
    """
    for f in range(len(ptr) - 1):
        k = _mix(_MIX, start[f])
        k = _mix(k, nbytes[f])
        k = _mix(k, overhead[f])
        k = _mix(k, latency[f])
        k = _mix(k, cap[f])
        for h in range(ptr[f], ptr[f + 1]):
            k = _mix(k, links[h])
        first = links[ptr[f]] if ptr[f] < ptr[f + 1] else 0
        key[f] = (k >> _LINK_BITS) | (np.uint64(first) << _HASH_BITS)


@njit
def first_of_group(
    ptr: Any,
    links: Any,
    nbytes: Any,
    start: Any,
    overhead: Any,
    latency: Any,
    cap: Any,
    key: Any,
    order: Any,
    tied: Any,
) -> Any:
    """Marks the places of `order` whose flow differs from the one before, or is tied."""
    first = np.ones(len(order), np.bool_)
    for i in range(1, len(order)):
        a, b = order[i - 1], order[i]
        if key[a] != key[b] or tied[a] or tied[b]:
            continue
        if start[a] != start[b] or nbytes[a] != nbytes[b] or cap[a] != cap[b]:
            continue
        if overhead[a] != overhead[b] or latency[a] != latency[b]:
            continue
        hops = ptr[a + 1] - ptr[a]
        if hops != ptr[b + 1] - ptr[b]:
            continue
        same = True
        for h in range(hops):
            if links[ptr[a] + h] != links[ptr[b] + h]:
                same = False
                break
        first[i] = not same
    return first


@njit
def take(ptr: Any, items: Any, rows: Any) -> Any:
    """The lists of some rows, in their order, as CSR."""
    taken = np.zeros(len(rows) + 1, np.int64)
    for i in range(len(rows)):
        taken[i + 1] = taken[i] + ptr[rows[i] + 1] - ptr[rows[i]]
    out = np.empty(taken[-1], np.int64)
    for i in range(len(rows)):
        for h in range(taken[i + 1] - taken[i]):
            out[taken[i] + h] = items[ptr[rows[i]] + h]
    return taken, out


@njit
def keep(ptr: Any, items: Any, wanted: Any) -> Any:
    """The lists without the items that are not wanted, as CSR."""
    kept = np.zeros(len(ptr), np.int64)
    out = np.empty(len(items), np.int64)
    n = 0
    for f in range(len(ptr) - 1):
        for h in range(ptr[f], ptr[f + 1]):
            if wanted[items[h]]:
                out[n] = items[h]
                n += 1
        kept[f + 1] = n
    return kept, out[:n].copy()
