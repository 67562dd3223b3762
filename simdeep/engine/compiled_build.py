"""Compiled passes that bring a program into queue order. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from simdeep.jit import njit

COMPUTE = 0
SYNC = 2


@njit
def stream_sizes(rank: Any, stream: Any, n_streams: int, n_ranks: int) -> Any:
    """Tasks of each (rank, stream) that there could be."""
    sizes = np.zeros(n_ranks * n_streams, np.int64)
    for row in range(len(rank)):
        sizes[rank[row] * n_streams + stream[row]] += 1
    return sizes


@njit
def queues(rank: Any, stream: Any, n_streams: int, stream_at: Any, head: Any, n: int) -> Any:
    """Rows stream by stream, each stream in row order; `head` is used up."""
    queue = np.empty(n, np.int32)
    for row in range(n):
        s = stream_at[rank[row] * n_streams + stream[row]]
        queue[head[s]] = row
        head[s] += 1
    return queue


@njit
def number_groups(group: Any, most: int) -> Any:
    """Groups, of ids up to `most`, numbered as they first appear (-1: none), and their sizes."""
    number = np.full(most + 1, -1, np.int32)
    sizes = np.zeros(min(most + 1, len(group)), np.int64)
    found = np.full(len(group), -1, np.int32)
    n_groups = 0
    for row in range(len(group)):
        g = group[row]
        if g >= 0:
            if number[g] < 0:
                number[g] = n_groups
                n_groups += 1
            found[row] = number[g]
            sizes[number[g]] += 1
    return found, sizes[:n_groups].copy()


@njit
def count_uses(kind: Any, port: Any, port_ns: Any) -> int:
    """Ports that transfers move bytes through, all together."""
    found = 0
    for row in range(len(kind)):
        if kind[row] != COMPUTE and kind[row] != SYNC:
            for k in range(port.shape[1]):
                if port[row, k] >= 0 and port_ns[row, k] > 0:
                    found += 1
    return found


@njit
def fill_tasks(
    tasks: Any,
    uses: Any,
    queue: Any,
    kind: Any,
    group: Any,
    sm: Any,
    mem: Any,
    fixed: Any,
    sm_drag: Any,
    mem_drag: Any,
    want: Any,
    latency: Any,
    floor: Any,
    sms: Any,
    draw: Any,
    port: Any,
    port_ns: Any,
) -> None:
    """Costs, ports, kind and group of every task."""
    used = 0
    for q in range(len(queue)):
        row = queue[q]
        task = tasks[q]
        task.kind = kind[row]
        task.group = group[row]
        if kind[row] == SYNC:
            continue
        moving = floor[row]
        for k in range(port.shape[1]):
            if port[row, k] >= 0:
                moving = max(moving, port_ns[row, k])
        task.works = sm[row] + mem[row] + fixed[row] + latency[row] + moving > 0
        if kind[row] == COMPUTE:
            task.sm = sm[row]
            task.mem = mem[row]
            task.fixed = fixed[row]
            task.sm_drag = sm_drag[row]
            task.mem_drag = mem_drag[row]
            task.want = want[row]
            continue
        task.latency = latency[row]
        task.floor = floor[row]
        task.sms = sms[row]
        task.draw = draw[row]
        task.use_ptr = used
        for k in range(port.shape[1]):
            if port[row, k] >= 0 and port_ns[row, k] > 0:
                uses[used].port = port[row, k]
                uses[used].ns = port_ns[row, k]
                used += 1
        task.n_uses = used - task.use_ptr


@njit
def count_dependants(tasks: Any, place: Any, stream_of: Any, dep_ptr: Any, dep_idx: Any) -> int:
    """Count what blocks each task and whom it blocks; returns the dependencies that remain.

    One on an earlier task of the same stream says nothing that the stream's order does not.
    """
    found = 0
    for row in range(len(dep_ptr) - 1):
        q = place[row]
        for e in range(dep_ptr[row], dep_ptr[row + 1]):
            d = place[dep_idx[e]]
            if stream_of[d] != stream_of[q] or d >= q:
                tasks[d].n_next += 1
                tasks[q].blocked_by += 1
                found += 1
    return found


@njit
def fill_dependants(
    tasks: Any, next_of: Any, place: Any, stream_of: Any, dep_ptr: Any, dep_idx: Any
) -> None:
    """The dependants of every task, as counted before."""
    at = 0
    for q in range(len(tasks)):
        tasks[q].next_ptr = at
        at += tasks[q].n_next
        tasks[q].n_next = 0
    for row in range(len(dep_ptr) - 1):
        q = place[row]
        for e in range(dep_ptr[row], dep_ptr[row + 1]):
            d = place[dep_idx[e]]
            if stream_of[d] != stream_of[q] or d >= q:
                link = next_of[tasks[d].next_ptr + tasks[d].n_next]
                link.task = q
                link.stream = stream_of[q]
                tasks[d].n_next += 1


@njit
def fill_members(members: Any, at: Any, tasks: Any, stream_of: Any) -> None:
    """The members of every group; `at` is where each group begins and is used up."""
    for q in range(len(tasks)):
        group = tasks[q].group
        if group >= 0:
            link = members[at[group]]
            link.task = q
            link.stream = stream_of[q]
            at[group] += 1


@njit
def _root(root: Any, i: int) -> int:
    while root[i] != i:
        root[i] = root[root[i]]
        i = root[i]
    return i


@njit
def _join(root: Any, a: int, b: int) -> None:
    a, b = _root(root, a), _root(root, b)
    if a != b:
        root[max(a, b)] = min(a, b)


@njit
def roots(root: Any) -> Any:
    """The smallest rank that each rank is joined with."""
    found = np.empty(len(root), np.int64)
    for i in range(len(root)):
        found[i] = _root(root, i)
    return found


@njit
def join_dependants(root: Any, streams: Any, tasks: Any, next_of: Any) -> None:
    """Join ranks whose tasks depend on each other."""
    for s in range(len(streams)):
        mine = streams[s].rank
        for q in range(streams[s].head, streams[s].stop):
            for e in range(tasks[q].next_ptr, tasks[q].next_ptr + tasks[q].n_next):
                other = streams[next_of[e].stream].rank
                if other != mine:
                    _join(root, mine, other)


@njit
def join_ports(root: Any, streams: Any, tasks: Any, uses: Any, n_ports: int) -> None:
    """Join ranks whose transfers use the same port."""
    user = np.full(n_ports, -1, np.int64)
    for s in range(len(streams)):
        mine = streams[s].rank
        for q in range(streams[s].head, streams[s].stop):
            if tasks[q].kind == COMPUTE:
                continue
            for e in range(tasks[q].use_ptr, tasks[q].use_ptr + tasks[q].n_uses):
                port = uses[e].port
                if user[port] < 0:
                    user[port] = mine
                elif user[port] != mine:
                    _join(root, user[port], mine)


@njit
def join_groups(root: Any, rank_of: Any, members: Any, member_ptr: Any, groups: Any) -> None:
    """Join the ranks of each of some groups."""
    for i in range(len(groups)):
        first = member_ptr[groups[i]]
        for e in range(first + 1, member_ptr[groups[i] + 1]):
            a, b = rank_of[members[first].stream], rank_of[members[e].stream]
            if a != b:
                _join(root, a, b)
