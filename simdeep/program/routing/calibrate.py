"""Finds how skewed experts' popularity must be for loads to spread as measured.

`python -m simdeep.program.routing.calibrate` finds the shipped default anew from the H800 record
(two minutes).
"""

from __future__ import annotations

import numpy as np

from simdeep.errors import InputError
from simdeep.program.routing.draws import gate_loads
from simdeep.program.routing.gate import Gate, GateSpec
from simdeep.program.routing.placement import contiguous
from simdeep.program.routing.recorded import DIRECTIONS, TRACE, Record, load_record
from simdeep.program.routing.stats import unique_cv


def recorded_cv(record: Record) -> float:
    """Sample standard deviation over mean of the record's unique tokens, layers and directions."""
    values = np.array([n for d in DIRECTIONS for n in record.unique[d]], dtype=np.float64)
    return float(values.std(ddof=1) / values.mean())


def skew_for_cv(
    gate: GateSpec,
    ep: int,
    gpus_per_node: int,
    cv: float,
    *,
    tokens_per_rank: int = 4_096,
    draws: int = 24,
    seed: int = 0,
    max_tokens: int | None = None,
) -> float:
    """The skew at which unique tokens a rank receives vary by `cv` (standard deviation over mean).

    Root finding on `unique_cv` of the same draws at every skew, by the secant rule on squares: the
    spread's square is the sampling noise's plus about the skew's times a constant. All tokens are
    routed unless `max_tokens` is given, so that sampling adds nothing; the value is good to about
    2% at 64 ranks and 24 draws (compare seeds).
    """
    placement = contiguous(gate.experts, ep, gpus_per_node)
    limit = max_tokens or tokens_per_rank * ep

    def squared_cv(squared_skew: float) -> float:
        skew = float(np.sqrt(squared_skew))
        return (
            unique_cv(gate_loads(gate, placement, tokens_per_rank, skew, draws, seed, limit)) ** 2
        )

    low, at_low = 0.0, squared_cv(0.0)
    if not cv**2 > at_low:
        raise InputError(
            f"a coefficient of variation of {cv}: even routing varies by {at_low**0.5:.4g} already"
        )
    high, at_high = cv**2, squared_cv(cv**2)
    for _ in range(20):
        if abs(at_high - cv**2) < 2e-3 * cv**2:
            return float(np.sqrt(high))
        slope = (at_high - at_low) / (high - low)
        step = (cv**2 - at_high) / slope if slope > 0 else high
        low, at_low = high, at_high
        high = max(high / 4, min(high * 4, high + step))
        at_high = squared_cv(high)
    raise InputError(f"no skew gives a coefficient of variation of {cv} in {ep} ranks")


def main() -> None:
    """Print the skew of the shipped record, and how it moves with the seed."""
    record = load_record(TRACE)
    made = record.setting
    # DeepSeek-V3's gate limits a token to 4 of 8 groups (arXiv 2412.19437, section 4.2).
    gate = Gate(made["experts"], made["topk"], n_groups=8, topk_groups=4)
    cv = recorded_cv(record)
    values = [
        skew_for_cv(
            gate,
            made["ep"],
            made["gpus_per_node"],
            cv,
            tokens_per_rank=made["tokens_per_rank"],
            seed=seed,
        )
        for seed in range(4)
    ]
    shown = ", ".join(f"{v:.4f}" for v in values)
    print(f"cv {cv:.4f}: skew {np.mean(values):.4f} (seeds 0 to 3: {shown})")


if __name__ == "__main__":
    main()
