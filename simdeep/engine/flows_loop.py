"""The event loop of the flow simulation, compiled. Importing this module imports numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from simdeep.engine.flows_fill import TIE, by_link, fill
from simdeep.jit import njit

NEVER = np.int64(2**62)


@njit
def _swap(heap: Any, place: Any, a: int, b: int) -> None:
    heap[a], heap[b] = heap[b], heap[a]
    place[heap[a]] = a
    place[heap[b]] = b


@njit
def _up(heap: Any, place: Any, due: Any, i: int) -> None:
    while i > 0:
        parent = (i - 1) >> 1
        if due[heap[i]] >= due[heap[parent]]:
            break
        _swap(heap, place, i, parent)
        i = parent


@njit
def _down(heap: Any, place: Any, due: Any, size: int, i: int) -> None:
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and due[heap[child + 1]] < due[heap[child]]:
            child += 1
        if due[heap[i]] <= due[heap[child]]:
            break
        _swap(heap, place, i, child)
        i = child


@njit
def _push(heap: Any, place: Any, due: Any, size: int, item: int) -> int:
    heap[size] = item
    place[item] = size
    _up(heap, place, due, size)
    return size + 1


@njit
def _pop(heap: Any, place: Any, due: Any, size: int) -> int:
    """Drop the top."""
    size -= 1
    if size > 0:
        _swap(heap, place, 0, size)
        _down(heap, place, due, size, 0)
    return size


@njit
def run_loop(
    ptr: Any,
    links: Any,
    all_ptr: Any,
    all_links: Any,
    nbytes: Any,
    start: Any,
    overhead: Any,
    latency: Any,
    cap: Any,
    count: Any,
    waiting: Any,
    next_ptr: Any,
    next_idx: Any,
    capacity: Any,
    step: int,
    ready: Any,
    sent: Any,
    end: Any,
    bottleneck: Any,
    busy: Any,
) -> int:
    """Run all flows; returns the number of times rates were computed.

    `ptr, links` are the hops that can bind, `all_ptr, all_links` all hops. Writes, per flow,
    `ready` (when it may begin), `sent` (last byte gone), `end` (last byte there; -1: never) and the
    link that held it back last; per link, the nanoseconds it carried something. `waiting` counts
    predecessors and is used up. Whole nanoseconds; an instant handles what ends, then what
    starts, then rates.
    """
    n, n_links = len(nbytes), len(capacity)
    member_ptr, _ = by_link(ptr, links, n_links)
    members = np.empty(len(links), np.int64)
    member_hop = np.empty(len(links), np.int64)
    slot = np.empty(len(links), np.int64)
    n_members = np.zeros(n_links, np.int64)
    carrying = np.zeros(n_links, np.int64)
    busy_since = np.zeros(n_links, np.int64)

    rate = np.zeros(n)
    old_rate = np.zeros(n)
    left = nbytes.copy()
    since = np.zeros(n, np.int64)
    due = np.zeros(n, np.int64)
    opens = np.zeros(n, np.int64)
    moving = np.empty(n, np.int64)
    moving_at = np.zeros(n, np.int64)
    n_moving = 0
    ordered = False
    coming = np.empty(n, np.int64)
    coming_at = np.zeros(n, np.int64)
    n_coming = 0

    open_ = np.zeros(n, np.bool_)
    seen_link = np.zeros(n_links, np.bool_)
    touched = np.empty(n_links, np.int64)
    affected = np.empty(n, np.int64)
    room = np.zeros(n_links)
    load = np.zeros(n_links)
    heap = np.empty(n_links, np.int64)
    key = np.empty(n_links)
    fresh = np.empty(n, np.int64)

    n_queue = 0
    for f in range(n):
        ready[f] = start[f]
        end[f] = -1
        opens[f] = NEVER
        if waiting[f] == 0:
            opens[f] = start[f] + overhead[f]
            n_queue += 1
    # Flows that wait for none are taken in order; the heap holds those that were let go.
    queue = np.argsort(opens, kind="mergesort")
    queue_at = 0

    fills = 0
    wide = True
    while True:
        now = NEVER
        if n_moving > 0:
            if ordered:
                now = due[moving[0]]
            else:
                for k in range(n_moving):
                    now = min(now, due[moving[k]])
        if n_coming > 0:
            now = min(now, opens[coming[0]])
        if queue_at < n_queue:
            now = min(now, opens[queue[queue_at]])
        if now == NEVER:
            break
        now = -(-now // step) * step

        n_touched = 0
        n_fresh = 0
        # Below the slowest rate that ends or begins, filling goes as before: those rates stay.
        floor = np.inf
        k = 0
        while k < n_moving and (not ordered or due[moving[0]] <= now):
            f = moving[k]
            if ordered:
                n_moving = _pop(moving, moving_at, due, n_moving)
            elif due[f] > now:
                k += 1
                continue
            else:
                n_moving -= 1
                moving[k] = moving[n_moving]
            floor = min(floor, rate[f])
            sent[f] = due[f]
            left[f] = 0.0
            for h in range(ptr[f], ptr[f + 1]):
                link = links[h]
                last = member_ptr[link] + n_members[link] - 1
                hole = slot[h]
                members[hole] = members[last]
                member_hop[hole] = member_hop[last]
                slot[member_hop[hole]] = hole
                n_members[link] -= 1
                if not seen_link[link]:
                    seen_link[link] = True
                    touched[n_touched] = link
                    n_touched += 1
            for h in range(all_ptr[f], all_ptr[f + 1]):
                link = all_links[h]
                carrying[link] -= 1
                if carrying[link] == 0:
                    busy[link] += due[f] - busy_since[link]
            n_coming = _finish(
                f, due[f], latency, overhead, end, ready, waiting, next_ptr, next_idx,
                opens, coming, coming_at, n_coming,
            )  # fmt: skip
        while True:
            if queue_at < n_queue and opens[queue[queue_at]] <= now:
                f = queue[queue_at]
                queue_at += 1
            elif n_coming > 0 and opens[coming[0]] <= now:
                f = coming[0]
                n_coming = _pop(coming, coming_at, opens, n_coming)
            else:
                break
            if nbytes[f] <= 0.0 or (all_ptr[f] == all_ptr[f + 1] and not np.isfinite(cap[f])):
                sent[f] = opens[f]
                n_coming = _finish(
                    f, opens[f], latency, overhead, end, ready, waiting, next_ptr, next_idx,
                    opens, coming, coming_at, n_coming,
                )  # fmt: skip
                continue
            since[f] = now
            fresh[n_fresh] = f
            n_fresh += 1
            for h in range(ptr[f], ptr[f + 1]):
                link = links[h]
                place = member_ptr[link] + n_members[link]
                members[place] = f
                member_hop[place] = h
                slot[h] = place
                n_members[link] += 1
                if not seen_link[link]:
                    seen_link[link] = True
                    touched[n_touched] = link
                    n_touched += 1
            for h in range(all_ptr[f], all_ptr[f + 1]):
                link = all_links[h]
                if carrying[link] == 0:
                    busy_since[link] = now
                carrying[link] += 1

        if n_fresh > 0:
            for i in range(n_touched):
                link = touched[i]
                total = 0.0
                for j in range(member_ptr[link], member_ptr[link] + n_members[link]):
                    total += count[members[j]]
                if total > 0:
                    floor = min(floor, capacity[link] / total)
        for i in range(n_fresh):
            f = fresh[i]
            floor = min(floor, cap[f])
            open_[f] = True
            affected[i] = f
        n_affected = n_fresh
        floor *= 1.0 - TIE

        if wide:
            # All that run: one pass over them is cheaper than to find who is connected.
            for i in range(n_touched):
                seen_link[touched[i]] = False
            n_touched = n_links
            for link in range(n_links):
                touched[link] = link
                room[link] = capacity[link]
                load[link] = 0.0
            for i in range(n_fresh):
                moving[n_moving] = fresh[i]
                n_moving += 1
            ordered = False
            n_affected = 0
            for k in range(n_moving):
                f = moving[k]
                stays = 0.0 < rate[f] < floor
                if not stays:
                    open_[f] = True
                    affected[n_affected] = f
                    n_affected += 1
                for h in range(ptr[f], ptr[f + 1]):
                    if stays:
                        room[links[h]] -= count[f] * rate[f]
                    else:
                        load[links[h]] += count[f]
        # What is connected to the change, through flows whose rate may change.
        i = n_links if wide else 0
        while i < n_touched:
            link = touched[i]
            i += 1
            space = capacity[link]
            total = 0.0
            for j in range(member_ptr[link], member_ptr[link] + n_members[link]):
                f = members[j]
                if not open_[f]:
                    if rate[f] < floor:
                        space -= count[f] * rate[f]
                        continue
                    open_[f] = True
                    affected[n_affected] = f
                    n_affected += 1
                    for h in range(ptr[f], ptr[f + 1]):
                        other = links[h]
                        if not seen_link[other]:
                            seen_link[other] = True
                            touched[n_touched] = other
                            n_touched += 1
                total += count[f]
            room[link] = space
            load[link] = total
        if not wide:
            for i in range(n_touched):
                seen_link[touched[i]] = False
        if not wide and not ordered and n_affected * 8 <= n_moving:
            for k in range(n_moving):
                moving_at[moving[k]] = k
            for k in range(n_moving // 2 - 1, -1, -1):
                _down(moving, moving_at, due, n_moving, k)
            ordered = True
        if n_affected == 0:
            wide = False
            continue

        for i in range(n_affected):
            old_rate[affected[i]] = rate[affected[i]]
        fill(
            affected, n_affected, touched, n_touched, ptr, links, count, cap, members, member_ptr,
            n_members, room, load, open_, heap, key, rate, bottleneck,
        )  # fmt: skip
        fills += 1
        if not wide and n_affected * 8 > n_moving:
            ordered = False
        for i in range(n_affected):
            f = affected[i]
            before = old_rate[f]
            if before > 0.0 and abs(rate[f] - before) <= 1e-12 * before:
                rate[f] = before
                continue
            left[f] = max(left[f] - before * (now - since[f]), 0.0)
            since[f] = now
            # A millionth of a nanosecond absorbs float error, as in the engine's `delay_ns`.
            due[f] = now + max(1, math.ceil(left[f] / rate[f] - 1e-6))
            if wide:
                continue
            if before == 0.0:
                moving[n_moving] = f
                moving_at[f] = n_moving
                n_moving += 1
            if ordered:
                _up(moving, moving_at, due, moving_at[f])
                _down(moving, moving_at, due, n_moving, moving_at[f])
        wide = n_affected * 2 > n_moving
    return fills


@njit
def _finish(
    f: int,
    when: int,
    latency: Any,
    overhead: Any,
    end: Any,
    ready: Any,
    waiting: Any,
    next_ptr: Any,
    next_idx: Any,
    opens: Any,
    coming: Any,
    coming_at: Any,
    n_coming: int,
) -> int:
    """Deliver a flow and let go those that waited for it alone."""
    end[f] = when + latency[f]
    for k in range(next_ptr[f], next_ptr[f + 1]):
        g = next_idx[k]
        ready[g] = max(ready[g], end[f])
        waiting[g] -= 1
        if waiting[g] == 0:
            opens[g] = ready[g] + overhead[g]
            n_coming = _push(coming, coming_at, opens, n_coming, g)
    return n_coming
