"""Ways of requests between units in the compiled engine. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

from simdeep.jit import njit
from simdeep.serving.sim import formulas
from simdeep.serving.sim.fleet import Event, Role, State
from simdeep.serving.sim.outcome import COUNTERS
from simdeep.serving.sim.twin_moves import cancel_move, find_hit, start_move
from simdeep.serving.sim.twin_state import (
    BACKLOG,
    COUNTER,
    HOMELESS,
    WAITING0,
    append,
    pop,
    push_front,
    schedule,
    to_state,
)

PREFILL, DECODE, MIXED = int(Role.PREFILL), int(Role.DECODE), int(Role.MIXED)
_READY, _START = int(Event.READY), int(Event.START)
_BACKLOG, _LOADING, _WAITING = int(State.BACKLOG), int(State.LOADING), int(State.WAITING)
_HELD, _MOVING, _ROW = int(State.HELD), int(State.MOVING), int(State.ROW)
_SWAPPED, _FETCHED = int(State.SWAPPED), int(State.FETCHED)
MOVED_TOKENS, LOADED = COUNTERS.index("moved_tokens"), COUNTERS.index("loaded_tokens")
QUEUES_PROMPT, JOINS = 0, 1
"""What a request does when it is ready."""


@njit
def wake(S: Any, u: int) -> None:
    """Let a unit that rests look for work at the end of this instant."""
    entity = S.g[0].n + S.g[0].units + u
    if not S.u[u].busy and not S.u[u].down and S.e[entity].place < 0:
        schedule(S, entity, _START, u, 0)


@njit
def power(S: Any, u: int) -> None:
    """Keep account of the time a unit is paid for: on, or still at work."""
    wanted = S.u[u].on or S.u[u].live > 0
    if wanted and not S.u[u].powered:
        S.u[u].powered_at = S.g[0].now
    if S.u[u].powered and not wanted:
        S.u[u].powered_ns += S.g[0].now - S.u[u].powered_at
    S.u[u].powered = wanted


@njit
def leave_home(S: Any, j: int) -> None:
    """No longer hold a prompt anywhere."""
    u = S.q[j].home
    S.q[j].home = -1
    if u >= 0:
        S.u[u].live -= 1
        power(S, u)


@njit
def leave_unit(S: Any, j: int) -> None:
    """No longer be a row, nor wait to be one, anywhere."""
    u = S.q[j].unit
    S.q[j].unit = -1
    if u >= 0:
        S.u[u].live -= 1
        power(S, u)


@njit
def enter(S: Any, j: int, u: int) -> int:
    """Count a prompt as a unit's; returns the cached tokens it finds."""
    hit = find_hit(S, j)
    if S.q[j].hit < 0:
        S.q[j].hit = hit
    S.q[j].todo = S.q[j].input + S.q[j].done - hit
    S.q[j].home = u
    S.q[j].rank = -1
    S.u[u].live += 1
    S.u[u].pending += S.q[j].todo
    return int(hit)


@njit
def queue_prompt(S: Any, j: int) -> None:
    """Let a prompt wait for its turn."""
    u = S.q[j].home
    to_state(S, j, _WAITING)
    append(S, WAITING0 + 3 * u, j)
    wake(S, u)


@njit
def loaded(S: Any, j: int) -> None:
    """A cached prefix has arrived."""
    S.sums[COUNTER + LOADED] += S.q[j].input + S.q[j].done - S.q[j].todo
    queue_prompt(S, j)


