"""Auxiliary-loss-free load balancing: a bias that steers the gate (arXiv 2412.19437, 2.1.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.errors import InputError
from simdeep.program.routing.draws import as_popularity
from simdeep.program.routing.gate import GateSpec, check_gate, select_experts
from simdeep.program.routing.kernels import F64
from simdeep.program.routing.popularity import Popularity

SPEED = 0.001
"""DeepSeek-V3's bias update speed for its first 14.3T tokens (arXiv 2412.19437, section 4.2)."""


@dataclass(frozen=True, eq=False)
class BiasRun:
    """Some training steps of a gate under the bias update."""

    bias: F64
    """[experts] after the last step."""
    max_over_mean: F64
    """[steps] tokens of the busiest expert over those of the mean one."""


def updated_bias(bias: F64, expert_tokens: F64, speed: float = SPEED) -> F64:
    """The bias after a step: `speed` less for overloaded experts, `speed` more for underloaded.

    `expert_tokens` [experts] are the step's tokens of each expert. The bias is added to affinities
    for selection only, see `select_experts`.
    """
    return np.asarray(bias + speed * np.sign(expert_tokens.mean() - expert_tokens))


def balance(
    gate: GateSpec,
    skew: float | Popularity,
    steps: int,
    tokens: int,
    speed: float = SPEED,
    seed: int = 0,
) -> BiasRun:
    """Route `tokens` tokens for each of `steps` steps at one popularity, updating the bias.

    Logits are drawn as `Popularity` says, the noise anew for each step.
    """
    check_gate(gate)
    if steps < 1 or tokens < 1 or not speed >= 0:
        raise InputError(
            f"{steps} steps of {tokens} tokens at speed {speed}: steps and tokens must be at least "
            "1, speed at least 0"
        )
    popularity = as_popularity(skew)
    rng = np.random.default_rng(seed)
    offset = np.log(popularity.odds(gate.experts, rng)).astype(np.float32)
    bias = np.zeros(gate.experts)
    busiest = np.empty(steps)
    for step in range(steps):
        noise = np.log(popularity.noise(tokens * gate.experts, rng)).astype(np.float32)
        logits = noise.reshape(tokens, gate.experts) + offset
        chosen = select_experts(gate, logits, bias)
        load = np.bincount(chosen.ravel(), minlength=gate.experts).astype(np.float64)
        busiest[step] = load.max() / load.mean()
        bias = updated_bias(bias, load, speed)
    return BiasRun(bias, busiest)
