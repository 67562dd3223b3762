from __future__ import annotations

import pytest

from simdeep.analysis.money import run_cost, tokens_per_second
from simdeep.analysis.utilisation import utilisation

# arXiv 2505.09343 (ISCA'25), table of training metrics: DeepSeek-V3 on 2,048 H800s.
STEP_S, GPUS = 19.926, 2048
TOKENS = 15360 * 4096


def test_published_training_metrics():
    assert tokens_per_second(TOKENS, STEP_S) * 86400 == pytest.approx(272.80e9, rel=1e-3)
    found = utilisation(
        flops_per_token=280.3e9,
        flops_per_token_causal=250e9,
        tokens_per_step=TOKENS,
        step_time_s=STEP_S,
        gpus=GPUS,
        peak_bf16_flops=989.5e12,
    )
    assert found.tflops_per_gpu == pytest.approx(432, rel=2e-3)
    assert found.tflops_per_gpu_causal == pytest.approx(385, rel=2e-3)
    assert found.mfu == pytest.approx(0.4373, rel=3e-3)
    assert found.mfu_causal == pytest.approx(0.3894, rel=3e-3)


def test_published_cost():
    """arXiv 2412.19437 section 1 and table 1: 180K GPU-hours, 3.7 days a trillion, $5.328M."""
    step_s = 180e3 * 3600 / GPUS / (1e12 / TOKENS)
    one = run_cost(step_time_s=step_s, tokens_per_step=TOKENS, gpus=GPUS, usd_per_gpu_hour=2.0)
    assert one.gpu_hours == pytest.approx(180e3)
    assert one.days == pytest.approx(3.7, rel=0.02)
    assert one.usd == pytest.approx(360e3)
    whole = run_cost(
        step_time_s=step_s, tokens_per_step=TOKENS, gpus=GPUS, usd_per_gpu_hour=2.0, tokens=14.8e12
    )
    assert whole.gpu_hours == pytest.approx(2664e3)
    assert whole.usd == pytest.approx(5.328e6)
    assert whole.steps == pytest.approx(14.8e12 / TOKENS)
