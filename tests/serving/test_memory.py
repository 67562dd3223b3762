"""Memory of units: published KV sizes, sums over GPUs, and what does not fit."""

import dataclasses as dc

import pytest

from simdeep.serving.deployment import Unit, units_of
from simdeep.serving.iteration import iteration_table
from simdeep.serving.memory import (
    WEIGHT_BYTES,
    DoesNotFitError,
    kv_bytes_per_token,
    memory_of,
    require_fit,
)
from simdeep.spec.model import load_model, params
from simdeep.spec.scenario import load_scenario
from simdeep.spec.topology import load_topology

H800 = load_topology("h800-2048")


def of(name: str, role: str) -> Unit:
    return units_of(load_scenario(name))[role]


@pytest.mark.parametrize(
    ("model", "size"),
    [("deepseek-v3", 70_272), ("llama-3.1-405b", 516_096), ("llama-3.1-70b", 327_680)],
)
def test_kv_bytes_of_a_token(model, size):
    # arXiv 2505.09343 table 1: 70.272 and 516.096 KB in BF16.
    assert kv_bytes_per_token(Unit("decode", load_model(model), H800)) == size


def test_kv_formats():
    v3 = Unit("decode", load_model("deepseek-v3"), H800, kv="fp8")
    assert kv_bytes_per_token(v3) == 61 * 656  # FlashMLA's FP8 layout
    llama = Unit("decode", load_model("llama-3.1-70b"), H800, tp=4, kv="fp8")
    assert kv_bytes_per_token(llama) == 327_680 / 2 / 4
    drafting = dc.replace(v3, kv="bf16", mtp_tokens=1)
    assert kv_bytes_per_token(drafting) == 62 * 576 * 2


@pytest.mark.parametrize(("dp", "ep", "redundant"), [(32, 32, 32), (64, 64, 0), (128, 64, 64)])
def test_experts_of_all_gpus_are_the_models(dp, ep, redundant):
    unit = Unit("prefill", load_model("deepseek-v3"), H800, dp=dp, ep=ep, redundant=redundant)
    memory = memory_of(unit)
    layers = [p for p in params(unit.model).per_layer if p.experts]
    one = sum(p.routed_per_expert for p in layers) * WEIGHT_BYTES["fp8"]
    routers = sum(p.router for p in layers) * 4.0
    assert memory.weights["experts"] * ep == pytest.approx(256 * one + ep * routers)
    assert memory.weights.get("redundant", 0.0) * ep == pytest.approx(redundant * one)


def test_one_gpu_holding_everything_holds_all_parameters():
    unit = Unit("prefill", load_model("deepseek-v3"), H800, weights="bf16")
    memory = memory_of(unit)
    # All in BF16 but the router, kept in FP32.
    routers = sum(p.router for p in params(unit.model).per_layer)
    assert memory.weights_total == pytest.approx(2 * params(unit.model).total + 2 * routers)


def test_every_gpu_of_ep320_holds_one_expert():
    memory = memory_of(of("dsv3-decode-ep320", "decode"))
    expert = 58 * 3 * 7168 * 2048 * WEIGHT_BYTES["fp8"]
    slots = sum(memory.weights.get(name, 0.0) for name in ("experts", "redundant", "shared"))
    routers = sum(p.router for p in params(load_model("deepseek-v3")).per_layer) * 4.0
    assert slots - routers == pytest.approx(expert)


def test_shipped_units_fit_with_room_for_their_batch():
    memory = memory_of(of("dsv3-decode-ep144", "decode"))
    assert memory.fits
    assert memory.used + memory.kv_bytes == pytest.approx(memory.capacity)
    assert memory.rows_that_fit(4989) == 128  # by max_rows, not by memory
    assert memory.rows_that_fit(100_000) == memory.kv_capacity_tokens // 100_000


def test_weights_that_do_not_fit_are_the_answer_no():
    unit = Unit("decode", load_model("deepseek-v3"), H800, dp=8, ep=8)
    with pytest.raises(DoesNotFitError, match=r"GiB a GPU, NVIDIA H800 SXM5 80GB has 79\.1 GiB"):
        require_fit(unit)
    with pytest.raises(DoesNotFitError):
        iteration_table(unit)
    assert DoesNotFitError.exit_code == 3
    assert memory_of(unit).kv_capacity_tokens == 0


def test_buffers_grow_with_the_rows_sent_at_once():
    few, many = (
        memory_of(dc.replace(of("dsv3-decode-ep144", "decode"), max_rows=rows))
        for rows in (64, 128)
    )
    assert many.buffers == pytest.approx(2 * few.buffers)
    # DeepEP's size hint: two buffers, sending and receiving, 288 slots x 128 tokens x 14,352 B.
    assert many.buffers == pytest.approx(2 * 2 * 288 * 128 * 14_352)