@njit
def route(S: Any, j: int) -> None:
    """Send a prompt to a unit."""
    best, least, now = -1, 0.0, S.g[0].now
    for u in range(len(S.u)):
        kind = S.k[S.u[u].kind]
        if kind.role == DECODE or not S.u[u].on or S.u[u].down:
            continue
        load = float(S.u[u].pending + S.u[u].kv)
        if kind.role == PREFILL:
            running = S.u[u].ends_at - now if S.u[u].busy else 0
            load = running + (S.u[u].pending - S.u[u].planned) * kind.ns_per_token
        if best < 0 or load < least:
            best, least = u, load
    if best < 0:
        to_state(S, j, _BACKLOG)
        append(S, BACKLOG, j)
        return
    hit = enter(S, j, best)
    if hit == 0:
        queue_prompt(S, j)
        return
    to_state(S, j, _LOADING)
    tier = S.prefixes[S.q[j].prefix].tier if S.g[0].by_prefix else S.g[0].tier
    kind = S.k[S.u[best].kind]
    size = hit * S.g[0].kv_bytes
    if tier == 0:
        free = max(now, S.u[best].ram_free) + formulas.moving_ns(size, kind.ram_rate)
        S.u[best].ram_free = free
    else:
        free = max(now, S.u[best].ssd_free) + formulas.moving_ns(size, kind.ssd_rate)
        S.u[best].ssd_free = free
    S.q[j].after = QUEUES_PROMPT
    S.q[j].event = _READY
    schedule(S, j, _READY, j, free + S.g[0].cache_latency - now)


@njit
def room(S: Any, u: int, i: int, need: int) -> bool:
    """Whether a rank takes one more request of so many tokens."""
    kind, rank = S.k[S.u[u].kind], S.r[i]
    if kind.role == PREFILL:
        return bool(rank.kv + need <= kind.kv_tokens)
    taken = rank.rows + rank.reserved
    if taken >= kind.max_rows:
        return False
    if rank.kv == 0:
        return True
    return bool(rank.kv + need + (taken + 1) * (1 + kind.draft) <= kind.free_tokens)


@njit
def hand_over(S: Any, j: int) -> None:
    """Send a request whose prompt is done to a unit that decodes."""
    to_state(S, j, _HELD)
    best, least = -1, 0
    for u in range(len(S.u)):
        if S.k[S.u[u].kind].role == PREFILL or not S.u[u].on or S.u[u].down:
            continue
        load = S.u[u].queued_kv + S.u[u].kv
        if S.g[0].by_rows:
            load = S.u[u].queued_rows + S.u[u].rows + S.u[u].reserved
        if best < 0 or load < least:
            best, least = u, load
    if best < 0:
        append(S, HOMELESS, j)
        return
    S.q[j].unit = best
    S.u[best].live += 1
    enqueue(S, best, j, False)
    admit(S, best)


@njit
def enqueue(S: Any, u: int, j: int, front: bool) -> None:
    """Let a request wait for a place as a row."""
    if front:
        push_front(S, WAITING0 + 3 * u + 2, j)
    else:
        append(S, WAITING0 + 3 * u + 2, j)
    S.u[u].queued_kv += S.q[j].input + S.q[j].done
    S.u[u].queued_rows += 1


@njit
def admit(S: Any, u: int) -> None:
    """Give places to requests that wait for one, in order, while there are any."""
    which = WAITING0 + 3 * u + 2
    rank0, ranks = S.u[u].rank0, S.k[S.u[u].kind].ranks
    while S.lists[which].head >= 0 and not S.u[u].down:
        j = S.lists[which].head
        length = S.q[j].input + S.q[j].done
        best, least = -1, 0
        for i in range(rank0, rank0 + ranks):
            load = S.r[i].rows + S.r[i].reserved if S.g[0].by_rows else S.r[i].kv
            if (best < 0 or load < least) and room(S, u, i, length):
                best, least = i, load
        if best < 0:
            return
        pop(S, which)
        S.u[u].queued_kv -= length
        S.u[u].queued_rows -= 1
        _add_kv(S, u, best, length)
        _reserve(S, u, best, 1)
        S.q[j].place = best
        S.q[j].place_kv = length
        size = (length - 1) * S.g[0].kv_bytes
        if S.q[j].state == _SWAPPED:
            to_state(S, j, _FETCHED)
            now = S.g[0].now
            wait = max(now, S.q[j].out_at) - now
            back = formulas.moving_ns(size, S.k[S.u[u].kind].swap_rate)
            _join_in(S, j, wait + back)
        elif S.q[j].home < 0:
            join(S, j)
        else:
            to_state(S, j, _MOVING)
            start_move(S, j, size)


