"""Compiled branch and bound over orders, for tiny tasks. Importing this imports numba."""

from __future__ import annotations

import numpy as np

from simdeep.jit import njit
from simdeep.program.search.flat import F64, I32, I64, Flat


@njit
def remaining_bound(
    p: Flat,
    clock: F64,
    done_f: I64,
    done_i: I64,
    late: I64,
    end_f: F64,
    end_i: F64,
    least_f: F64,
    tail_f: F64,
    tail_i: F64,
    head_f: F64,
    head_i: F64,
) -> float:
    """No end of all from this partial order on is earlier. `head_f`, `head_i` are scratch."""
    chunks, n = p.rank.shape[0], p.microbatches
    for k in range(n):
        for c in range(chunks):
            if k < done_f[c]:
                head_f[c, k] = end_f[c, k]  # of what is done: its end
                continue
            at = clock[p.rank[c]]
            b = p.before[c]
            if b >= 0:
                at = max(at, head_f[b, k] + p.wait_f[c])
            if k > done_f[c]:
                at = max(at, head_f[c, k - 1] - p.took[c] + least_f[c])
            head_f[c, k] = at + p.took[c]
        for c in range(chunks - 1, -1, -1):
            if k < done_i[c]:
                head_i[c, k] = end_i[c, k]
                continue
            at = max(clock[p.rank[c]], head_f[c, k])
            a = p.after[c]
            if a >= 0:
                at = max(at, head_i[a, k] + p.wait_i[c])
            if k > 0:
                at = max(at, head_i[c, k - 1])
            head_i[c, k] = at + p.took[chunks + c]
    worst = 0.0
    starts = np.empty(3 * n * chunks)
    tails = np.empty(3 * n * chunks)
    works = np.empty(3 * n * chunks)
    for r in range(p.n_ranks):
        m = 0
        for at_c in range(p.held_ptr[r], p.held_ptr[r + 1]):
            c = p.held[at_c]
            f, i, w = p.took[c], p.took[chunks + c], p.took[2 * chunks + c]
            for k in range(done_f[c], n):
                starts[m], works[m], tails[m] = head_f[c, k] - f, least_f[c], tail_f[c, k]
                m += 1
            for k in range(done_i[c], n):
                starts[m], works[m], tails[m] = head_i[c, k] - i, i, tail_i[c, k]
                m += 1
                starts[m], works[m], tails[m] = head_i[c, k], w, 0.0
                m += 1
            for _ in range(late[c]):
                starts[m], works[m], tails[m] = clock[r], w, 0.0
                m += 1
        worst = max(worst, clock[r])
        # start + work + remainder over the sets of actions no earlier than one, each with
        # remainders no less than another's.
        order = np.argsort(-starts[:m])
        for floor_at in range(-1, m):
            floor = 0.0 if floor_at < 0 else tails[floor_at]
            if floor_at >= 0 and floor == 0.0:
                continue
            total = 0.0
            for at in order:
                if tails[at] >= floor:
                    total += works[at]
                    worst = max(worst, starts[at] + total + floor)
    return worst


