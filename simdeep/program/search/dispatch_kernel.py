"""Compiled list scheduling: rows made in order of time, by priorities. Importing imports numba."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simdeep.jit import njit
from simdeep.program.search.flat import I32, I64, Flat

I_FIRST, F_FIRST, IN_TURN = range(3)


class Knobs(NamedTuple):
    """How the list scheduler decides where several cells could run next."""

    mode: int  # what goes first: I_FIRST, F_FIRST, IN_TURN (1F1B)
    deep_f: float  # forwards of deeper stages first (1) or last (-1)
    deep_i: float  # the same of input gradients
    fill: float  # share of a weight gradient that must fit before the next F or I is there
    wait_i: float  # share of a forward that is waited for an input gradient instead
    wait_first: float  # the same for a chunk's first input gradient, on which all others wait
    wait_block: float  # share of a block's gain that is waited for to make one
    backlog: float  # weight gradients put off at most, a rank, until
    late: float  # so many micro-batches a chunk lack their input gradient; from then on any number


@njit
def dispatch(
    p: Flat,
    knobs: Knobs,
    depth: I64,
    code: I32,
    length: I64,
) -> bool:
    """Write rows into `code`; False if it ran into a dead end.

    The rank whose next cell can start first goes first. `depth` [chunk] is the most micro-batches
    whose forward is done and input gradient is not; memory limits it as well, where each rank
    keeps room for one micro-batch of each deeper stage it holds, so that what is on its way can
    go on. A weight gradient runs where nothing else can, and in one
    piece with its input gradient where what lies between them would not fit.
    """
    ranks, chunks, n = p.n_ranks, p.rank.shape[0], p.microbatches
    length[:] = 0
    clock = np.zeros(ranks)
    held = np.zeros(ranks)
    put_off = np.zeros(ranks, np.int64)
    last_f = np.zeros(ranks, np.bool_)
    done_f = np.zeros(chunks, np.int64)
    done_i = np.zeros(chunks, np.int64)
    late = np.zeros(chunks, np.int64)
    end_f = np.zeros((chunks, n))
    end_i = np.zeros((chunks, n))
    next_code = np.full(ranks, -1, np.int64)
    next_start = np.full(ranks, np.inf)
    stale = np.ones(ranks, np.bool_)
    came_f = np.zeros(chunks)
    came_i = np.zeros(chunks)
    left = 3 * n * chunks
    while left > 0:
        for r in range(ranks):
            if not stale[r]:
                continue
            stale[r] = False
            now = clock[r]
            soonest = np.inf
            w_chunk = -1
            reserve = 0.0
            to_come = 0
            for at in range(p.held_ptr[r], p.held_ptr[r + 1]):
                c = p.held[at]
                came_f[c] = np.inf
                came_i[c] = np.inf
                k = done_i[c]
                to_come += n - k
                if k < done_f[c]:
                    a = p.after[c]
                    if a < 0:
                        came_i[c] = max(now, end_f[c, k])
                    elif done_i[a] > k:
                        came_i[c] = max(now, end_i[a, k] + p.wait_i[c])
                k = done_f[c]
                size = p.after_f[c]
                room = held[r] + size + reserve <= p.limit[r]
                if k < n and room and k - done_i[c] < depth[c]:
                    b = p.before[c]
                    if b < 0:
                        came_f[c] = now
                    elif done_f[b] > k:
                        came_f[c] = max(now, end_f[b, k] + p.wait_f[c])
                if done_f[c] < n:
                    reserve = max(reserve, size) if done_f[c] > done_i[c] else reserve + size
                soonest = min(soonest, came_f[c], came_i[c])
                if late[c] > 0 and (w_chunk < 0 or p.after_i[c] > p.after_i[w_chunk]):
                    w_chunk = c
            next_code[r] = -1
            next_start[r] = np.inf
            to_come_late = knobs.late * (p.held_ptr[r + 1] - p.held_ptr[r])
            if w_chunk >= 0 and (
                (put_off[r] > knobs.backlog and to_come > to_come_late)
                or (soonest - now >= knobs.fill * p.took[2 * chunks + w_chunk] and soonest > now)
            ):
                next_code[r] = 2 * chunks + w_chunk
                next_start[r] = now
                continue
            if soonest == np.inf:
                continue
            best = np.inf
            for at in range(p.held_ptr[r], p.held_ptr[r + 1]):
                c = p.held[at]
                tilt = p.stage[c] / chunks
                if came_f[c] <= soonest:
                    score = -0.5 * knobs.deep_f * tilt
                    if knobs.mode == I_FIRST or (knobs.mode == IN_TURN and last_f[r]):
                        score += 1.0
                    if score < best:
                        best = score
                        next_code[r] = c
                        next_start[r] = came_f[c]
                wait = knobs.wait_i if done_i[c] > 0 else knobs.wait_first
                if came_i[c] <= soonest + wait * p.took[c]:
                    score = -0.5 * knobs.deep_i * tilt
                    if knobs.mode == F_FIRST or (knobs.mode == IN_TURN and not last_f[r]):
                        score += 1.0
                    if score < best:
                        best = score
                        fits = held[r] - p.after_f[c] + p.after_i[c] <= p.limit[r]
                        next_code[r] = (1 if fits else 3) * chunks + c
                        next_start[r] = came_i[c]
            gain = 0.0
            for at in range(p.held_ptr[r], p.held_ptr[r + 1]):
                f = p.held[at]
                if came_f[f] == np.inf:
                    continue
                for to in range(p.held_ptr[r], p.held_ptr[r + 1]):
                    b = p.held[to]
                    if came_i[b] == np.inf or not p.block[f, b]:
                        continue
                    saved = (
                        p.took[f]
                        + p.took[chunks + b]
                        + p.took[2 * chunks + b]
                        - p.took[4 * chunks + f * chunks + b]
                    )
                    at_time = max(came_f[f], came_i[b])
                    net = saved - (at_time - soonest)
                    if at_time <= soonest + knobs.wait_block * saved and net > gain:
                        gain = net
                        next_code[r] = 4 * chunks + f * chunks + b
                        next_start[r] = at_time
        r = -1
        soonest = np.inf
        for other in range(ranks):
            if next_start[other] < soonest:
                soonest = next_start[other]
                r = other
        if r < 0:
            return False
        c = next_code[r]
        code[r, length[r]] = c
        length[r] += 1
        now = soonest + p.took[c]
        clock[r] = now
        stale[r] = True
        f = p.code_f[c]
        i = p.code_i[c]
        w = p.code_w[c]
        if f >= 0:
            end_f[f, done_f[f]] = now
            done_f[f] += 1
            held[r] += p.after_f[f]
            last_f[r] = i < 0
            left -= 1
            if p.after[f] >= 0:
                stale[p.rank[p.after[f]]] = True
        if i >= 0:
            end_i[i, done_i[i]] = now
            done_i[i] += 1
            held[r] -= p.after_f[i]
            if f < 0:
                last_f[r] = False
            if w < 0:
                held[r] += p.after_i[i]
                late[i] += 1
                put_off[r] += 1
            left -= 1
            if p.before[i] >= 0:
                stale[p.rank[p.before[i]]] = True
        if w >= 0:
            if i < 0:
                held[r] -= p.after_i[w]
                late[w] -= 1
                put_off[r] -= 1
            left -= 1
    return True
