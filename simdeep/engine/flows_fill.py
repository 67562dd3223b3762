"""Water-filling, compiled. Importing this module imports numba.

A flow crosses hops `ptr[f]..ptr[f+1]-1`, each hop being a link; crossing a link twice takes twice
its bandwidth. All rates are in bytes a nanosecond.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simdeep.jit import njit

SCAN = 1024
"""Up to so many links the next level is found by looking at all: keys in a heap go stale fast."""
TIE = 1e-10
"""Shares this close (relative) are one level: float noise must not part equal flows."""


@njit
def _sift(heap: Any, key: Any, size: int, i: int) -> None:
    """Move an entry of a heap of links (smallest key, then smallest id, on top) down to its place.

    Ids are local and grow with the link's id, so ties between links go by link.
    """
    item = heap[i]
    k = key[item]
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        other = child + 1
        if other < size:
            a, b = heap[child], heap[other]
            if key[b] < key[a] or (key[b] == key[a] and b < a):
                child = other
        c = heap[child]
        if key[c] > k or (key[c] == k and c > item):
            break
        heap[i] = c
        i = child
    heap[i] = item


@njit
def fill(
    flows: Any,
    n_flows: int,
    touched: Any,
    n_touched: int,
    ptr: Any,
    links: Any,
    count: Any,
    cap: Any,
    members: Any,
    member_ptr: Any,
    n_members: Any,
    room: Any,
    load: Any,
    open_: Any,
    heap: Any,
    key: Any,
    rate: Any,
    bottleneck: Any,
) -> None:
    """Max-min fair rates of `flows[:n_flows]` over the links `touched[:n_touched]`.

    Rates of all flows rise together; a flow stops at its cap, or when one of its links is full:
    that link is its bottleneck. `room` is what flows outside the set leave of each link,
    `load` the crossings of flows of the set (with multiplicity), `open_` marks that set. `members`
    lists the flows on each link. Writes `rate` and `bottleneck` (-1: its cap).
    """
    capped = 0
    for i in range(n_flows):
        if np.isfinite(cap[flows[i]]):
            capped += 1
    by_cap = np.empty(capped, np.int64)
    if capped:
        k = 0
        limits = np.empty(capped)
        for i in range(n_flows):
            if np.isfinite(cap[flows[i]]):
                by_cap[k] = flows[i]
                limits[k] = cap[flows[i]]
                k += 1
        by_cap = by_cap[np.argsort(limits, kind="mergesort")]

    size = 0
    for i in range(n_touched):
        link = touched[i]
        if load[link] > 0:
            key[link] = room[link] / load[link]
            heap[size] = link
            size += 1
    for i in range(size // 2 - 1, -1, -1):
        _sift(heap, key, size, i)

    left = n_flows
    next_cap = 0
    level = 0.0
    while left > 0:
        while next_cap < capped and not open_[by_cap[next_cap]]:
            next_cap += 1
        share = np.inf
        place = -1
        while size > SCAN:
            link = heap[0]
            if load[link] <= 0:
                size -= 1
                heap[0] = heap[size]
            else:
                share = max(room[link], 0.0) / load[link]
                if share <= key[link] * (1.0 + TIE):
                    place = 0
                    break
                # Flows frozen elsewhere left more to this link: its level is higher than noted.
                key[link] = share
            _sift(heap, key, size, 0)
        if place < 0:
            share = np.inf
            i = 0
            while i < size:
                link = heap[i]
                if load[link] <= 0:
                    size -= 1
                    heap[i] = heap[size]
                    continue
                level_here = room[link] / load[link]
                if level_here < share or (level_here == share and link < heap[place]):
                    share = level_here
                    place = i
                i += 1
            share = max(share, 0.0)
        if level < share <= level * (1.0 + TIE):
            share = level
        if next_cap < capped and cap[by_cap[next_cap]] <= share:
            flow = by_cap[next_cap]
            _freeze(flow, cap[flow], -1, ptr, links, count, room, load, open_, rate, bottleneck)
            left -= 1
            continue
        level = share
        link = heap[place]
        size -= 1
        heap[place] = heap[size]
        if size > SCAN:
            _sift(heap, key, size, 0)
        first = member_ptr[link]
        for j in range(first, first + n_members[link]):
            flow = members[j]
            if open_[flow]:
                _freeze(flow, level, link, ptr, links, count, room, load, open_, rate, bottleneck)
                left -= 1


@njit
def _freeze(
    flow: int,
    speed: float,
    link: int,
    ptr: Any,
    links: Any,
    count: Any,
    room: Any,
    load: Any,
    open_: Any,
    rate: Any,
    bottleneck: Any,
) -> None:
    """Settle a flow's rate and take it off its links."""
    open_[flow] = False
    rate[flow] = speed
    bottleneck[flow] = link
    m = count[flow]
    for h in range(ptr[flow], ptr[flow + 1]):
        room[links[h]] -= m * speed
        load[links[h]] -= m


