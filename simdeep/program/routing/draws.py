"""Loads drawn from the gate with synthetic logits."""

from __future__ import annotations

import numpy as np

from simdeep.errors import InputError
from simdeep.program.routing.counts import Counts
from simdeep.program.routing.gate import GateSpec, check_gate, select_by_key
from simdeep.program.routing.kernels import F32, F64, compiled, odds_kernel
from simdeep.program.routing.loads import Loads, check_size
from simdeep.program.routing.placement import Placement

MAX_TOKENS = 49_152
"""Tokens routed for a draw; more are scaled up from so many."""

MAX_SKEW = 10.0
"""Largest skew: the exponentials of its logits still fit single precision."""

_NOISE = 1 << 22
_CHUNK = 2_048


def gate_loads(
    gate: GateSpec,
    placement: Placement,
    tokens_per_rank: int,
    skew: float,
    draws: int,
    seed: int,
    max_tokens: int = MAX_TOKENS,
) -> Loads:
    """Loads of `draws` routing draws, each with its own popularity of experts.

    The logit of expert e for a token is `skew * z_e + n`, z_e normal and drawn once a draw (so the
    experts' popularity is about log-normal), n normal for each token and expert, read at a random
    place of a bank of 4 million normal numbers. Draw i depends on the seed and on i alone.

    If the group sends more than `max_tokens`, an equal share of every rank's tokens is routed and
    counts are scaled up. That adds sampling noise: with 64 ranks of 4,096 tokens, a sixth of them
    routed, a rank's unique tokens spread by 1.3% in place of 0.55% at skew 0, and at the default
    skew by 7.7% in place of 7.6%.
    """
    check_gate(gate)
    if placement.experts != gate.experts:
        raise InputError(f"{placement.experts} experts are placed, the gate has {gate.experts}")
    check_size(tokens_per_rank, draws)
    if not 0 <= skew <= MAX_SKEW:
        raise InputError(f"routing skew {skew}: must be from 0 to {MAX_SKEW}")
    every = -(-tokens_per_rank * placement.ranks // max_tokens)
    sample = max(1, round(tokens_per_rank / every))
    scale = tokens_per_rank / sample
    bank = noise_bank(seed, gate.experts)
    counts = [route_draw(gate, placement, sample, skew, seed, i, bank) for i in range(draws)]
    copies: F64 = np.stack([c.copies for c in counts]).astype(np.float64) * scale
    expert_tokens: F64 = np.stack([c.expert_tokens() for c in counts]).astype(np.float64) * scale
    return Loads(
        tokens=np.full((draws, placement.ranks), float(tokens_per_rank)),
        rows=np.stack([c.rows(scale) for c in counts]),
        unique=copies[:, 0],
        ib_out_copies=copies[:, 1],
        ib_in_copies=copies[:, 2],
        nvl_out_copies=copies[:, 3],
        nvl_in_copies=copies[:, 4],
        nodes_per_token=np.array([c.nodes_per_token for c in counts]),
        gpus_per_token=np.array([c.gpus_per_token for c in counts]),
        expert_tokens=expert_tokens,
    )


def noise_bank(seed: int, experts: int) -> F32:
    """Exponentials of normal numbers: any `experts` in a row are the noise of a token's logits.

    Taken in double precision and then rounded, so that they are the same on every machine.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, 1 << 32)))
    noise = rng.standard_normal(_NOISE + experts)
    return np.exp(noise, out=noise).astype(np.float32)


def route_draw(
    gate: GateSpec,
    placement: Placement,
    tokens_per_rank: int,
    skew: float,
    seed: int,
    draw: int,
    bank: F32,
) -> Counts:
    """Route every token of one draw and count; see `gate_loads`."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, draw)))
    popularity = np.exp(skew * rng.standard_normal(gate.experts)).astype(np.float32)
    source = np.repeat(np.arange(placement.ranks, dtype=np.int32), tokens_per_rank)
    start = rng.integers(0, _NOISE, len(source), dtype=np.int64)
    odds = np.empty((min(_CHUNK, len(source)), gate.experts), dtype=np.float32)
    counts = Counts(placement)
    for first in range(0, len(source), _CHUNK):
        here = slice(first, first + _CHUNK)
        some = odds[: len(start[here])]
        compiled(odds_kernel)(bank, start[here], popularity, some)
        counts.add(select_by_key(gate, some, odds=gate.scoring == "sigmoid"), source[here])
    return counts
