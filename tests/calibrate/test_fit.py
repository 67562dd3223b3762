"""Fits recover what they are given, and the shipped file says what its rows say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import simdeep
from simdeep.calibrate.file import IDLE_W, busy_watts, errors_of, idle_watts
from simdeep.calibrate.fit_gemm import (
    HOPPER_SETS,
    GemmSet,
    fit_curve,
    folds_of,
    joules_per_flop,
    left_out_errors,
    predict_rows,
    rows_of,
)
from simdeep.calibrate.fit_held import fit_held
from simdeep.calibrate.fit_memory import fit_memory
from simdeep.calibrate.rows import Row, read_rows, write_rows
from simdeep.calibrate.solve import solve_positive
from simdeep.cost.calibration import Provenance, load_calibration
from simdeep.cost.power import PowerModel
from simdeep.cost.tiled import TiledCurve

MEASURED = Path(simdeep.__file__).parent / "data" / "calibration" / "measured"
FREE = PowerModel(1e9, 0.0, 0.0, 1.0)
TRUE = TiledCurve(
    "bf16",
    "fwd",
    ((128, 128),),
    (1,),
    result_bytes=2.0,
    launch_s=3e-6,
    split_s=0.0,
    start_s=1.5e-6,
    multiply_s=2.6e-13,
    load_s=1e-12,
    store_s=1e-11,
    bandwidth=2.8e12,
    sm_bandwidth=1.2e11,
    joules_per_flop=0.0,
    fixed_share=False,
    provenance=Provenance("measured", ""),
)


@pytest.fixture(scope="module", params=["h100", "h200"])
def gpu(request):
    """A GPU whose calibration and rows are shipped."""
    return request.param


@pytest.fixture(scope="module")
def rows(gpu):
    return read_rows(MEASURED / f"{gpu}.csv")


@pytest.fixture(scope="module")
def shipped(gpu):
    return load_calibration(gpu)


def device_rows(curve, power=FREE):
    """Rows of a device that follows the curve exactly."""
    made = [
        Row("gemm", f"l{n}x{k}", "bf16", "fwd", m, n, k, flops=2.0 * m * n * k, sms=132)
        for n, k in ((4096, 4096), (1536, 7168), (8192, 2048), (512, 512), (24576, 1536))
        for m in (1, 64, 256, 1024, 2048, 4096, 8192)
    ]
    made = [replace(r, bytes=2.0 * (r.m * r.k + r.n * r.k + r.m * r.n)) for r in made]
    seconds = predict_rows(curve, made, power, 1e-6, 132)
    return [replace(r, us=s * 1e6) for r, s in zip(made, seconds, strict=True)]


def test_fit_recovers_a_known_device():
    known = device_rows(TRUE)
    chosen = GemmSet("bf16", ("fwd",), ("bf16", "fwd"), TRUE.tiles, (1,))
    found = fit_curve(chosen, known, FREE, 1e-6, 132, rounds=60)
    assert found.multiply_s * 128 * 128 + found.load_s * 256 == pytest.approx(
        TRUE.multiply_s * 128 * 128 + TRUE.load_s * 256, rel=0.02
    )
    assert found.bandwidth == pytest.approx(TRUE.bandwidth, rel=0.05)
    other = [replace(r, m=r.m * 3 // 2 + 5) for r in known]
    assert predict_rows(found, other, FREE, 1e-6, 132) == pytest.approx(
        predict_rows(TRUE, other, FREE, 1e-6, 132), rel=0.06
    )


def test_energy_is_read_off_the_clock():
    """A device held back by its limit runs at the clock where power is the limit."""
    power = PowerModel(700.0, 100.0, 0.0, 1.0, 200.0)
    joules, highest = 1e-12, 2000
    made = []
    for flops, clock in ((4e11, 0.7), (1e12, 0.6), (1e9, 1.0)):
        seconds = joules * flops / (600.0 / clock - 200.0)
        made.append(
            Row("gemm", "x", "bf16", "fwd", flops=flops, us=seconds * 1e6, mhz=int(highest * clock))
        )
    assert joules_per_flop(made, power) == pytest.approx(joules, rel=1e-6)


def test_idle_power_is_the_rows_own():
    """As read where a row says it, an H100's where none does."""
    held = Row("held", "x", "bf16", "fwd", flops=1e12, us=1e3, mhz=1980, watts=500)
    held = [held, replace(held, held=68, us=2e3, watts=400)]
    assert idle_watts(held) == IDLE_W
    idle = Row("idle", "nothing", "", "", us=1e6, mhz=1980, watts=90)
    assert idle_watts([*held, idle]) == 90.0
    assert busy_watts([*held, idle]) == pytest.approx(300 - 90)


