"""What a request asks for: tokens, their spread, and how long the longest is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simdeep.serving.requests.lengths import TAIL
from simdeep.serving.windows import draw_lengths

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario

DRAWS = 50_000
"""Requests drawn to know their lengths."""


@dataclass(frozen=True)
class Demand:
    """Requests of a traffic.

    Attributes:
        input_tokens: mean prompt, cached part included.
        new_tokens: mean prompt tokens to compute.
        long_new_tokens: those of the prompt at the SLO's share (the 90th percentile of 0.9).
        prompt_scv: squared coefficient of variation of prompt tokens to compute.
        arrival_scv: that of the intervals between arrivals (1: Poisson).
        prompt_context: mean KV tokens that a prompt token attends to.
        output_tokens: mean answer.
        row_context: mean KV tokens that an output token attends to.
        longest: most tokens a request may have.
    """

    input_tokens: float
    new_tokens: float
    long_new_tokens: float
    prompt_scv: float
    arrival_scv: float
    prompt_context: float
    output_tokens: float
    row_context: float
    longest: int

    @property
    def tokens(self) -> float:
        """Input and output tokens of a request."""
        return self.input_tokens + self.output_tokens


def demand_of(scenario: ServeScenario, share: float) -> Demand:
    """The demand of a scenario's traffic; `share` of requests shall meet the SLO."""
    traffic = scenario.traffic
    assert traffic is not None
    rng = np.random.default_rng([scenario.simulate.seed, 11])
    inputs, outputs = (part.astype(float) for part in draw_lengths(scenario, DRAWS, rng))
    new = np.maximum(inputs * (1.0 - traffic.cached_share), 1.0)
    seen = inputs - new + (new + 1) / 2
    rest = np.maximum(outputs - 1, 0.0)
    context = inputs + (outputs + 1) / 2
    ends = [law.max or int(TAIL * law.mean) + 1 for law in (traffic.input, traffic.output)]
    return Demand(
        input_tokens=float(inputs.mean()),
        new_tokens=float(new.mean()),
        long_new_tokens=float(np.quantile(new, share)),
        prompt_scv=float(new.var() / new.mean() ** 2),
        arrival_scv=traffic.burstiness if traffic.arrival == "bursty" else 1.0,
        prompt_context=float((new * seen).sum() / new.sum()),
        output_tokens=float(outputs.mean()),
        row_context=float((rest * context).sum() / max(rest.sum(), 1e-9)) or float(context.mean()),
        longest=min(sum(ends), scenario.max_context),
    )