@njit
def branch(
    p: Flat,
    least_f: F64,
    tail_f: F64,
    tail_i: F64,
    upper: float,
    lower: float,
    most_nodes: int,
    code: I32,
    length: I64,
) -> tuple[float, bool]:
    """Look for rows that end before `upper`; returns the best end and whether it is proven.

    Depth first over active orders (Giffler and Thompson 1960): of the cell that could end first,
    its rank's next cell must be one that can start before that end. As a forward, or an
    input gradient whose weight gradient needs more than it frees, takes memory, leaving it for
    after the rank's next cell is a branch of its own. Rows
    better than `upper` are written into `code`.
    """
    ranks, chunks, n = p.n_ranks, p.rank.shape[0], p.microbatches
    codes = p.took.shape[0]
    depth_most = 3 * n * chunks + 1
    levels = depth_most * (2 * chunks + 1) + 1
    clock = np.zeros(ranks)
    held = np.zeros(ranks)
    done_f = np.zeros(chunks, np.int64)
    done_i = np.zeros(chunks, np.int64)
    late = np.zeros(chunks, np.int64)
    # A chunk's next forward, or (+ chunks) its input gradient, waits for another cell of its rank.
    banned = np.zeros(2 * chunks, np.bool_)
    end_f = np.zeros((chunks, n))
    end_i = np.zeros((chunks, n))
    head_f = np.zeros((chunks, n))
    head_i = np.zeros((chunks, n))
    row = np.zeros((ranks, 3 * n * chunks), np.int64)
    filled = np.zeros(ranks, np.int64)
    # Per level: its choices (a code, or -1 - entry of `banned`), which is next, the state before.
    choice = np.zeros((levels, codes + 1), np.int64)
    choice_start = np.zeros((levels, codes + 1))
    n_choices = np.zeros(levels, np.int64)
    at_choice = np.zeros(levels, np.int64)
    old_clock = np.zeros(levels)
    old_held = np.zeros(levels)
    old_banned = np.zeros((levels, 2 * chunks), np.bool_)
    came = np.zeros(codes)
    tight = 1e-9 * max(upper, 1e-300)
    best = upper
    left = 3 * n * chunks
    level = 0
    nodes = 0
    enter = True
    while level >= 0:
        if enter:
            nodes += 1
            if nodes > most_nodes:
                return best, False
            n_choices[level] = 0
            at_choice[level] = 0
            if left == 0:
                end = clock.max()
                if end < best - tight:
                    best = end
                    for r in range(ranks):
                        length[r] = filled[r]
                        for at in range(filled[r]):
                            code[r, at] = row[r, at]
                    if best <= lower + tight:
                        return best, True
            elif (
                remaining_bound(
                    p,
                    clock,
                    done_f,
                    done_i,
                    late,
                    end_f,
                    end_i,
                    least_f,
                    tail_f,
                    tail_i,
                    head_f,
                    head_i,
                )
                < best - tight
            ):
                first_end = np.inf
                first = -1
                for c in range(codes):
                    came[c] = np.inf
                for c in range(codes):
                    f, i, w = p.code_f[c], p.code_i[c], p.code_w[c]
                    if f >= 0 and i >= 0 and not p.block[f, i]:
                        continue
                    r = p.rank[f] if f >= 0 else (p.rank[i] if i >= 0 else p.rank[w])
                    at_time = clock[r]
                    if f >= 0:
                        k = done_f[f]
                        if k >= n or banned[f]:
                            continue
                        if held[r] + p.after_f[f] > p.limit[r]:
                            continue
                        b = p.before[f]
                        if b >= 0:
                            if done_f[b] <= k:
                                continue
                            at_time = max(at_time, end_f[b, k] + p.wait_f[f])
                    if i >= 0:
                        k = done_i[i]
                        if k >= done_f[i]:
                            continue
                        grows = p.after_i[i] - p.after_f[i]
                        if w < 0 and (banned[chunks + i] or held[r] + grows > p.limit[r]):
                            continue
                        if w >= 0 and f < 0 and grows <= 0:
                            continue  # apart they do the same
                        a = p.after[i]
                        if a >= 0:
                            if done_i[a] <= k:
                                continue
                            at_time = max(at_time, end_i[a, k] + p.wait_i[i])
                    elif w >= 0 and late[w] == 0:
                        continue
                    came[c] = at_time
                    if at_time + p.took[c] < first_end - tight:
                        first_end = at_time + p.took[c]
                        first = c
                if first >= 0:
                    f, i, w = p.code_f[first], p.code_i[first], p.code_w[first]
                    r = p.rank[f] if f >= 0 else (p.rank[i] if i >= 0 else p.rank[w])
                    m = 0
                    for c in range(codes):
                        if came[c] == np.inf:
                            continue
                        f2, i2, w2 = p.code_f[c], p.code_i[c], p.code_w[c]
                        r2 = p.rank[f2] if f2 >= 0 else (p.rank[i2] if i2 >= 0 else p.rank[w2])
                        if r2 == r and (came[c] < first_end - tight or c == first):
                            at = m  # earliest first
                            while at > 0 and choice_start[level, at - 1] > came[c]:
                                choice[level, at] = choice[level, at - 1]
                                choice_start[level, at] = choice_start[level, at - 1]
                                at -= 1
                            choice[level, at] = c
                            choice_start[level, at] = came[c]
                            m += 1
                    if f >= 0:
                        choice[level, m] = -1 - f
                        m += 1
                    elif i >= 0 and w < 0 and p.after_i[i] > p.after_f[i]:
                        choice[level, m] = -1 - chunks - i
                        m += 1
                    n_choices[level] = m
        if at_choice[level] < n_choices[level]:
            c = choice[level, at_choice[level]]
            at_time = choice_start[level, at_choice[level]]
            at_choice[level] += 1
            for chunk in range(2 * chunks):
                old_banned[level, chunk] = banned[chunk]
            if c < 0:
                banned[-1 - c] = True
                level += 1
                enter = True
                continue
            f, i, w = p.code_f[c], p.code_i[c], p.code_w[c]
            r = p.rank[f] if f >= 0 else (p.rank[i] if i >= 0 else p.rank[w])
            old_clock[level] = clock[r]
            old_held[level] = held[r]
            now = at_time + p.took[c]
            clock[r] = now
            row[r, filled[r]] = c
            filled[r] += 1
            for at in range(p.held_ptr[r], p.held_ptr[r + 1]):
                banned[p.held[at]] = False
                banned[chunks + p.held[at]] = False
            if f >= 0:
                end_f[f, done_f[f]] = now
                done_f[f] += 1
                held[r] += p.after_f[f]
                left -= 1
            if i >= 0:
                end_i[i, done_i[i]] = now
                done_i[i] += 1
                held[r] -= p.after_f[i]
                left -= 1
                if w < 0:
                    late[i] += 1
                    held[r] += p.after_i[i]
            if w >= 0:
                left -= 1
                if i < 0:
                    late[w] -= 1
                    held[r] -= p.after_i[w]
            level += 1
            enter = True
            continue
        level -= 1
        enter = False
        if level < 0:
            break
        c = choice[level, at_choice[level] - 1]
        for chunk in range(2 * chunks):
            banned[chunk] = old_banned[level, chunk]
        if c < 0:
            continue
        f, i, w = p.code_f[c], p.code_i[c], p.code_w[c]
        r = p.rank[f] if f >= 0 else (p.rank[i] if i >= 0 else p.rank[w])
        clock[r] = old_clock[level]
        held[r] = old_held[level]
        filled[r] -= 1
        if f >= 0:
            done_f[f] -= 1
            left += 1
        if i >= 0:
            done_i[i] -= 1
            left += 1
            if w < 0:
                late[i] -= 1
        if w >= 0:
            left += 1
            if i < 0:
                late[w] += 1
    return best, True
