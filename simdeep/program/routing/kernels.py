"""The per-token loops of routing, as plain functions that numba compiles on first use.

Kept in a file of their own: numba's on-disk cache is keyed by the source file, so an edit elsewhere
costs no compilation. Importing this module does not import numba.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled; numba is imported here, at the first token routed."""
    from simdeep.jit import njit

    return njit(function)


def select_kernel(
    keys: F32, bits: I32, n_groups: int, topk_groups: int, top_m: int, odds: bool, out: I16
) -> None:
    """Write the experts of each token to `out` [tokens, topk], best first, ties to the lower index.

    `keys` [tokens, experts] rank experts and `bits` are the same bytes. A group scores the sum of
    its `top_m` best keys, each taken as `key / (1 + key)` if they are `odds`. Blocks' best keys
    bound the last chosen one from below; only the few keys above are sorted. Most comparisons here
    are unforeseeable, so they choose between values and not between branches.
    """
    n_experts = keys.shape[1]
    topk = out.shape[1]
    per_group = n_experts // n_groups
    limited = topk_groups < n_groups
    lowest = np.float32(-np.inf)
    group_score = np.empty(n_groups, np.float64)
    group_floor = np.empty(n_groups, np.float32)
    kept = np.ones(n_groups, np.bool_)
    leaders = np.empty(max(top_m, 2), np.float32)
    near_expert = np.empty(n_experts, np.int16)
    best = np.empty(topk, np.int64)
    for t in range(keys.shape[0]):
        row = keys[t]
        row_bits = bits[t]
        bound = np.float32(np.inf)
        if limited:
            for g in range(n_groups):
                leaders[:] = lowest
                if top_m <= 2:
                    one, two = lowest, lowest
                    for e in range(g * per_group, (g + 1) * per_group):
                        key = row[e]
                        loser = one if one < key else key
                        two = loser if loser > two else two
                        one = key if key > one else one
                    leaders[0], leaders[1] = one, two
                else:
                    for e in range(g * per_group, (g + 1) * per_group):
                        key = row[e]
                        if key > leaders[top_m - 1]:
                            at = top_m - 1
                            while at > 0 and key > leaders[at - 1]:
                                leaders[at] = leaders[at - 1]
                                at -= 1
                            leaders[at] = key
                score = 0.0
                for i in range(top_m):
                    value = np.float64(leaders[i])
                    score += value / (1.0 + value) if odds else value
                group_score[g] = score
                group_floor[g] = leaders[top_m - 1]
            kept[:] = False
            for _ in range(topk_groups):
                winner = -1
                for g in range(n_groups):
                    if not kept[g] and (winner < 0 or group_score[g] > group_score[winner]):
                        winner = g
                kept[winner] = True
                bound = min(bound, group_floor[winner])
            if topk_groups * top_m < topk:
                bound = lowest
        else:
            for block in range(topk):
                one = lowest
                for e in range(block * n_experts // topk, (block + 1) * n_experts // topk):
                    one = row[e] if row[e] > one else one
                bound = min(bound, one)
        near = np.uint64(0)  # unsigned: else each index is tested for a negative one
        for g in range(n_groups):
            if kept[g]:
                for e in range(g * per_group, (g + 1) * per_group):
                    near_expert[near] = e
                    near += np.uint64(1) if row[e] >= bound else np.uint64(0)
        best[:] = np.iinfo(np.int64).min
        for n in range(near):
            e = near_expert[n]
            # A float's bits order as the float does once those of negative ones are flipped.
            order = row_bits[e] ^ ((row_bits[e] >> 31) & 0x7FFFFFFF)
            new = (np.int64(order) << 16) + (0x7FFF - e)
            for i in range(topk):
                old = best[i]
                best[i] = new if new > old else old
                new = old if new > old else new
        for i in range(topk):
            out[t, i] = 0x7FFF - (best[i] & 0xFFFF)


def odds_kernel(bank: F32, start: I64, factor: F32, out: F32) -> None:
    """Write `factor` times the window `bank[start[t]:start[t] + experts]` to `out[t]`."""
    n_experts = factor.shape[0]
    for t in range(start.shape[0]):
        window = bank[start[t] : start[t] + n_experts]
        for e in range(n_experts):
            out[t, e] = window[e] * factor[e]


def count_kernel(
    experts: I16,
    source: I32,
    slot_ptr: I32,
    slot_rank: I32,
    gpus_per_node: int,
    slot_tokens: I64,
    copies: I64,
) -> None:
    """Add what tokens cause to `slot_tokens` [slots] and `copies` [6, ranks].

    Rows of `copies`: unique tokens received, IB copies out, IB in, NVLink copies out, NVLink in,
    and tokens that landed (or began) here and have experts on this node.
    A token goes once to the GPU of its source's index on every other node that holds one of its
    experts, and from where it landed (on its own node: from its source) to each GPU that does.
    """
    n_ranks = copies.shape[1]
    seen_rank = np.full(n_ranks, -1, np.int64)
    seen_node = np.full((n_ranks + gpus_per_node - 1) // gpus_per_node, -1, np.int64)
    for t in range(experts.shape[0]):
        src = source[t]
        src_node = src // gpus_per_node
        src_index = src - src_node * gpus_per_node
        for k in range(experts.shape[1]):
            e = experts[t, k]
            slot = slot_ptr[e]
            replicas = slot_ptr[e + 1] - slot
            if replicas > 1:  # replicas of an expert take the tokens in turn
                slot += t % replicas
            rank = slot_rank[slot]
            slot_tokens[slot] += 1
            if seen_rank[rank] == t:
                continue
            seen_rank[rank] = t
            node = rank // gpus_per_node
            landing = node * gpus_per_node + src_index
            copies[0, rank] += 1
            if seen_node[node] != t:
                seen_node[node] = t
                copies[5, landing] += 1
                if node != src_node:
                    copies[1, src] += 1
                    copies[2, landing] += 1
            if landing != rank:
                copies[3, landing] += 1
                copies[4, rank] += 1
