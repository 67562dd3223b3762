"""The event loop of the compiled engine. Importing this module imports numba.

A stream runs at most one task, so everything that runs is kept by stream: a heap of end times, and
for each port a linked list of the streams that use it. An instant is worked off in two steps, as in
the reference: first everything that ends and starts, then new speeds for whoever shares a resource
that someone entered or left.
"""

from __future__ import annotations

from typing import Any

from simdeep.engine import rates
from simdeep.jit import njit

COMPUTE = 0
RUNS_COMPUTE = 1
RUNS_TRANSFER = 2
USES = 4
"""Ports a transfer may use."""

# Entries of the counters that a run is paused and resumed with.
NOW, SIZE, N_TODO, N_FRESH, N_RANKS, N_PORTS, MET = range(7)
COUNTERS = 7

TO_THE_END = -1
UNTIL_CROSSING = -2

compute_ns = njit(rates.compute_ns)
transfer_ns = njit(rates.transfer_ns)
delay_ns = njit(rates.delay_ns)


@njit
def _up(due: Any, who: Any, place: Any, i: int) -> int:
    """Move an entry of the heap (four children a node) towards the root."""
    t, s = due[i], who[i]
    while i > 0:
        parent = (i - 1) >> 2
        if due[parent] <= t:
            break
        due[i] = due[parent]
        who[i] = who[parent]
        place[who[i]] = i
        i = parent
    due[i] = t
    who[i] = s
    place[s] = i
    return i


@njit
def _down(due: Any, who: Any, place: Any, size: int, i: int) -> None:
    """Move an entry of the heap away from the root."""
    t, s = due[i], who[i]
    while True:
        child = 4 * i + 1
        if child >= size:
            break
        best, least = child, due[child]
        for other in range(child + 1, min(child + 4, size)):
            if due[other] < least:
                best, least = other, due[other]
        if least >= t:
            break
        due[i] = least
        who[i] = who[best]
        place[who[i]] = i
        i = best
    due[i] = t
    who[i] = s
    place[s] = i


