"""Iterations of units in the compiled engine. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

from simdeep.jit import njit
from simdeep.serving.sim import formulas
from simdeep.serving.sim.fleet import Event, State
from simdeep.serving.sim.outcome import COUNTERS
from simdeep.serving.sim.twin_moves import keep_prefix
from simdeep.serving.sim.twin_routes import (
    MIXED,
    PREFILL,
    add_row,
    admit,
    hand_over,
    leave_home,
    leave_unit,
    preempt,
    room,
    wake,
)
from simdeep.serving.sim.twin_state import COUNTER, GAP, WAITING0, append, pop, schedule, to_state

_ITERATION = int(Event.ITERATION)
_PREFILLING, _DONE = int(State.PREFILLING), int(State.DONE)
NEW, PROMPT, OUTPUT = (COUNTERS.index(f"{name}_tokens") for name in ("new", "prompt", "output"))


@njit
def begin(S: Any, u: int) -> None:
    """Start a unit's next iteration, if it has anything to do."""
    if S.u[u].down or S.u[u].busy:
        return
    kind, rank0 = S.k[S.u[u].kind], S.u[u].rank0
    step = 1 + kind.draft
    for i in range(rank0, rank0 + kind.ranks):
        while S.r[i].rows > 0 and S.r[i].kv + S.r[i].rows * step > kind.kv_tokens:
            preempt(S, u, i)
    if kind.role == MIXED:
        admit(S, u)
    if kind.chunk > 0:
        _choose_prompts(S, u)
    for i in range(rank0, rank0 + kind.ranks):
        S.r[i].active = S.r[i].rows
        S.r[i].fresh = S.r[i].joined
        S.r[i].joined = 0
    seconds = _seconds(S, u)
    if seconds < 0.0:
        return
    now = S.g[0].now
    placements = (now + S.g[0].phase_ns) // S.g[0].rebalance_ns
    stall = S.g[0].pause_ns if placements > S.u[u].placements else 0
    S.u[u].placements = placements
    S.u[u].stalled_ns += stall
    S.u[u].busy = 1
    S.u[u].busy_at = now
    duration = stall + formulas.nanoseconds(seconds)
    S.u[u].ends_at = now + duration
    schedule(S, S.g[0].n + u, _ITERATION, u, duration)


@njit
def _choose_prompts(S: Any, u: int) -> None:
    kind, rank0 = S.k[S.u[u].kind], S.u[u].rank0
    step = 1 + kind.draft
    waiting, plan = WAITING0 + 3 * u, WAITING0 + 3 * u + 1
    for i in range(rank0, rank0 + kind.ranks):
        S.r[i].new = S.r[i].begun = 0
        S.r[i].attended = 0
        S.r[i].work = float(S.r[i].rows * step)
        if S.r[i].carried >= 0:
            j = S.r[i].carried
            S.r[i].carried = -1
            _take(S, j, i, u)
            append(S, plan, j)
    while S.lists[waiting].head >= 0:
        j = S.lists[waiting].head
        need = S.q[j].input + S.q[j].done + 1
        best, least = -1, 0.0
        for i in range(rank0, rank0 + kind.ranks):
            load = S.r[i].work
            if kind.chunk - load < 1.0 or (kind.max_prompts and S.r[i].begun >= kind.max_prompts):
                continue
            if (best < 0 or load < least) and room(S, u, i, need):
                best, least = i, load
        if best < 0:
            return
        pop(S, waiting)
        S.r[best].kv += need
        S.u[u].kv += need
        if kind.role == MIXED:
            S.r[best].reserved += 1
            S.u[u].reserved += 1
        S.r[best].begun += 1
        S.q[j].kv = need
        S.q[j].rank = best
        to_state(S, j, _PREFILLING)
        if S.q[j].begun < 0:
            S.q[j].begun = S.g[0].now
        _take(S, j, best, u)
        append(S, plan, j)


