"""Serving kernels: the curves against the measured rows, and scaled to other GPUs."""

import math

import numpy as np
import pytest

from simdeep.serving.kernels import (
    GemmShape,
    decode_attention,
    gemm_seconds,
    kernels_for,
    load_serving_kernels,
    prefill_attention,
    sustained_seconds,
)
from simdeep.serving.kernels.curves import FITTED
from simdeep.serving.kernels.fit import LAYOUTS, measured
from simdeep.spec.hardware import load_gpu
from simdeep.spec.yamlio import load_document

H800 = load_serving_kernels()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gemm_curves_meet_their_rows(layout):
    rows = measured(LAYOUTS[layout])
    error = [
        float(gemm_seconds(GemmShape(r.m, r.n, r.k, r.groups), H800.gemm[layout], 132).alone_s)
        / r.us
        * 1e6
        - 1
        for r in rows
    ]
    assert np.median(np.abs(error)) < 0.07
    stated = next(e for e in load_document(FITTED).data["gemm"] if e["layout"] == layout)
    assert stated["rows"] == len(rows)
    assert stated["median_error"] < 0.08


@pytest.mark.parametrize(
    ("shape", "us"),
    [
        # Forward GEMMs of h800_train_trace.csv on 112 SMs, means over four layers.
        (GemmShape(4096.0, 24576, 1536), 371.5),
        (GemmShape(4096.0, 7168, 16384), 900.8),
        (GemmShape(4096.0, 32768, 512), 244.2),
        (GemmShape(4096.0, 4096, 7168), 259.0),
        (GemmShape(4096.0, 7168, 2048), 138.0),
        (GemmShape(32512.0 / 4, 4096, 7168, 4), 1862.5),
        (GemmShape(32512.0 / 4, 7168, 2048, 4), 1035.2),
    ],
)
def test_gemms_of_prompts_last_as_in_a_running_model(shape, us):
    layout = "contiguous" if shape.groups > 1 else "dense"
    alone = gemm_seconds(shape, H800.gemm[layout], 112)
    found = sustained_seconds(shape, alone, H800.sustained, 112)
    assert float(found.alone_s) * 1e6 == pytest.approx(us, rel=0.08)
    assert float(alone.alone_s) < float(found.alone_s)


def test_gemms_of_few_rows_are_as_measured_alone():
    shape = GemmShape(64.0, 24576, 1536)
    alone = gemm_seconds(shape, H800.gemm["dense"], 132)
    found = sustained_seconds(shape, alone, H800.sustained, 132)
    assert float(found.alone_s) == float(alone.alone_s)


def test_decode_attention_meets_its_rows():
    rows = measured("generation_mla")
    error = [
        sum(decode_attention(r.batch, r.seq, 128, 576, 2.0, H800.decode, 132)) * 1e6 / r.us - 1
        for r in rows
    ]
    assert np.median(np.abs(error)) < 0.06
    long = [abs(e) for e, r in zip(error, rows, strict=True) if r.batch * r.seq > 100_000]
    assert max(long) < 0.15


def test_prompt_attention_meets_its_rows():
    for r in measured("context_mla"):
        busy, fixed = prefill_attention(r.seq, r.seq / 2, 128, 192, 128, H800.prefill, 132)
        assert (busy + fixed) * 1e6 == pytest.approx(r.us, rel=0.2)


def test_a_gemm_of_one_row_reads_its_weights():
    big = GemmShape(1.0, 65536, 8192)
    found = gemm_seconds(big, H800.gemm["dense"], 132)
    assert float(found.mem_s) > 0
    assert float(found.mem_s) == pytest.approx(65536 * 8192 / H800.stream_bw, rel=0.1)
    nothing = gemm_seconds(GemmShape(0.0, 128, 128), H800.gemm["dense"], 132)
    assert float(nothing.alone_s) == 0


def test_a_large_gemm_nears_the_peak_and_fewer_sms_slow_it():
    shape = GemmShape(16384.0, 16384, 16384)
    whole = float(gemm_seconds(shape, H800.gemm["dense"], 132).alone_s)
    assert 0.6 < 2 * 16384**3 / whole / H800.peak["fp8"] < 1
    part = float(gemm_seconds(shape, H800.gemm["dense"], 66).alone_s)
    assert part == pytest.approx(2 * whole, rel=0.1)


def test_bf16_is_twice_as_slow_where_tiles_decide():
    fp8 = GemmShape(16384.0, 8192, 8192)
    bf16 = GemmShape(16384.0, 8192, 8192, weight=2.0, operand=2.0, speed=0.5)
    times = [float(gemm_seconds(s, H800.gemm["dense"], 132).alone_s) for s in (fp8, bf16)]
    assert times[1] == pytest.approx(2 * times[0], rel=0.1)


def test_other_gpus_are_scaled_and_say_so():
    h200, b200 = (kernels_for(load_gpu(name)) for name in ("h200", "b200"))
    assert not H800.scaled
    assert h200.scaled
    assert "scaled to h200" in h200.sources["mla_decode"]
    assert h200.stream_bw / H800.stream_bw == pytest.approx(
        load_gpu("h200").hbm_bw / load_gpu("h800").hbm_bw
    )
    per_sm = (4500 / 148) / (1979 / 132)
    assert H800.gemm["dense"].area_s / b200.gemm["dense"].area_s == pytest.approx(per_sm)


def test_sequences_of_decode_attention_cost_what_flashmla_counts():
    """Five blocks of overhead a sequence: many short ones cost more than few long ones."""
    few = sum(decode_attention(64, 8192, 128, 576, 2.0, H800.decode, 132))
    many = sum(decode_attention(1024, 512, 128, 576, 2.0, H800.decode, 132))
    blocks = H800.decode.block_s / 66
    assert many - few == pytest.approx((1024 - 64) * 5 * blocks, rel=1e-6)
    assert math.isclose(sum(decode_attention(0, 8192, 128, 576, 2.0, H800.decode, 132)), 0.0)