@njit
def advance(
    tasks: Any,
    next_of: Any,
    uses: Any,
    members: Any,
    member_ptr: Any,
    streams: Any,
    ranks: Any,
    ports: Any,
    after: Any,
    before: Any,
    place: Any,
    start: Any,
    end: Any,
    missing: Any,
    crossing: Any,
    due: Any,
    who: Any,
    todo: Any,
    fresh: Any,
    touched_ranks: Any,
    touched_ports: Any,
    counters: Any,
    sms_static: int,
    static_split: bool,
    goal: int,
) -> None:
    """Run streams from the paused state in `counters` on, and pause again.

    `goal` is `TO_THE_END`; or `UNTIL_CROSSING`: to the middle of the instant in which all members
    here of some `crossing` group are ready; or a time that nothing may run beyond, to be stopped in
    the middle of if it is an instant of these streams. A run that begins with a time as its goal
    begins in the middle of an instant. In `missing` are the members here that are not ready.
    """
    now = counters[NOW]
    size = counters[SIZE]
    n_todo = counters[N_TODO]
    n_fresh = counters[N_FRESH]
    n_ranks = counters[N_RANKS]
    n_ports = counters[N_PORTS]
    in_the_middle = goal >= 0

    while True:
        # First half of the instant: heads that are ready start; those without work also end.
        while n_todo > 0:
            n_todo -= 1
            s = todo[n_todo]
            stream = streams[s]
            stream.queued = 0
            if stream.running != 0 or stream.head >= stream.stop:
                continue
            q = stream.head
            if tasks[q].blocked_by > 0:
                continue
            g = tasks[q].group
            low, high = 0, 1
            if g >= 0:
                # A member arrives once: a mark below zero keeps it from being counted again.
                if tasks[q].blocked_by == 0:
                    tasks[q].blocked_by = -1
                    missing[g] -= 1
                if missing[g] > 0:
                    continue
                if crossing[g]:
                    counters[MET] = 1
                    continue
                low, high = member_ptr[g], member_ptr[g + 1]
            for j in range(low, high):
                if g >= 0:
                    q = members[j].task
                    s = members[j].stream
                    stream = streams[s]
                task = tasks[q]
                start[q] = now
                if task.works:
                    rank = ranks[stream.rank]
                    stream.left = 1.0
                    stream.duration = -1.0
                    if task.kind == COMPUTE:
                        stream.running = RUNS_COMPUTE
                        rank.computing += 1
                        touch = True
                    else:
                        stream.running = RUNS_TRANSFER
                        fresh[n_fresh] = s
                        n_fresh += 1
                        for k in range(task.n_uses):
                            p = uses[task.use_ptr + k].port
                            port = ports[p]
                            slot = s * USES + k
                            before[slot] = -1
                            if port.users > 0:
                                after[slot] = port.first
                                before[port.first] = slot
                                if port.touched == 0:
                                    port.touched = 1
                                    touched_ports[n_ports] = p
                                    n_ports += 1
                            else:
                                after[slot] = -1
                            port.first = slot
                            port.users += 1
                        rank.draw += task.draw
                        rank.sms_held += task.sms
                        touch = task.draw != 0 or task.sms != 0
                    if touch and rank.touched == 0:
                        rank.touched = 1
                        touched_ranks[n_ranks] = stream.rank
                        n_ranks += 1
                    continue
                end[q] = now
                stream.head += 1
                if stream.queued == 0:
                    stream.queued = 1
                    todo[n_todo] = s
                    n_todo += 1
                for e in range(task.next_ptr, task.next_ptr + task.n_next):
                    dependant = next_of[e].task
                    tasks[dependant].blocked_by -= 1
                    if tasks[dependant].blocked_by == 0:
                        o = next_of[e].stream
                        if streams[o].queued == 0 and streams[o].head == dependant:
                            streams[o].queued = 1
                            todo[n_todo] = o
                            n_todo += 1

        if not in_the_middle and (
            (goal == UNTIL_CROSSING and counters[MET] == 1) or (goal >= 0 and now == goal)
        ):
            break
        in_the_middle = False

        # Second half: new speeds for transfers that are new, compute of touched ranks and users of
        # touched ports.
        for i in range(n_fresh + n_ranks + n_ports):
            if i < n_fresh:
                low, high, slot = fresh[i], fresh[i] + 1, -1
                wanted = RUNS_TRANSFER
            elif i < n_fresh + n_ranks:
                rank = ranks[touched_ranks[i - n_fresh]]
                rank.touched = 0
                if rank.computing == 0:
                    continue
                low, high, slot = rank.first, rank.stop, -1
                wanted = RUNS_COMPUTE
            else:
                port = ports[touched_ports[i - n_fresh - n_ranks]]
                port.touched = 0
                low, high, slot = 0, 0, -1
                wanted = RUNS_TRANSFER
                if port.users > 0:
                    slot = port.first
            while low < high or slot >= 0:
                if slot >= 0:
                    s = slot // USES
                    slot = after[slot]
                else:
                    s = low
                    low += 1
                stream = streams[s]
                if stream.running != wanted:
                    continue
                task = tasks[stream.head]
                if wanted == RUNS_COMPUTE:
                    rank = ranks[stream.rank]
                    free = sms_static if static_split else sms_static - rank.sms_held
                    new = compute_ns(
                        task.sm,
                        task.mem,
                        task.fixed,
                        task.want,
                        task.sm_drag,
                        task.mem_drag,
                        free,
                        rank.computing,
                        rank.draw,
                    )
                else:
                    slowest = 0.0
                    for k in range(task.use_ptr, task.use_ptr + task.n_uses):
                        slowest = max(slowest, uses[k].ns * ports[uses[k].port].users)
                    new = transfer_ns(task.latency, task.floor, slowest)
                old = stream.duration
                if new == old:
                    continue
                if old >= 0:
                    stream.left -= (now - stream.rated_at) / old
                stream.duration = new
                stream.rated_at = now
                at = place[s]
                if old < 0:
                    at = size
                    who[at] = s
                    size += 1
                due[at] = now + delay_ns(stream.left, new)
                at = _up(due, who, place, at)
                _down(due, who, place, size, at)
        n_fresh = 0
        n_ranks = 0
        n_ports = 0

        if size == 0 or (goal >= 0 and due[0] > goal):
            break
        now = due[0]
        # Everything that ends at this moment.
        while size > 0 and due[0] == now:
            s = who[0]
            size -= 1
            if size > 0:
                due[0] = due[size]
                who[0] = who[size]
                _down(due, who, place, size, 0)
            stream = streams[s]
            q = stream.head
            task = tasks[q]
            stream.running = 0
            rank = ranks[stream.rank]
            if task.kind == COMPUTE:
                rank.computing -= 1
                touch = True
            else:
                for k in range(task.n_uses):
                    p = uses[task.use_ptr + k].port
                    port = ports[p]
                    slot = s * USES + k
                    if before[slot] >= 0:
                        after[before[slot]] = after[slot]
                    else:
                        port.first = after[slot]
                    if after[slot] >= 0:
                        before[after[slot]] = before[slot]
                    port.users -= 1
                    if port.users > 0 and port.touched == 0:
                        port.touched = 1
                        touched_ports[n_ports] = p
                        n_ports += 1
                rank.draw -= task.draw
                rank.sms_held -= task.sms
                touch = task.draw != 0 or task.sms != 0
            if touch and rank.touched == 0:
                rank.touched = 1
                touched_ranks[n_ranks] = stream.rank
                n_ranks += 1
            end[q] = now
            stream.head += 1
            if stream.queued == 0:
                stream.queued = 1
                todo[n_todo] = s
                n_todo += 1
            for e in range(task.next_ptr, task.next_ptr + task.n_next):
                dependant = next_of[e].task
                tasks[dependant].blocked_by -= 1
                if tasks[dependant].blocked_by == 0:
                    o = next_of[e].stream
                    if streams[o].queued == 0 and streams[o].head == dependant:
                        streams[o].queued = 1
                        todo[n_todo] = o
                        n_todo += 1

    counters[NOW] = now
    counters[SIZE] = size
    counters[N_TODO] = n_todo
    counters[N_FRESH] = n_fresh
    counters[N_RANKS] = n_ranks
    counters[N_PORTS] = n_ports
