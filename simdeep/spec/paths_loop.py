"""Compiled loops of routing. Importing this module imports numba.

`ptr, to, first, count` are `SwitchLinks`; `far[t, u]` is the number of links from switch u to the
t-th target switch, -1 where there is no way; `only[t, u]` is the entry of u's one neighbour on a
shortest way there, -1 where there are several.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simdeep.jit import njit

STATIC, HASHED, ADAPTIVE = 0, 1, 2
RAIL, PXN, SPINE = 0, 1, 2
INSIDE, UNREACHABLE = -1, -2


@njit
def mix(a: Any, b: Any) -> Any:
    """A hash of two integers (splitmix64's finish), 63 bits."""
    x = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((x ^ (x >> np.uint64(31))) >> np.uint64(1))


@njit
def distances(targets: Any, ptr: Any, to: Any) -> Any:
    """Links from every switch to each target, breadth first; int16 [targets, switches]."""
    switches = len(ptr) - 1
    far = np.full((len(targets), switches), -1, dtype=np.int16)
    queue = np.empty(switches, dtype=np.int64)
    for t in range(len(targets)):
        far[t, targets[t]] = 0
        queue[0] = targets[t]
        read, written = 0, 1
        while read < written:
            u = queue[read]
            read += 1
            for e in range(ptr[u], ptr[u + 1]):
                if far[t, to[e]] < 0:
                    far[t, to[e]] = far[t, u] + 1
                    queue[written] = to[e]
                    written += 1
    return far


@njit
def sole_entries(far: Any, ptr: Any, to: Any) -> Any:
    """`only`, int32 [targets, switches]: spares most switches of a tree a search."""
    only = np.full(far.shape, -1, dtype=np.int32)
    for t in range(far.shape[0]):
        for u in range(far.shape[1]):
            found = 0
            for e in range(ptr[u], ptr[u + 1]):
                if far[t, to[e]] == far[t, u] - 1:
                    found += 1
                    only[t, u] = e if found == 1 else -1
    return only


@njit
def _entries(u: Any, t: Any, only: Any, ptr: Any) -> Any:
    """Range of u's entries in which those on a shortest way to target t are."""
    if only[t, u] >= 0:
        return only[t, u], only[t, u] + 1
    return ptr[u], ptr[u + 1]


@njit
def _usable(s: Any, d: Any, e: Any, f: Any, nic: Any, nvlink: Any, piece: Any) -> Any:
    """Whether s can reach d out of the NIC of e and into that of f."""
    if not (nic[e] and nic[f] and piece[e] == piece[f]):
        return False
    if e != s and not (nvlink[e] and nvlink[s]):
        return False
    return f == d or (nvlink[f] and nvlink[d])


@njit
def choose_nics(
    src: Any, dst: Any, per_node: Any, forward: Any, alive: Any, nic: Any, nvlink: Any, piece: Any
) -> Any:
    """GPUs by whose NIC each flow leaves and enters: INSIDE for NVLink only, UNREACHABLE for none.

    Where the pair that `forward` asks for is broken, that with the fewest NVLink hops is taken,
    first among NICs of equal index (one rail) unless the spine is meant to be crossed; among equals
    a hash of the flow decides, so that the load of a dead NIC spreads over its peers.
    """
    out = np.empty(len(src), dtype=np.int64)
    back = np.empty(len(src), dtype=np.int64)
    for i in range(len(src)):
        s, d = src[i], dst[i]
        out[i] = back[i] = UNREACHABLE
        if not (alive[s] and alive[d]):
            continue
        s0, d0 = s - s % per_node, d - d % per_node
        if s == d or (s0 == d0 and nvlink[s] and nvlink[d]):
            out[i] = back[i] = INSIDE
            continue
        e, f = s, d
        if s0 != d0 and forward == RAIL:
            f = d0 + s % per_node
        elif s0 != d0 and (forward == PXN or piece[s] != piece[d]):
            e = s0 + d % per_node
        if _usable(s, d, e, f, nic, nvlink, piece):
            out[i], back[i] = e, f
            continue
        best = np.int64(1 << 30)
        pairs = per_node * per_node
        start = mix(s, d) % pairs
        for j in range(pairs):
            at = (start + j) % pairs
            e, f = s0 + at // per_node, d0 + at % per_node
            cost = np.int64(e != s) + np.int64(f != d)
            if forward != SPINE and e - s0 != f - d0:
                cost += 4
            if cost < best and _usable(s, d, e, f, nic, nvlink, piece):
                best = cost
                out[i], back[i] = e, f
    return out, back


@njit
def path_starts(src: Any, dst: Any, out: Any, back: Any, row: Any, leaf: Any, far: Any) -> Any:
    """Where each flow's links start in the list of all, [flows + 1]."""
    starts = np.zeros(len(src) + 1, dtype=np.int64)
    for i in range(len(src)):
        e, f = out[i], back[i]
        hops = 0
        if e == INSIDE:
            hops = 0 if src[i] == dst[i] else 2
        else:
            hops = 4 + far[row[leaf[f]], leaf[e]]
            hops += (2 if e != src[i] else 0) + (2 if f != dst[i] else 0)
        starts[i + 1] = starts[i] + hops
    return starts


@njit
def _least(
    u: Any, t: Any, far: Any, only: Any, ptr: Any, to: Any, first: Any, count: Any, load: Any
) -> Any:
    """Load of the least loaded link by which a shortest way to target t leaves switch u."""
    least = np.inf
    begin, end = _entries(u, t, only, ptr)
    for e in range(begin, end):
        if far[t, to[e]] == far[t, u] - 1:
            for c in range(first[e], first[e] + count[e]):
                least = min(least, load[c])
    return least


@njit
def _hop_adaptive(
    u: Any,
    t: Any,
    key: Any,
    far: Any,
    only: Any,
    ptr: Any,
    to: Any,
    first: Any,
    count: Any,
    load: Any,
) -> Any:
    """The link whose own load and whose best continuation are least loaded.

    Equals go to the one after where static routing would start looking.
    """
    begin, end = _entries(u, t, only, ptr)
    degree = end - begin
    best, best_own, entry, link = np.inf, np.inf, -1, -1
    for j in range(degree):
        e = begin + (key + j) % degree
        if far[t, to[e]] != far[t, u] - 1:
            continue
        beyond = 0.0
        if far[t, to[e]] > 0:
            beyond = _least(to[e], t, far, only, ptr, to, first, count, load)
        for c in range(first[e], first[e] + count[e]):
            score = max(load[c], beyond)
            if score < best or (score == best and load[c] < best_own):
                best, best_own, entry, link = score, load[c], e, c
    return entry, link


@njit
def _hop(
    u: Any,
    t: Any,
    pick: Any,
    by_cable: Any,
    far: Any,
    only: Any,
    ptr: Any,
    to: Any,
    first: Any,
    count: Any,
) -> Any:
    """The link by static or hashed choice, and how many neighbours there were to choose from.

    Hashed choice is among cables, as switches spread over ports. Static choice is by the digits of
    `pick`: first among neighbours, then, with what is left, among the cables to it.
    """
    begin, end = _entries(u, t, only, ptr)
    neighbours, cables = 0, 0
    for e in range(begin, end):
        if far[t, to[e]] == far[t, u] - 1:
            neighbours += 1
            cables += count[e]
    left = pick % (cables if by_cable else neighbours)
    for e in range(begin, end):
        if far[t, to[e]] != far[t, u] - 1:
            continue
        size = count[e] if by_cable else 1
        if left < size:
            offset = left if by_cable else pick // neighbours % count[e]
            return e, first[e] + offset, neighbours
        left -= size
    return -1, -1, 0


@njit
def fill_paths(
    src: Any,
    dst: Any,
    out: Any,
    back: Any,
    starts: Any,
    policy: Any,
    hashes: Any,
    weight: Any,
    place: Any,
    row: Any,
    leaf: Any,
    far: Any,
    only: Any,
    ports: Any,
    bandwidth: Any,
    ptr: Any,
    to: Any,
    first: Any,
    count: Any,
) -> Any:
    """Ids of the links of every flow, one flow after another.

    `ports` is [6, gpus]: NVLink, PCIe and NIC out and in, in the order of `KINDS`.
    """
    links = np.empty(starts[-1], dtype=np.int32)
    load = np.zeros(len(bandwidth))
    for i in range(len(src)):
        s, d, e, f, at = src[i], dst[i], out[i], back[i], starts[i]
        if e == INSIDE:
            if s != d:
                links[at], links[at + 1] = ports[0, s], ports[1, d]
            continue
        if e != s:
            links[at], links[at + 1] = ports[0, s], ports[1, e]
            at += 2
        links[at], links[at + 1] = ports[2, e], ports[4, e]
        at += 2
        u, t, key = leaf[e], row[leaf[f]], place[f]
        while far[t, u] > 0:
            if policy == ADAPTIVE:
                entry, link = _hop_adaptive(u, t, key, far, only, ptr, to, first, count, load)
                load[link] += weight[i] / bandwidth[link]
            elif policy == HASHED:
                pick = mix(hashes[i], u + 1)
                entry, link, _ = _hop(u, t, pick, True, far, only, ptr, to, first, count)
            else:
                entry, link, choices = _hop(u, t, key, False, far, only, ptr, to, first, count)
                key //= choices
            links[at] = link
            at += 1
            u = to[entry]
        links[at], links[at + 1] = ports[5, f], ports[3, f]
        if f != d:
            links[at + 2], links[at + 3] = ports[0, f], ports[1, d]
    return links
