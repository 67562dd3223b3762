"""The per-token loops of routing, as plain functions that numba compiles on first use.

Kept in a file of their own: numba's on-disk cache is keyed by the source file, so an edit elsewhere
costs no compilation. Importing this module does not import numba.

Keys come in blocks of `BLOCK` tokens, [blocks, experts, BLOCK]: the innermost loops then run over
tokens that all take the same steps, which is what makes them vector instructions.
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

BLOCK = 32
"""Tokens of a block."""


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled; numba is imported here, at the first token routed."""
    from simdeep.jit import njit

    return njit(function)


def select_kernel(
    keys: F32, bits: I32, n_parts: int, kept_parts: int, top_m: int, odds: bool, out: I16
) -> None:
    """Write the experts of each token to `out` [tokens, topk], best first, ties to the lower index.

    `keys` [blocks, experts, BLOCK] rank experts and `bits` are the same bytes. The experts form
    `n_parts` parts in a row, and the `kept_parts` with the highest sums of their `top_m` best keys
    stay, each key taken as `key / (1 + key)` if they are `odds`. Where all parts stay they only
    serve to find a bound: the least of the kept parts' `top_m`-th keys is at most the last chosen
    key, as at least `topk` keys are no lower; only the few keys from there on are sorted.
    """
    n_experts = keys.shape[1]
    n_tokens, topk = out.shape
    n_words = (n_experts + 31) // 32
    lowest = np.float32(-np.inf)
    never = np.float32(np.inf)
    leaders = np.empty((top_m, BLOCK), np.float32)
    carry = np.empty(BLOCK, np.float32)
    floor = np.empty((n_parts, BLOCK), np.float32)
    score = np.empty((n_parts, BLOCK), np.float64)
    place = np.empty(BLOCK, np.int32)
    kept = np.ones((n_parts, BLOCK), np.bool_)
    bound = np.empty(BLOCK, np.float32)
    near = np.empty((n_words, BLOCK), np.int32)
    best = np.empty(topk, np.int64)
    # A power of two times this constant has the power in its upper five bits, permuted.
    bit_index = np.empty(32, np.int64)
    for i in range(32):
        bit_index[((0x077CB531 << i) & 0xFFFFFFFF) >> 27] = i
    for block in range(keys.shape[0]):
        cols = keys[block]
        for g in range(n_parts):
            leaders[:] = lowest
            for e in range(g * n_experts // n_parts, (g + 1) * n_experts // n_parts):
                for b in range(BLOCK):
                    key, old = cols[e, b], leaders[0, b]
                    leaders[0, b] = key if key > old else old
                    carry[b] = old if key > old else key
                for i in range(1, top_m):
                    for b in range(BLOCK):
                        key, old = carry[b], leaders[i, b]
                        leaders[i, b] = key if key > old else old
                        carry[b] = old if key > old else key
            for b in range(BLOCK):  # not by slices: numba takes 4 s more to compile those
                floor[g, b] = leaders[top_m - 1, b]
                score[g, b] = 0.0
            for i in range(top_m):
                for b in range(BLOCK):
                    term = np.float64(leaders[i, b])
                    score[g, b] += term / (1.0 + term) if odds else term
        if kept_parts < n_parts:
            for g in range(n_parts):
                place[:] = 0
                for other in range(n_parts):
                    for b in range(BLOCK):
                        place[b] += score[other, b] > score[g, b]
                for other in range(g):
                    for b in range(BLOCK):
                        place[b] += score[other, b] == score[g, b]
                for b in range(BLOCK):
                    kept[g, b] = place[b] < kept_parts
        bound[:] = never if kept_parts * top_m >= topk else lowest
        for g in range(n_parts):
            for b in range(BLOCK):
                value = floor[g, b] if kept[g, b] else never
                bound[b] = value if value < bound[b] else bound[b]
        near[:] = 0
        for g in range(n_parts):
            for b in range(BLOCK):
                floor[g, b] = bound[b] if kept[g, b] else never
            for e in range(g * n_experts // n_parts, (g + 1) * n_experts // n_parts):
                shift = e & 31
                for b in range(BLOCK):
                    near[e >> 5, b] |= np.int32(cols[e, b] >= floor[g, b]) << shift
        for b in range(min(BLOCK, n_tokens - block * BLOCK)):
            best[:] = np.iinfo(np.int64).min
            for word in range(n_words):
                left = np.int64(near[word, b]) & 0xFFFFFFFF
                while left:
                    bit = left & -left
                    left ^= bit
                    e = word * 32 + bit_index[((bit * 0x077CB531) & 0xFFFFFFFF) >> 27]
                    # A float's bits order as the float does once a negative one's are flipped.
                    order = bits[block, e, b]
                    order ^= (order >> 31) & 0x7FFFFFFF
                    new = (np.int64(order) << 16) + (0x7FFF - e)
                    for i in range(topk):
                        old_best = best[i]
                        best[i] = new if new > old_best else old_best
                        new = old_best if new > old_best else new
            for i in range(topk):
                out[block * BLOCK + b, i] = 0x7FFF - (best[i] & 0xFFFF)


def odds_kernel(bank: F32, start: I64, factor: F32, out: F32) -> None:
    """Write `factor` times the noise from `bank[start[block]]` on; `out` as keys are laid out."""
    for block in range(out.shape[0]):
        at = start[block]
        for e in range(factor.shape[0]):
            scale = factor[e]
            for b in range(BLOCK):
                out[block, e, b] = bank[at + e * BLOCK + b] * scale


def count_kernel(
    experts: I16,
    source: I32,
    slot_ptr: I32,
    slot_rank: I32,
    gpus_per_node: int,
    turn: I32,
    slot_tokens: I64,
    landed: I64,
    forwarded: I64,
) -> None:
    """Add what tokens cause to `slot_tokens` [slots], `landed` and `forwarded`.

    A token goes once to the GPU of its source's index on every node that holds one of its experts
    (`landed` [source, node], its own node included), and from there once to each GPU that does
    (`forwarded` [where it landed, index of the GPU in its node], its own GPU included). `turn`
    [experts] is the replica that the expert's next token takes.
    """
    n_ranks, n_nodes = landed.shape
    seen_rank = np.full(n_ranks, -1, np.int64)
    seen_node = np.full(n_nodes, -1, np.int64)
    for t in range(experts.shape[0]):
        src = source[t]
        src_index = src % gpus_per_node
        for k in range(experts.shape[1]):
            e = experts[t, k]
            slot = slot_ptr[e]
            replicas = slot_ptr[e + 1] - slot
            if replicas > 1:
                slot += turn[e]
                turn[e] = turn[e] + 1 if turn[e] + 1 < replicas else 0
            rank = slot_rank[slot]
            node = rank // gpus_per_node
            slot_tokens[slot] += 1
            landed[src, node] += seen_node[node] != t
            seen_node[node] = t
            forwarded[node * gpus_per_node + src_index, rank - node * gpus_per_node] += (
                seen_rank[rank] != t
            )
            seen_rank[rank] = t


def pairs_kernel(
    experts: I16, source: I32, slot_ptr: I32, slot_rank: I32, turn: I32, rows: I64, copies: I64
) -> None:
    """Add tokens to `rows` and `copies` [source, GPU]: by each expert, and once for each GPU."""
    seen_rank = np.full(rows.shape[1], -1, np.int64)
    for t in range(experts.shape[0]):
        for k in range(experts.shape[1]):
            e = experts[t, k]
            slot = slot_ptr[e]
            replicas = slot_ptr[e + 1] - slot
            if replicas > 1:
                slot += turn[e]
                turn[e] = turn[e] + 1 if turn[e] + 1 < replicas else 0
            rank = slot_rank[slot]
            rows[source[t], rank] += 1
            copies[source[t], rank] += seen_rank[rank] != t
            seen_rank[rank] = t