@njit
def _join_in(S: Any, j: int, delay: int) -> None:
    S.q[j].after = JOINS
    S.q[j].event = _READY
    schedule(S, j, _READY, j, delay)


@njit
def moved(S: Any, j: int) -> None:
    """A request's KV has crossed the network."""
    cancel_move(S, j)
    if S.g[0].latency:
        _join_in(S, j, S.g[0].latency)
    else:
        join(S, j)


@njit
def _add_kv(S: Any, u: int, i: int, tokens: int) -> None:
    S.r[i].kv += tokens
    S.u[u].kv += tokens


@njit
def _reserve(S: Any, u: int, i: int, rows: int) -> None:
    S.r[i].reserved += rows
    S.u[u].reserved += rows


@njit
def join(S: Any, j: int) -> None:
    """Become a row of the place that was reserved."""
    u, i = S.q[j].unit, S.q[j].place
    _reserve(S, u, i, -1)
    home = S.q[j].home
    if home >= 0:
        S.sums[COUNTER + MOVED_TOKENS] += S.q[j].input + S.q[j].done - 1
        _add_kv(S, home, S.q[j].rank, -S.q[j].kv)
        leave_home(S, j)
        wake(S, home)
    S.q[j].kv = S.q[j].place_kv
    add_row(S, j, u, i)
    wake(S, u)


@njit
def add_row(S: Any, j: int, u: int, i: int) -> None:
    """Put a request at the end of a rank's rows."""
    to_state(S, j, _ROW)
    slot = S.r[i].row0 + S.r[i].rows
    left = S.q[j].output - S.q[j].done
    until = left if S.k[S.u[u].kind].draft else S.u[u].step + S.u[u].busy + left
    S.rows[slot].request, S.rows[slot].until = j, until
    if S.r[i].rows == 0 or until < S.r[i].soonest:
        S.r[i].soonest = until
    S.r[i].rows += 1
    S.r[i].joined += 1
    S.r[i].context += S.q[j].input + S.q[j].done
    S.u[u].rows += 1
    S.q[j].place = i


@njit
def preempt(S: Any, u: int, i: int) -> None:
    """The last row of a rank makes room."""
    kind, now = S.k[S.u[u].kind], S.g[0].now
    S.r[i].rows -= 1
    S.u[u].rows -= 1
    slot = S.r[i].row0 + S.r[i].rows
    j = S.rows[slot].request
    settle(S, u, j, slot, S.r[i].joined > 0, now)
    if S.r[i].joined > 0:
        S.r[i].joined -= 1
    length = S.q[j].input + S.q[j].done
    _add_kv(S, u, i, -length)
    S.r[i].context -= length
    S.q[j].preempted += 1
    if S.g[0].swap:
        S.q[j].out_at = now + formulas.moving_ns((length - 1) * S.g[0].kv_bytes, kind.swap_rate)
        to_state(S, j, _SWAPPED)
        enqueue(S, u, j, True)
        return
    leave_unit(S, j)
    if kind.role == MIXED:
        enter(S, j, u)
        to_state(S, j, _WAITING)
        push_front(S, WAITING0 + 3 * u, j)
    else:
        route(S, j)


@njit
def settle(S: Any, u: int, j: int, slot: int, fresh: bool, last: int) -> None:
    """Write down what a row has got before it leaves its place: `until` says what is to come."""
    if not fresh:
        S.q[j].last = last
    left = S.rows[slot].until
    if S.k[S.u[u].kind].draft == 0:
        left -= S.u[u].step
    S.q[j].done = S.q[j].output - left
