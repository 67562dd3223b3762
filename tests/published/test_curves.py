"""Curves find back what tables were made of; shipped calibrations say what they are made of."""

import numpy as np
import pytest

from simdeep.cost.calibration import load_calibration
from simdeep.published.curves import fit_attention, fit_gemm, nonnegative
from simdeep.published.kernels import DATA, SOURCES, calibration, fitted
from simdeep.spec.yamlio import load_document


def gemm_row(m, n, k, sms=100):
    waves = np.ceil(np.ceil(m / 128) * np.ceil(n / 128) / sms)
    return {"m": m, "n": n, "k": k, "latency_us": 3 + waves * (2 + 0.01 * k)}


def test_a_gemm_curve_is_found_back():
    rows = [gemm_row(m, n, k) for m in (512, 4096) for n in (1000, 9000) for k in (256, 4096)]
    (launch, prologue, per_k), errors = fit_gemm(rows, 100, (128, 128))
    assert (launch, prologue, per_k) == pytest.approx((3, 2, 0.01))
    assert abs(errors).max() < 1e-9


def test_an_attention_curve_is_found_back():
    rate, tail = 2e12, 150.0
    rows = []
    for tokens, heads in ((4096, 4), (4096, 64), (32768, 8)):
        a_row = tokens * (128 + 128)
        took = (tokens * heads * a_row / 100 + tail * a_row) / rate * 1e6
        size = {"m": tokens, "n": tokens, "k": 128, "groups": heads}
        rows.append({**size, "variant": "fwd", "latency_us": took})
    found_rate, found_tail, errors = fit_attention(rows, 100)
    assert (found_rate, found_tail) == pytest.approx((rate, tail))
    assert abs(errors).max() < 1e-9


def test_no_coefficient_below_zero():
    design = np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]])
    found = nonnegative(design)
    assert found.min() >= 0


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_shipped_calibrations_are_those_of_the_factors(source):
    made = calibration(source, fitted()[source.name])
    shipped = load_document(DATA / "calibration" / f"{source.name}.yaml").data
    assert shipped["gemm"] == made["gemm"]
    assert shipped["attention"] == made["attention"]
    assert shipped["memory"]["variants"] == made["memory"]["variants"]
    assert load_calibration(source.name).gpu == source.gpu