def test_memory_fit_recovers_floor_and_bandwidth():
    sizes = [1e5, 1e6, 1e7, 1e8, 1e9]
    made = [Row("memory", "x", "", "", bytes=b, us=1.0 + 3 * 2.0 + b / 2e6) for b in sizes]
    found = fit_memory(made, 3, 1e-6 / 3)
    assert found.floor_s == pytest.approx(2e-6, rel=1e-6)
    assert found.bandwidth == pytest.approx(2e12, rel=1e-6)
    assert np.abs(found.errors).max() < 1e-6


def test_solver_finds_positive_parameters():
    x = np.linspace(1, 20, 30)
    found = solve_positive(
        lambda p: p[0] + p[1] * x, 3.0 + 0.5 * x, np.array([1.0, 1.0]), prior=0.0
    )
    assert found == pytest.approx([3.0, 0.5], rel=1e-3)


def test_rows_read_back(tmp_path, rows):
    path = tmp_path / "rows.csv"
    write_rows(rows[:40], path)
    assert read_rows(path) == rows[:40]


def test_folds_keep_layers_together(rows):
    mine = rows_of(HOPPER_SETS[0], rows)
    for fold in folds_of(mine):
        inside = {mine[i].name for i in fold}
        assert not inside & {r.name for i, r in enumerate(mine) if i not in set(fold)}


def test_power_of_the_shipped_rows(rows, shipped):
    assert shipped.power.idle_w == idle_watts(rows)
    assert shipped.power.busy_w == pytest.approx(busy_watts(rows), rel=1e-3)


def test_what_gemms_stream_goes_with_hbm(shipped):
    """Borrowed from the reference, by the ratio of the datasheets."""
    reference = load_calibration("h800")
    ratio = shipped.hbm_bw / reference.hbm_bw
    assert shipped.gemm_stream_bw == pytest.approx(reference.gemm_stream_bw * ratio, rel=1e-3)


@pytest.mark.parametrize("number", [3, 4, 8])
def test_shipped_errors_are_those_of_the_shipped_rows(number, rows, shipped):
    chosen = HOPPER_SETS[number]
    power, gap = shipped.power, shipped.launch_gap_s
    mine = rows_of(chosen, rows)
    errors = left_out_errors(
        mine, lambda some: fit_curve(chosen, some, power, gap, 132), power, gap, 132
    )
    said = shipped.tiled[chosen.curve].provenance
    found = errors_of(errors)
    assert found["median_error"] == pytest.approx(said.median_error, rel=0.02, abs=1e-3)
    assert found["p90_error"] == pytest.approx(said.p90_error, rel=0.02, abs=1e-3)
    assert said.rows == len(mine)


@pytest.mark.parametrize("dtype", ["bf16", "fp8", "fp8_row", "fp8_tensor"])
def test_left_out_gemms_hold(dtype, shipped):
    """Median under 6%, 90th percentile under 15%, from M of 1 to 16,384."""
    curves = [c for (d, v), c in shipped.tiled.items() if d == dtype and "grouped" not in v]
    assert curves
    for curve in curves:
        assert curve.provenance.median_error < 0.06
        assert curve.provenance.p90_error < 0.15


def test_shipped_rows_span_the_sizes(rows):
    for dtype in ("bf16", "fp8_row"):
        sizes = [r.m for r in rows if r.group == "gemm" and r.dtype == dtype]
        assert (min(sizes), max(s for s in sizes if s <= 16384)) == (1, 16384)


def test_held_sms_of_the_shipped_rows(rows, shipped):
    lost, tail, misses = fit_held(rows, shipped.tiled, shipped.power, shipped.launch_gap_s)
    curve = shipped.tiled["bf16", "fwd"]
    assert (lost, tail) == (curve.lost_sms, curve.tail_rounds)
    assert float(np.median(np.abs(misses))) < 0.10
