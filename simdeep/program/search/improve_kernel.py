"""Compiled local search on coded rows. Importing this imports numba."""

from __future__ import annotations

import numpy as np

from simdeep.jit import njit
from simdeep.program.search.flat import I32, I64, Flat
from simdeep.program.search.replay_kernel import goal_of, row_fits, run_rows

_MEMORY = 64  # late acceptance: how many rounds back a change is compared with
_FINE = 1e-3  # weight of the finer measure
_OTHER_RANK = 0.2  # share of rounds that walk back from a random rank


@njit
def shift(code: I32, r: int, source: int, target: int) -> None:
    """Move the cell at place `source` of a row to place `target`; those between make room."""
    moved = code[r, source]
    step = 1 if target > source else -1
    at = source
    while at != target:
        code[r, at] = code[r, at + step]
        at += step
    code[r, target] = moved


@njit
def index_row(
    p: Flat, code: I32, length: I64, r: int, at_f: I64, at_i: I64, nth_f: I64, nth_i: I64
) -> None:
    """Note where the how many-th forward and input gradient of each chunk stand in a row."""
    chunks = p.rank.shape[0]
    count_f = np.zeros(chunks, np.int64)
    count_i = np.zeros(chunks, np.int64)
    for at in range(length[r]):
        f = p.code_f[code[r, at]]
        i = p.code_i[code[r, at]]
        if f >= 0:
            at_f[f, count_f[f]] = at
            nth_f[r, at] = count_f[f]
            count_f[f] += 1
        if i >= 0:
            at_i[i, count_i[i]] = at
            nth_i[r, at] = count_i[i]
            count_i[i] += 1


@njit
def improve(
    p: Flat, code: I32, length: I64, spans: bool, bound: float, rounds: int, seed: int
) -> float:
    """Change `code` in place for a smaller goal, by moves on critical paths; returns the goal.

    Each round walks back from the end of the rank that sets the goal along what each cell waited
    for, picks one wait for a rank's own previous cell on the way, and moves the later cell to the
    front, or the earlier one (a weight gradient: far) to the back. A change is kept if it is no
    worse than the rows were some rounds ago (late acceptance hill climbing); the best rows are
    returned. Ends at `bound`, or after `rounds`.
    """
    np.random.seed(seed)
    chunks = p.rank.shape[0]
    start, start_new = np.zeros(code.shape), np.zeros(code.shape)
    end_f, end_f_new = np.zeros((chunks, p.microbatches)), np.zeros((chunks, p.microbatches))
    end_i, end_i_new = np.zeros((chunks, p.microbatches)), np.zeros((chunks, p.microbatches))
    at_f = np.zeros((chunks, p.microbatches), np.int64)
    at_i = np.zeros((chunks, p.microbatches), np.int64)
    nth_f = np.zeros(code.shape, np.int64)
    nth_i = np.zeros(code.shape, np.int64)
    cells = 0
    for r in range(p.n_ranks):
        cells += length[r]
        index_row(p, code, length, r, at_f, at_i, nth_f, nth_i)
    link_rank = np.zeros(cells, np.int64)
    link_at = np.zeros(cells, np.int64)
    if not run_rows(p, code, length, start, end_f, end_i):
        return np.inf
    worst, mean, top = goal_of(p, code, length, start, spans)
    best = code.copy()
    best_worst, best_mean = worst, mean
    past = np.full(_MEMORY, worst + _FINE * mean)
    tight = 1e-9 * worst
    for trial in range(rounds):
        if best_worst <= bound + tight:
            break
        r = top
        if np.random.random() < _OTHER_RANK:
            r = np.random.randint(p.n_ranks)
        at = length[r] - 1
        links = 0
        while True:
            now = start[r, at]
            f = p.code_f[code[r, at]]
            i = p.code_i[code[r, at]]
            go_r = go_at = -1
            ways = 0
            if f >= 0 and p.before[f] >= 0:
                b, k = p.before[f], nth_f[r, at]
                if end_f[b, k] + p.wait_f[f] >= now - tight:
                    ways += 1
                    go_r, go_at = p.rank[b], at_f[b, k]
            if i >= 0 and p.after[i] >= 0:
                a, k = p.after[i], nth_i[r, at]
                if end_i[a, k] + p.wait_i[i] >= now - tight:
                    ways += 1
                    if np.random.randint(ways) == 0:
                        go_r, go_at = p.rank[a], at_i[a, k]
            if at > 0 and start[r, at - 1] + p.took[code[r, at - 1]] >= now - tight:
                ways += 1
                link_rank[links] = r
                link_at[links] = at
                links += 1
                if np.random.randint(ways) == 0:
                    go_r, go_at = r, at - 1
            if ways == 0 or links == cells:
                break
            r, at = go_r, go_at
        if links == 0:
            continue
        pick = np.random.randint(links)
        r, at = link_rank[pick], link_at[pick]
        previous = code[r, at - 1]
        kind = np.random.random()
        source, target = at, at - 1
        if 2 * chunks <= previous < 3 * chunks and kind < 0.6:
            source, target = at - 1, at + np.random.randint(min(length[r] - at, 2 + p.microbatches))
        elif kind > 0.9:
            source, target = at - 1, min(length[r] - 1, at + np.random.randint(8))
        elif kind > 0.8:
            target = max(0, at - 1 - np.random.randint(8))
        if code[r, source] == code[r, target]:
            continue
        shift(code, r, source, target)
        slot = trial % _MEMORY
        value = worst + _FINE * mean
        keep = row_fits(p, code, length, r)
        if keep and run_rows(p, code, length, start_new, end_f_new, end_i_new):
            new_worst, new_mean, new_top = goal_of(p, code, length, start_new, spans)
            new = new_worst + _FINE * new_mean
            keep = new <= past[slot] or new <= value
            if keep:
                worst, mean, top, value = new_worst, new_mean, new_top, new
                start, start_new = start_new, start
                end_f, end_f_new = end_f_new, end_f
                end_i, end_i_new = end_i_new, end_i
                index_row(p, code, length, r, at_f, at_i, nth_f, nth_i)
                if worst < best_worst or (worst == best_worst and mean < best_mean):
                    best_worst, best_mean = worst, mean
                    best[:] = code
            past[slot] = value
        else:
            keep = False
        if not keep:
            shift(code, r, target, source)
    code[:] = best
    return best_worst
