"""Model FLOPs utilisation, in the conventions of DeepSeek's ISCA'25 paper (arXiv 2505.09343).

MFU is against the dense BF16 peak also where GEMMs run in FP8, so that runs compare. Non-causal
counts attention as the full square of the sequence; causal as its lower triangle only, the work
FlashAttention does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Utilisation:
    """Useful FLOP/s of each GPU (in TFLOP/s) and their share of the dense BF16 peak."""

    tflops_per_gpu: float
    tflops_per_gpu_causal: float
    mfu: float
    mfu_causal: float


def tflops_per_gpu(
    flops_per_token: float, tokens_per_step: float, step_time_s: float, gpus: int
) -> float:
    """Model TFLOP/s of each GPU; recomputation does not count as work."""
    return flops_per_token * tokens_per_step / step_time_s / gpus / 1e12


def utilisation(
    *,
    flops_per_token: float,
    flops_per_token_causal: float,
    tokens_per_step: float,
    step_time_s: float,
    gpus: int,
    peak_bf16_flops: float,
) -> Utilisation:
    """MFU in both conventions.

    Args:
        flops_per_token: training FLOPs a token (forward and backward), attention non-causal.
        flops_per_token_causal: the same with causal attention.
        tokens_per_step: tokens of the global batch.
        step_time_s: seconds of one optimizer step.
        gpus: GPUs of the job.
        peak_bf16_flops: dense BF16 peak of one GPU, FLOP/s.
    """
    full = tflops_per_gpu(flops_per_token, tokens_per_step, step_time_s, gpus)
    causal = tflops_per_gpu(flops_per_token_causal, tokens_per_step, step_time_s, gpus)
    peak = peak_bf16_flops / 1e12
    return Utilisation(full, causal, full / peak, causal / peak)