@njit
def _take(S: Any, j: int, i: int, u: int) -> None:
    kind = S.k[S.u[u].kind]
    seen = S.q[j].input + S.q[j].done - S.q[j].todo
    budget = kind.chunk - S.r[i].work
    tokens = 0
    if budget >= 1.0:
        tokens = min(S.q[j].todo, formulas.tokens_within(budget, seen, kind.equal))
    S.r[i].new += tokens
    S.r[i].work += formulas.work_of(tokens, seen, kind.equal)
    if tokens < S.q[j].todo:  # one prompt at most is left unfinished on a rank
        S.r[i].work = max(S.r[i].work, float(kind.chunk))
    S.r[i].attended += tokens * seen + tokens * (tokens + 1) // 2
    S.u[u].planned += tokens
    S.q[j].chunk = tokens


@njit
def _at(S: Any, k: int, stale: float, new: int, rows: int, attended: int) -> float:
    mean = attended / max(new + rows, 1)
    return formulas.seconds_at(S.grid, S.k[k].grid0, stale, float(new), float(rows), mean)


@njit
def _seconds(S: Any, u: int) -> float:
    """Seconds of the slowest rank, below zero if none has anything to do."""
    k, rank0 = S.u[u].kind, S.u[u].rank0
    ranks = S.k[k].ranks
    stale = formulas.stale_at(S.g[0].now + S.g[0].phase_ns, S.g[0].rebalance_ns, S.g[0].drift)
    slowest, worst, total = -1.0, rank0, 0.0
    for i in range(rank0, rank0 + ranks):
        if S.r[i].new + S.r[i].active:
            attended = S.r[i].attended + S.r[i].context
            mine = _at(S, k, stale, S.r[i].new, S.r[i].active, attended)
            total += mine
            if mine > slowest:
                slowest, worst = mine, i
    if slowest >= 0.0:
        S.u[u].my_balance_ns = total / ranks * 1e9
        S.u[u].balance_ns += S.u[u].my_balance_ns
        rank = S.r[worst]
        share = 1.0 if rank.new > 0 else 0.0
        if rank.new > 0 and rank.active > 0:
            alone = _at(S, k, stale, rank.new, 0, rank.attended)
            rows = _at(S, k, stale, 0, rank.active, rank.context)
            share = alone / (alone + rows) if alone + rows > 0 else 0.5
        S.u[u].my_prompt_ns = slowest * share * 1e9
        S.u[u].prompt_ns += S.u[u].my_prompt_ns
    return slowest


@njit
def end(S: Any, u: int) -> None:
    """End a unit's iteration: rows and finished prompts get their tokens."""
    now = S.g[0].now
    kind, rank0 = S.k[S.u[u].kind], S.u[u].rank0
    S.u[u].busy = 0
    S.u[u].busy_ns += now - S.u[u].busy_at
    S.u[u].iterations += 1
    S.u[u].step += 1
    measured = S.g[0].low <= now < S.g[0].high
    if kind.role != PREFILL:
        usual = formulas.gap_bin(now - S.u[u].busy_at)
        for i in range(rank0, rank0 + kind.ranks):
            if S.r[i].active > 0:
                if measured:
                    S.sums[GAP + usual] += S.r[i].active - S.r[i].fresh
                    _fresh_gaps(S, i)
                if kind.draft:
                    _draft_rows(S, u, i)
                else:
                    _plain_rows(S, u, i)
    plan = WAITING0 + 3 * u + 1
    j = S.lists[plan].head
    S.lists[plan].head = S.lists[plan].tail = -1
    while j >= 0:
        following = S.q[j].next
        tokens = S.q[j].chunk
        S.q[j].todo -= tokens
        S.u[u].pending -= tokens
        S.u[u].planned -= tokens
        S.sums[COUNTER + NEW] += tokens
        if S.q[j].todo > 0:
            S.r[S.q[j].rank].carried = j
        else:
            _answer(S, u, j)
        j = following
    if kind.role != PREFILL:
        admit(S, u)
    wake(S, u)


@njit
def _fresh_gaps(S: Any, i: int) -> None:
    """Rows in their first iteration here waited since their last token elsewhere."""
    stop = S.r[i].row0 + S.r[i].active
    for slot in range(stop - S.r[i].fresh, stop):
        last = S.q[S.rows[slot].request].last
        if last >= 0:
            S.sums[GAP + formulas.gap_bin(S.g[0].now - last)] += 1


