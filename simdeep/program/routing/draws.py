"""Tokens drawn from the gate with synthetic logits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, cast

import numpy as np

from simdeep.errors import InputError
from simdeep.program.routing.counts import Counts
from simdeep.program.routing.dispatches import Dispatches, from_counts
from simdeep.program.routing.gate import GateSpec, check_gate, select_blocks
from simdeep.program.routing.kernels import BLOCK, F32, I16, I32, compiled, odds_kernel
from simdeep.program.routing.loads import Loads, check_size
from simdeep.program.routing.placement import Placement
from simdeep.program.routing.popularity import Popularity, PopularityKind

MAX_TOKENS = 65_536
"""Tokens routed for a draw; more are scaled up from so many."""

_NOISE = 1 << 22
_CHUNK = 8 * BLOCK
"""Tokens routed at a time: their keys stay in a core's cache."""


def gate_loads(
    gate: GateSpec,
    placement: Placement,
    tokens_per_rank: int,
    skew: float | Popularity,
    draws: int,
    seed: int,
    max_tokens: int = MAX_TOKENS,
) -> Loads:
    """`gate_dispatches`, summed up by rank."""
    return gate_dispatches(gate, placement, tokens_per_rank, skew, draws, seed, max_tokens).loads()


def gate_dispatches(
    gate: GateSpec,
    placement: Placement,
    tokens_per_rank: int,
    skew: float | Popularity,
    draws: int,
    seed: int,
    max_tokens: int = MAX_TOKENS,
) -> Dispatches:
    """`draws` routing draws, each with its own popularity of experts; see `gate_tokens`.

    If the group sends more than `max_tokens`, an equal share of every rank's tokens is routed and
    counts are scaled up. That adds sampling noise: at 64 ranks of 4,096 tokens, of which a quarter
    are then routed, a rank's unique tokens spread by 1.1% in place of 0.55% at skew 0; at the
    default skew the 7.6% grow by less than 0.1%. Draws are shared out to the machine's cores and
    come out the same on any number of them.
    """
    popularity = as_popularity(skew)
    check_gate(gate)
    check_size(tokens_per_rank, draws)
    if placement.experts != gate.experts:
        raise InputError(f"{placement.experts} experts are placed, the gate has {gate.experts}")
    if max_tokens < 1:
        raise InputError(f"at most {max_tokens} tokens of a draw: must be at least 1")
    every = -(-tokens_per_rank * placement.ranks // max_tokens)
    sample = max(1, round(tokens_per_rank / every))

    def count(draw: int) -> Counts:
        counts = Counts(placement)
        for experts, source in _chunks(gate, placement.ranks, sample, popularity, seed, draw):
            counts.add(experts, source)
        return counts

    first = count(0)  # alone: what is compiled or drawn on first use then is so once
    with ThreadPoolExecutor(min(draws, os.cpu_count() or 1)) as pool:
        counts = [first, *pool.map(count, range(1, draws))]
    tokens = np.full((draws, placement.ranks), float(tokens_per_rank))
    return from_counts(counts, tokens, tokens_per_rank / sample)


def gate_tokens(
    gate: GateSpec, ranks: int, tokens_per_rank: int, skew: float | Popularity, seed: int, draw: int
) -> tuple[I16, I32]:
    """Experts [tokens, topk] and source rank [tokens] of every token of one draw, rank by rank.

    The logit of an expert is the log of its popularity in this draw plus noise for each token and
    expert (see `Popularity`). The noise of a block of 32 tokens is read at a random place of a bank
    of 4 million numbers. A draw depends on the seed and its number alone.
    """
    check_gate(gate)
    check_size(tokens_per_rank, 1)
    popularity = as_popularity(skew)
    parts = list(_chunks(gate, ranks, tokens_per_rank, popularity, seed, draw))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def as_popularity(skew: float | Popularity) -> Popularity:
    """A plain number is the standard deviation of the normal kind."""
    return skew if isinstance(skew, Popularity) else Popularity("normal", skew)


def _chunks(
    gate: GateSpec, ranks: int, tokens_per_rank: int, popularity: Popularity, seed: int, draw: int
) -> Iterator[tuple[I16, I32]]:
    """Tokens of a draw in order, some at a time: their experts and source ranks."""
    source = np.repeat(np.arange(ranks, dtype=np.int32), tokens_per_rank)
    for place, experts in enumerate(_experts(cast(Any, gate), len(source), popularity, seed, draw)):
        yield experts, source[place * _CHUNK : (place + 1) * _CHUNK]


# How a group is cut into ranks does not touch which experts its tokens take.
@lru_cache(maxsize=96)
def _experts(
    gate: GateSpec, tokens: int, popularity: Popularity, seed: int, draw: int
) -> tuple[I16, ...]:
    """Experts of a draw's tokens in order, `_CHUNK` at a time."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, draw)))
    bank = _noise_bank(seed, gate.experts, popularity.kind)
    factor = popularity.odds(gate.experts, rng).astype(np.float32)
    start = rng.integers(0, _NOISE, -(-tokens // BLOCK), dtype=np.int64)
    odds = np.empty((min(_CHUNK // BLOCK, len(start)), gate.experts, BLOCK), dtype=np.float32)
    found = []
    for first in range(0, tokens, _CHUNK):
        here = min(_CHUNK, tokens - first)
        blocks = odds[: -(-here // BLOCK)]
        at = first // BLOCK
        compiled(odds_kernel)(bank, start[at : at + len(blocks)], factor, blocks)
        chosen = select_blocks(gate, blocks, here, odds=gate.scoring == "sigmoid")
        chosen.flags.writeable = False
        found.append(chosen)
    return tuple(found)


@lru_cache(maxsize=2)
def _noise_bank(seed: int, experts: int, kind: PopularityKind) -> F32:
    """Exponentials of noise: any `BLOCK * experts` in a row are the noise of a block's logits.

    Taken in double precision and then rounded, so that they are the same on every machine.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, 1 << 32)))
    return Popularity(kind, 0.0).noise(_NOISE + BLOCK * experts, rng).astype(np.float32)
