"""Compiled replay of coded rows: when every cell starts. Importing this imports numba."""

from __future__ import annotations

import numpy as np

from simdeep.jit import njit
from simdeep.program.search.flat import F64, I32, I64, Flat


@njit
def run_rows(p: Flat, code: I32, length: I64, start: F64, end_f: F64, end_i: F64) -> bool:
    """Fill `start` [rank][place]; False if the rows wait for each other.

    `end_f` and `end_i` [chunk][how many-th] are the ends of forwards and input gradients.
    """
    ranks, chunks = p.n_ranks, p.rank.shape[0]
    place = np.zeros(ranks, np.int64)
    clock = np.zeros(ranks)
    done_f = np.zeros(chunks, np.int64)
    done_i = np.zeros(chunks, np.int64)
    # The count a sleeping rank waits for: of forwards of a chunk, or (+ chunks) of gradients.
    waits = np.full(ranks, -1, np.int64)
    ready = np.arange(ranks)
    n_ready = ranks
    left = length.sum()
    while n_ready > 0:
        n_ready -= 1
        r = ready[n_ready]
        now = clock[r]
        at = place[r]
        while at < length[r]:
            c = code[r, at]
            f = p.code_f[c]
            i = p.code_i[c]
            if f >= 0:
                b = p.before[f]
                if b >= 0:
                    if done_f[b] <= done_f[f]:
                        waits[r] = b
                        break
                    now = max(now, end_f[b, done_f[f]] + p.wait_f[f])
            if i >= 0:
                k = done_i[i]
                a = p.after[i]
                if done_f[i] <= k:
                    return False
                if a >= 0:
                    if done_i[a] <= k:
                        waits[r] = chunks + a
                        break
                    now = max(now, end_i[a, k] + p.wait_i[i])
            start[r, at] = now
            now += p.took[c]
            at += 1
            left -= 1
            if f >= 0:
                end_f[f, done_f[f]] = now
                done_f[f] += 1
                if p.after[f] >= 0:
                    other = p.rank[p.after[f]]
                    if waits[other] == f:
                        waits[other] = -1
                        ready[n_ready] = other
                        n_ready += 1
            if i >= 0:
                end_i[i, done_i[i]] = now
                done_i[i] += 1
                if p.before[i] >= 0:
                    other = p.rank[p.before[i]]
                    if waits[other] == chunks + i:
                        waits[other] = -1
                        ready[n_ready] = other
                        n_ready += 1
        place[r] = at
        clock[r] = now
    return bool(left == 0)


@njit
def row_fits(p: Flat, code: I32, length: I64, r: int) -> bool:
    """Whether a rank's row keeps the order of each chunk and the rank's memory."""
    chunks = p.rank.shape[0]
    forwards = np.zeros(chunks, np.int64)
    inputs = np.zeros(chunks, np.int64)
    late = np.zeros(chunks, np.int64)
    held = 0.0
    for at in range(length[r]):
        c = code[r, at]
        f = p.code_f[c]
        i = p.code_i[c]
        w = p.code_w[c]
        if i >= 0:
            if inputs[i] >= forwards[i]:
                return False
            inputs[i] += 1
            late[i] += 1
        if w >= 0:
            if late[w] == 0:
                return False
            late[w] -= 1
        if f >= 0:
            forwards[f] += 1
            held += p.after_f[f]
            if held > p.limit[r]:
                return False
        if i >= 0:
            held -= p.after_f[i]
            if w < 0:
                held += p.after_i[i]
                if held > p.limit[r]:
                    return False
        elif w >= 0:
            held -= p.after_i[w]
    return True


@njit
def goal_of(p: Flat, code: I32, length: I64, start: F64, spans: bool) -> tuple[float, float, int]:
    """The goal's value, a finer measure below it, and the rank that sets it.

    The finer measure is the mean over ranks of their own values: rows that end earlier have more
    room for further changes.
    """
    worst = -1.0
    total = 0.0
    at_rank = 0
    for r in range(p.n_ranks):
        last = length[r] - 1
        value = start[r, last] + p.took[code[r, last]]
        if spans:
            value -= start[r, 0]
        total += value
        if value > worst:
            worst = value
            at_rank = r
    return worst, total / p.n_ranks, at_rank
