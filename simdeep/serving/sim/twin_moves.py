"""Network and prefix cache of the compiled engine. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

from simdeep.jit import njit
from simdeep.serving.sim import formulas
from simdeep.serving.sim.fleet import Event
from simdeep.serving.sim.twin_state import schedule, unschedule

_MOVED = int(Event.MOVED)


@njit
def start_move(S: Any, j: int, size: float) -> None:
    """Begin to move a request's KV to its place."""
    S.q[j].left = size
    S.q[j].rate = 0.0
    S.q[j].at = S.g[0].now
    S.q[j].moving = 1
    source, target = S.r[S.q[j].rank].node, S.r[S.q[j].place].node
    first = S.nodes[source].out_head
    S.q[j].out_prev, S.q[j].out_next = -1, first
    if first >= 0:
        S.q[first].out_prev = j
    S.nodes[source].out_head = j
    first = S.nodes[target].in_head
    S.q[j].in_prev, S.q[j].in_next = -1, first
    if first >= 0:
        S.q[first].in_prev = j
    S.nodes[target].in_head = j
    S.nodes[source].out_n += 1
    S.nodes[target].in_n += 1
    _share(S, source, target)


@njit
def cancel_move(S: Any, j: int) -> None:
    """Stop a transfer, if there is one."""
    if not S.q[j].moving:
        return
    S.q[j].moving = 0
    source, target = S.r[S.q[j].rank].node, S.r[S.q[j].place].node
    before, after = S.q[j].out_prev, S.q[j].out_next
    if before >= 0:
        S.q[before].out_next = after
    else:
        S.nodes[source].out_head = after
    if after >= 0:
        S.q[after].out_prev = before
    before, after = S.q[j].in_prev, S.q[j].in_next
    if before >= 0:
        S.q[before].in_next = after
    else:
        S.nodes[target].in_head = after
    if after >= 0:
        S.q[after].in_prev = before
    S.nodes[source].out_n -= 1
    S.nodes[target].in_n -= 1
    unschedule(S, j)
    _share(S, source, target)


@njit
def _share(S: Any, source: int, target: int) -> None:
    """New rates for all that use either node."""
    j = S.nodes[source].out_head
    while j >= 0:
        _rate(S, j)
        j = S.q[j].out_next
    j = S.nodes[target].in_head
    while j >= 0:
        _rate(S, j)
        j = S.q[j].in_next


@njit
def _rate(S: Any, j: int) -> None:
    one, other = S.k[S.u[S.q[j].home].kind], S.k[S.u[S.q[j].unit].kind]
    rate = min(one.rank_rate, other.rank_rate)
    rate = min(rate, one.node_rate / S.nodes[S.r[S.q[j].rank].node].out_n)
    rate = min(rate, other.node_rate / S.nodes[S.r[S.q[j].place].node].in_n)
    if rate == S.q[j].rate:
        return
    now = S.g[0].now
    S.q[j].left = max(0.0, S.q[j].left - S.q[j].rate * ((now - S.q[j].at) * 1e-9))
    S.q[j].rate = rate
    S.q[j].at = now
    S.q[j].event = _MOVED
    schedule(S, j, _MOVED, j, formulas.moving_ns(S.q[j].left, rate))


# The prefix cache: two rings, most recently used first


@njit
def _unlink(S: Any, p: int) -> None:
    before, after = S.prefixes[p].before, S.prefixes[p].after
    S.prefixes[before].after = after
    S.prefixes[after].before = before
    _used(S, S.prefixes[p].tier, -S.prefixes[p].tokens)
    S.prefixes[p].tier = -1


@njit
def _link(S: Any, p: int, tier: int) -> None:
    ring = len(S.prefixes) - 2 + tier
    first = S.prefixes[ring].after
    S.prefixes[p].before, S.prefixes[p].after = ring, first
    S.prefixes[first].before = p
    S.prefixes[ring].after = p
    S.prefixes[p].tier = tier
    _used(S, tier, S.prefixes[p].tokens)


@njit
def _used(S: Any, tier: int, tokens: int) -> None:
    if tier == 0:
        S.g[0].ram_used += tokens
    else:
        S.g[0].ssd_used += tokens


@njit
def find_hit(S: Any, j: int) -> int:
    """Tokens of a prompt in the prefix cache; touches its prefix."""
    most = S.q[j].input + S.q[j].done - 1
    if not S.g[0].by_prefix:
        return int(min(S.q[j].cached, most))
    p = int(S.q[j].prefix)
    if p < 0 or S.prefixes[p].tier < 0:
        return 0
    tier = S.prefixes[p].tier
    _unlink(S, p)
    _link(S, p, tier)
    found = min(S.prefixes[p].tokens, S.q[j].prefix_tokens, most)
    return int(found // S.g[0].block * S.g[0].block)


@njit
def keep_prefix(S: Any, j: int) -> None:
    """Keep the prefix of a prompt that was processed."""
    p = int(S.q[j].prefix)
    if not S.g[0].by_prefix or p < 0:
        return
    size = S.prefixes[p].tokens if S.prefixes[p].tier >= 0 else 0
    if S.prefixes[p].tier >= 0:
        _unlink(S, p)
    S.prefixes[p].tokens = max(size, S.q[j].prefix_tokens)
    _link(S, p, 0)
    ring = len(S.prefixes) - 2
    while S.g[0].ram_used > S.g[0].ram_tokens:
        last = S.prefixes[ring].before
        _unlink(S, last)
        _link(S, last, 1)
    while S.g[0].ssd_used > S.g[0].ssd_tokens:
        _unlink(S, S.prefixes[ring + 1].before)