@njit
def rates(
    ptr: Any, links: Any, count: Any, cap: Any, capacity: Any, rate: Any, bottleneck: Any
) -> None:
    """Rates of all flows at once."""
    n, n_links = len(ptr) - 1, len(capacity)
    member_ptr, members = by_link(ptr, links, n_links)
    n_members = member_ptr[1:] - member_ptr[:-1]
    load = np.zeros(n_links)
    for f in range(n):
        for h in range(ptr[f], ptr[f + 1]):
            load[links[h]] += count[f]
    fill(
        np.arange(n),
        n,
        np.arange(n_links),
        n_links,
        ptr,
        links,
        count,
        cap,
        members,
        member_ptr,
        n_members,
        capacity.copy(),
        load,
        np.ones(n, np.bool_),
        np.empty(n_links, np.int64),
        np.empty(n_links),
        rate,
        bottleneck,
    )


@njit
def by_link(ptr: Any, links: Any, n_links: int) -> Any:
    """CSR of the flows on each link (a flow as often as it crosses), flows ascending."""
    member_ptr = np.zeros(n_links + 1, np.int64)
    for h in range(len(links)):
        member_ptr[links[h] + 1] += 1
    for i in range(n_links):
        member_ptr[i + 1] += member_ptr[i]
    place = member_ptr[:-1].copy()
    members = np.empty(len(links), np.int64)
    for f in range(len(ptr) - 1):
        for h in range(ptr[f], ptr[f + 1]):
            members[place[links[h]]] = f
            place[links[h]] += 1
    return member_ptr, members


@njit
def binding(ptr: Any, links: Any, capacity: Any) -> Any:
    """Marks links that can ever be a bottleneck.

    A link is left out when every flow over it also crosses one same other link, at least as often
    and with no more bandwidth (a PCIe link before a slower NIC). Of two equal ones the lower id
    stays, so that two links never leave each other out.
    """
    n_links = len(capacity)
    member_ptr, members = by_link(ptr, links, n_links)
    keep = np.ones(n_links, np.bool_)
    for link in range(n_links):
        first, last = member_ptr[link], member_ptr[link + 1]
        if first == last:
            keep[link] = False
            continue
        flow = members[first]
        for h in range(ptr[flow], ptr[flow + 1]):
            other = links[h]
            if other == link or capacity[other] > capacity[link]:
                continue
            if capacity[other] == capacity[link] and other > link:
                continue
            if member_ptr[other + 1] - member_ptr[other] < last - first:
                continue
            covers = True
            for j in range(first, last):
                f = members[j]
                here = 0
                there = 0
                for g in range(ptr[f], ptr[f + 1]):
                    if links[g] == link:
                        here += 1
                    elif links[g] == other:
                        there += 1
                if there < here:
                    covers = False
                    break
            if covers:
                keep[link] = False
                break
    return keep