@njit
def _first_tokens(S: Any, i: int) -> None:
    """Rows that came with tokens from before the simulation get the first one of it."""
    stop = S.r[i].row0 + S.r[i].active
    for slot in range(stop - S.r[i].fresh, stop):
        if S.q[S.rows[slot].request].first < 0:
            S.q[S.rows[slot].request].first = S.g[0].now


@njit
def _plain_rows(S: Any, u: int, i: int) -> None:
    """Every row gets one token; only rows that end are looked at."""
    active = S.r[i].active
    _first_tokens(S, i)
    S.r[i].kv += active
    S.r[i].context += active
    S.u[u].kv += active
    S.sums[COUNTER + OUTPUT] += active
    step = S.u[u].step
    if S.r[i].soonest > step:
        return
    row0, kept, soonest = S.r[i].row0, S.r[i].row0, 2**62
    for slot in range(row0, row0 + S.r[i].rows):
        j, until = S.rows[slot].request, S.rows[slot].until
        if until == step:
            S.q[j].done = S.q[j].output
            _end_row(S, u, i, j)
        else:
            S.rows[kept].request, S.rows[kept].until = j, until
            soonest = min(soonest, until)
            kept += 1
    _keep_rows(S, u, i, kept - row0)
    S.r[i].soonest = soonest


@njit
def _draft_rows(S: Any, u: int, i: int) -> None:
    """Every row gets a token and the drafted ones that are accepted."""
    kind = S.k[S.u[u].kind]
    _first_tokens(S, i)
    row0 = S.r[i].row0
    kept, active = row0, row0 + S.r[i].active
    made = 0
    for slot in range(row0, row0 + S.r[i].rows):
        j, left = S.rows[slot].request, S.rows[slot].until
        if slot < active:
            more = formulas.accepted(S.g[0].seed, j, left, kind.acceptance, kind.draft)
            tokens = min(1 + more, left)
            made += tokens
            left -= tokens
            if left == 0:
                S.q[j].done = S.q[j].output
                _end_row(S, u, i, j)
                continue
        S.rows[kept].request, S.rows[kept].until = j, left
        kept += 1
    S.r[i].kv += made
    S.r[i].context += made
    S.u[u].kv += made
    S.sums[COUNTER + OUTPUT] += made
    _keep_rows(S, u, i, kept - row0)


@njit
def _end_row(S: Any, u: int, i: int, j: int) -> None:
    length = S.q[j].input + S.q[j].output
    S.r[i].kv -= length
    S.r[i].context -= length
    S.u[u].kv -= length
    _finish(S, j)


@njit
def _keep_rows(S: Any, u: int, i: int, kept: int) -> None:
    S.u[u].rows -= S.r[i].rows - kept
    S.r[i].rows = kept


@njit
def _answer(S: Any, u: int, j: int) -> None:
    """A prompt is done: its request gets a token."""
    now, role, i = S.g[0].now, S.k[S.u[u].kind].role, S.q[j].rank
    if S.q[j].done == 0:
        S.sums[COUNTER + PROMPT] += S.q[j].input
    keep_prefix(S, j)
    if S.q[j].last >= 0 and S.g[0].low <= now < S.g[0].high:
        S.sums[GAP + formulas.gap_bin(now - S.q[j].last)] += 1
    if S.q[j].first < 0:
        S.q[j].first = now
    S.q[j].last = now
    S.q[j].done += 1
    S.sums[COUNTER + OUTPUT] += 1
    if role == MIXED:
        S.r[i].reserved -= 1
        S.u[u].reserved -= 1
    if S.q[j].done == S.q[j].output:
        S.r[i].kv -= S.q[j].kv
        S.u[u].kv -= S.q[j].kv
        _finish(S, j)
    elif role == MIXED:
        S.q[j].unit = u
        S.u[u].live += 1
        leave_home(S, j)
        add_row(S, j, u, i)
    else:
        hand_over(S, j)


@njit
def _finish(S: Any, j: int) -> None:
    to_state(S, j, _DONE)
    S.q[j].finish = S.g[0].now
    leave_home(S, j)
    leave_unit(S, j)
    S.g[0].finished += 1
