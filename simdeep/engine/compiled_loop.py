"""The event loop of the compiled engine. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from simdeep.engine import rates
from simdeep.jit import njit

COMPUTE = 0
TRANSFER = 1

compute_ns = njit(rates.compute_ns)
transfer_ns = njit(rates.transfer_ns)
delay_ns = njit(rates.delay_ns)


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
def run_loop(
    queue: Any,
    queue_ptr: Any,
    stream_of: Any,
    rank_of: Any,
    kind: Any,
    waiting: Any,
    next_idx: Any,
    next_ptr: Any,
    group: Any,
    member_idx: Any,
    member_ptr: Any,
    n_groups: int,
    alone: Any,
    sm: Any,
    mem: Any,
    fixed: Any,
    want: Any,
    sm_drag: Any,
    mem_drag: Any,
    latency: Any,
    floor: Any,
    port: Any,
    port_ns: Any,
    sms: Any,
    draw: Any,
    n_ranks: int,
    n_ports: int,
    sms_static: int,
    static_split: bool,
    rank_streams: Any,
) -> tuple[Any, Any, Any]:
    """Start and end of every task (-1: never ran) and the queue position of every stream."""
    n = len(rank_of)
    n_streams = len(queue_ptr) - 1
    start = np.full(n, -1, np.int64)
    end = np.full(n, -1, np.int64)
    blocked_by = waiting.copy()
    missing = np.diff(member_ptr)
    head = queue_ptr[:-1].copy()

    # What runs, by stream: -1 or the task, its unfinished fraction, duration, time of last change.
    running = np.full(n_streams, -1, np.int64)
    left = np.zeros(n_streams)
    duration = np.full(n_streams, -1.0)
    rated_at = np.zeros(n_streams, np.int64)
    due = np.zeros(n_streams, np.int64)
    heap = np.zeros(n_streams, np.int64)
    place = np.full(n_streams, -1, np.int64)
    size = 0

    computing = np.zeros(n_ranks, np.int64)
    draw_on = np.zeros(n_ranks, np.int64)
    sms_held = np.zeros(n_ranks, np.int64)
    # Streams using a port: a doubly linked list over slots stream * 4 + k.
    users = np.zeros(n_ports, np.int64)
    first = np.full(n_ports, -1, np.int64)
    after = np.full(n_streams * 4, -1, np.int64)
    before = np.full(n_streams * 4, -1, np.int64)

    touched_ranks = np.zeros(n_ranks, np.int64)
    rank_is_touched = np.zeros(n_ranks, np.bool_)
    touched_ports = np.zeros(max(n_ports, 1), np.int64)
    port_is_touched = np.zeros(max(n_ports, 1), np.bool_)
    n_touched_ranks = 0
    n_touched_ports = 0
    alone_streams = np.zeros(n_streams, np.int64)
    n_alone = 0

    # Streams whose head may have become ready; a stream is on it at most once.
    todo = np.arange(n_streams)
    queued = np.ones(n_streams, np.bool_)
    n_todo = n_streams
    begin = np.zeros(max(1, n_streams), np.int64)
    now = 0

    while True:
        # First half of the instant: heads that are ready start; those without work also end.
        while n_todo > 0:
            n_todo -= 1
            s = todo[n_todo]
            queued[s] = False
            if running[s] >= 0 or head[s] >= queue_ptr[s + 1]:
                continue
            task = queue[head[s]]
            if blocked_by[task] > 0 or start[task] >= 0:
                continue
            n_begin = 0
            g = group[task]
            if g < 0:
                begin[0] = task
                n_begin = 1
            else:
                # A member arrives once: a mark below zero keeps it from being counted again.
                if blocked_by[task] == 0:
                    blocked_by[task] = -1
                    missing[g] -= 1
                if missing[g] == 0:
                    for j in range(member_ptr[g], member_ptr[g + 1]):
                        begin[n_begin] = member_idx[j]
                        n_begin += 1
            for j in range(n_begin):
                task = begin[j]
                s = stream_of[task]
                start[task] = now
                if alone[task] > 0:
                    rank = rank_of[task]
                    running[s] = task
                    left[s] = 1.0
                    duration[s] = -1.0
                    if kind[task] == COMPUTE:
                        computing[rank] += 1
                        touch = True
                    else:
                        has_port = False
                        for k in range(4):
                            p = port[task, k]
                            if p >= 0 and port_ns[task, k] > 0:
                                has_port = True
                                slot = s * 4 + k
                                after[slot] = first[p]
                                before[slot] = -1
                                if first[p] >= 0:
                                    before[first[p]] = slot
                                first[p] = slot
                                users[p] += 1
                                if not port_is_touched[p]:
                                    port_is_touched[p] = True
                                    touched_ports[n_touched_ports] = p
                                    n_touched_ports += 1
                        draw_on[rank] += draw[task]
                        sms_held[rank] += sms[task]
                        touch = draw[task] != 0 or sms[task] != 0
                        if not has_port:
                            alone_streams[n_alone] = s
                            n_alone += 1
                    if touch and not rank_is_touched[rank]:
                        rank_is_touched[rank] = True
                        touched_ranks[n_touched_ranks] = rank
                        n_touched_ranks += 1
                    continue
                end[task] = now
                head[s] += 1
                if not queued[s]:
                    queued[s] = True
                    todo[n_todo] = s
                    n_todo += 1
                for e in range(next_ptr[task], next_ptr[task + 1]):
                    dependant = next_idx[e]
                    blocked_by[dependant] -= 1
                    if blocked_by[dependant] == 0:
                        o = stream_of[dependant]
                        if not queued[o] and queue[head[o]] == dependant:
                            queued[o] = True
                            todo[n_todo] = o
                            n_todo += 1

        # Second half: new speeds. Candidates are streams of touched ranks, users of touched ports,
        # and transfers without a port, which only need their end.
        for i in range(n_alone + n_touched_ranks + n_touched_ports):
            if i < n_alone:
                lo, hi, slot = alone_streams[i], alone_streams[i] + 1, -1
            elif i < n_alone + n_touched_ranks:
                rank = touched_ranks[i - n_alone]
                rank_is_touched[rank] = False
                lo, hi, slot = rank_streams[rank], rank_streams[rank + 1], -1
            else:
                p = touched_ports[i - n_alone - n_touched_ranks]
                port_is_touched[p] = False
                lo, hi, slot = 0, 0, first[p]
            while lo < hi or slot >= 0:
                if slot >= 0:
                    s = slot >> 2
                    slot = after[slot]
                else:
                    s = lo
                    lo += 1
                task = running[s]
                if task < 0:
                    continue
                if kind[task] == COMPUTE:
                    rank = rank_of[task]
                    free = sms_static if static_split else sms_static - sms_held[rank]
                    fresh = compute_ns(
                        sm[task],
                        mem[task],
                        fixed[task],
                        want[task],
                        sm_drag[task],
                        mem_drag[task],
                        free,
                        computing[rank],
                        draw_on[rank],
                    )
                else:
                    slowest = 0.0
                    for k in range(4):
                        p = port[task, k]
                        if p >= 0 and port_ns[task, k] > 0:
                            slowest = max(slowest, port_ns[task, k] * users[p])
                    fresh = transfer_ns(latency[task], floor[task], slowest)
                if fresh == duration[s]:
                    continue
                is_new = duration[s] < 0
                if not is_new:
                    left[s] -= (now - rated_at[s]) / duration[s]
                duration[s] = fresh
                rated_at[s] = now
                due[s] = now + delay_ns(left[s], fresh)
                if is_new:
                    heap[size] = s
                    place[s] = size
                    size += 1
                _up(heap, place, due, place[s])
                _down(heap, place, due, size, place[s])
        n_alone = 0
        n_touched_ranks = 0
        n_touched_ports = 0

        if size == 0:
            break
        now = due[heap[0]]
        # Everything that ends at this moment.
        while size > 0 and due[heap[0]] == now:
            s = heap[0]
            size -= 1
            if size > 0:
                _swap(heap, place, 0, size)
                _down(heap, place, due, size, 0)
            place[s] = -1
            task = running[s]
            running[s] = -1
            rank = rank_of[task]
            if kind[task] == COMPUTE:
                computing[rank] -= 1
                touch = True
            else:
                for k in range(4):
                    p = port[task, k]
                    if p >= 0 and port_ns[task, k] > 0:
                        slot = s * 4 + k
                        if before[slot] >= 0:
                            after[before[slot]] = after[slot]
                        else:
                            first[p] = after[slot]
                        if after[slot] >= 0:
                            before[after[slot]] = before[slot]
                        users[p] -= 1
                        if not port_is_touched[p]:
                            port_is_touched[p] = True
                            touched_ports[n_touched_ports] = p
                            n_touched_ports += 1
                draw_on[rank] -= draw[task]
                sms_held[rank] -= sms[task]
                touch = draw[task] != 0 or sms[task] != 0
            if touch and not rank_is_touched[rank]:
                rank_is_touched[rank] = True
                touched_ranks[n_touched_ranks] = rank
                n_touched_ranks += 1
            end[task] = now
            head[s] += 1
            if not queued[s]:
                queued[s] = True
                todo[n_todo] = s
                n_todo += 1
            for e in range(next_ptr[task], next_ptr[task + 1]):
                dependant = next_idx[e]
                blocked_by[dependant] -= 1
                if blocked_by[dependant] == 0:
                    o = stream_of[dependant]
                    if not queued[o] and queue[head[o]] == dependant:
                        queued[o] = True
                        todo[n_todo] = o
                        n_todo += 1
    return start, end, head
