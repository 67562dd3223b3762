"""From step time to GPU-hours, days and dollars. Pure arithmetic, floats in and out."""

from __future__ import annotations

from dataclasses import dataclass

TRILLION = 1e12


@dataclass(frozen=True, slots=True)
class RunCost:
    """What it takes to train on `tokens` tokens."""

    tokens: float
    steps: float
    gpu_hours: float
    days: float
    usd: float


def tokens_per_second(tokens_per_step: float, step_time_s: float) -> float:
    """Tokens the whole job takes in a second."""
    return tokens_per_step / step_time_s


def run_cost(
    *,
    step_time_s: float,
    tokens_per_step: float,
    gpus: int,
    usd_per_gpu_hour: float,
    tokens: float = TRILLION,
) -> RunCost:
    """Cost of a run at a constant step time, restarts and evaluation left out.

    Args:
        step_time_s: seconds of one optimizer step.
        tokens_per_step: tokens of the global batch.
        gpus: GPUs rented for the whole time.
        usd_per_gpu_hour: price of one GPU for an hour.
        tokens: tokens to train on (default one trillion).
    """
    steps = tokens / tokens_per_step
    seconds = steps * step_time_s
    gpu_hours = seconds * gpus / 3600
    return RunCost(
        tokens=tokens,
        steps=steps,
        gpu_hours=gpu_hours,
        days=seconds / 86400,
        usd=gpu_hours * usd_per_gpu_hour,
    )
