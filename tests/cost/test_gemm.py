"""GEMM times against the trace's rows, and the properties any GEMM time must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.cost.calibration import Calibration, load_calibration
from simdeep.cost.fit.gemm import points, variant_of
from simdeep.cost.fit.rows import Row, compute_rows
from simdeep.cost.gemm import gemm_time, waves
from simdeep.cost.kernels import kernel_time
from simdeep.program.workload.kernel import Kernel
from simdeep.spec.hardware import Gpu, load_gpu

CALIBRATION = load_calibration("h800")
sizes = st.integers(1, 40_000)
dtypes = st.sampled_from(["fp8", "bf16"])
variants = st.sampled_from(["fwd", "dgrad", "wgrad"])


def gemm(
    m: float, n: float, k: float, dtype: str = "fp8", variant: str = "fwd", **more: float
) -> Kernel:
    return Kernel("x", "gemm", dtype, variant, m=m, n=n, k=k, flops=2.0 * m * n * k, **more)


def seconds(kernel: Kernel, sms: int = 112) -> float:
    curve = CALIBRATION.gemm_curve(kernel.dtype, kernel.variant)
    return float(gemm_time(kernel, curve, sms))


def test_every_gemm_row_of_the_trace(trace: list[Row], calibration: Calibration, h800: Gpu) -> None:
    errors = []
    for point in points(compute_rows(trace), dict(calibration.drag)):
        dtype = "bf16" if point.op.startswith("router_") else "fp8"
        curve = calibration.gemm_curve(dtype, point.variant)
        tile_s = curve.prologue_s + point.k * curve.per_k_s
        predicted = point.launches * curve.launch_s + point.waves * tile_s
        errors.append(abs(predicted / (point.us * 1e-6) - 1))
    rows = sum(bool(r.m) for r in trace)
    assert len(errors) == rows - 32 + 8  # a layer's experts are one point a weight gradient
    assert max(errors) < 0.10
    assert np.median(errors) < 0.04


def test_raw_rows_through_price_within_their_drag(
    trace: list[Row], calibration: Calibration, h800: Gpu
) -> None:
    """End to end, without the fit's own code: dense rows that run free of transfers."""
    errors = []
    for row in trace:
        if not row.m or row.under > 0.1 or row.op.endswith("_expert"):
            continue
        dtype = "bf16" if row.op.startswith("router_") else "fp8"
        kernel = gemm(row.m, row.n, row.k, dtype, variant_of(row.op))
        predicted = float(kernel_time(kernel, h800, calibration, 112))
        errors.append(abs(predicted / (row.dur * 1e-6) - 1))
    assert len(errors) > 40
    assert max(errors) < 0.10
    assert np.median(errors) < 0.04


def test_113_tiles_on_112_sms_take_two_waves() -> None:
    one, two = gemm(112 * 128, 128, 4096), gemm(113 * 128, 128, 4096)
    curve = CALIBRATION.gemm_curve("fp8", "fwd")
    assert waves(one, curve, 112) == 1
    assert waves(two, curve, 112) == 2
    assert seconds(two) / seconds(one) > 1.7
    assert seconds(gemm(224 * 128, 128, 4096)) == seconds(two)
    assert seconds(two, 113) == seconds(one, 113)


@given(sizes, sizes, sizes, st.integers(1, 4000), dtypes, variants)
def test_more_work_is_never_faster(
    m: int, n: int, k: int, more: int, dtype: str, variant: str
) -> None:
    base = seconds(gemm(m, n, k, dtype, variant))
    assert seconds(gemm(m + more, n, k, dtype, variant)) >= base
    assert seconds(gemm(m, n + more, k, dtype, variant)) >= base
    assert seconds(gemm(m, n, k + more, dtype, variant)) >= base


@given(sizes, sizes, sizes, st.integers(1, 200), st.integers(1, 64), dtypes, variants)
def test_more_sms_are_never_slower(
    m: int, n: int, k: int, sms: int, more: int, dtype: str, variant: str
) -> None:
    kernel = gemm(m, n, k, dtype, variant)
    assert seconds(kernel, sms + more) <= seconds(kernel, sms)


@given(sizes, sizes, sizes, dtypes, variants)
def test_never_above_peak(m: int, n: int, k: int, dtype: str, variant: str) -> None:
    gpu = load_gpu("h800")
    kernel = gemm(m, n, k, dtype, variant)
    assert kernel.flops / seconds(kernel, gpu.sms) < gpu.peak[dtype]


def test_arrays_are_priced_entry_by_entry() -> None:
    rows = np.array([28416.0, 31104.0, 36864.0, 0.0])
    curve = CALIBRATION.gemm_curve("fp8", "fwd")
    kernel = Kernel("x", "grouped_gemm", "fp8", "fwd", m=rows, n=4096, k=7168, groups=4)
    together = gemm_time(kernel, curve, 112)
    apart = [
        gemm_time(
            Kernel("x", "grouped_gemm", "fp8", "fwd", m=m, n=4096, k=7168, groups=4), curve, 112
        )
        for m in rows
    ]
    assert np.array_equal(together, apart)
    assert together[-1] == 0.0


def test_a_grouped_weight_gradient_is_one_gemm_a_group() -> None:
    curve = CALIBRATION.gemm_curve("fp8", "wgrad")
    alone = Kernel("x", "gemm", "fp8", "wgrad", m=7168, n=2048, k=8000)
    four = Kernel("x", "grouped_gemm", "fp8", "wgrad", m=7168, n=2048, k=8000, groups=4)
    assert gemm_time(four, curve, 112) == pytest.approx(4 * float(gemm_time(alone, curve, 112)))


def test_few_rows_are_bound_by_reading_the_weights(h800: Gpu, calibration: Calibration) -> None:
    """DeepGEMM on H800, 64 x 36864 x 7168: 100.142 us (alibaba/InferSim bench_data)."""
    kernel = gemm(64, 36864, 7168, bytes=36864 * 7168 + 64 * 7168 + 64 * 36864 * 2)
    found = float(kernel_time(kernel, h800, calibration, 132))
    assert found == pytest.approx(100.142e-6, rel=0.1)
