"""What held SMs cost kernels whose tiles go to CTAs as they come free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from simdeep.calibrate.fit_gemm import predict_rows
from simdeep.calibrate.rows import Row
from simdeep.cost.power import PowerModel
from simdeep.cost.tiled import TiledCurve

LOST_SMS = (0.0, 4.0, 8.0, 12.0)
"""SMs that clusters of two CTAs may leave: one a GPC at most where an odd number is free; an H100
has eight GPCs."""

TAIL_ROUNDS = (0.0, 0.5, 1.0)

MOST_HELD = 48
"""Rows with more SMs held are left out: no communication takes so many."""

OF_DTYPE = {"fp8_block": "fp8"}
"""Curves that serve a measured dtype under another name."""


def held_groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one GEMM beside none and some held SMs, the library not told; the free one first."""
    sms = max(r.sms for r in rows)
    kept = [
        r
        for r in rows
        if r.group == "held"
        and r.k
        and not r.qk_dim
        and r.groups == 1
        and r.sms == sms
        and r.held <= MOST_HELD
        and not r.beside.startswith("copy")
    ]
    keys = dict.fromkeys((r.name, r.dtype, r.variant, r.m, r.n, r.k) for r in kept)
    groups = [
        [r for r in kept if (r.name, r.dtype, r.variant, r.m, r.n, r.k) == key] for key in keys
    ]
    return [sorted(group, key=lambda r: r.held) for group in groups]


def curve_for(row: Row, curves: Mapping[tuple[str, str], TiledCurve]) -> TiledCurve:
    """The curve of a measured row."""
    dtype = OF_DTYPE.get(row.dtype, row.dtype)
    return curves.get((dtype, row.variant)) or curves[dtype, "fwd"]


def held_misses(
    groups: Sequence[Sequence[Row]],
    curves: Mapping[tuple[str, str], TiledCurve],
    power: PowerModel,
    gap_s: float,
    lost: float,
    tail: float,
) -> list[float]:
    """Relative errors of the slow-down of each row by its held SMs."""
    misses = []
    for group in groups:
        curve = curve_for(group[0], curves)
        single = curve.dtype == "fp8_row"  # its kernels run without clusters
        curve = replace(curve, lost_sms=0.0 if single else lost, tail_rounds=tail)
        times = [
            float(predict_rows(curve, [row], power, gap_s, row.sms, row.sms - row.held)[0])
            for row in group
        ]
        misses += [
            times[i] / times[0] / (row.us / group[0].us) - 1.0 for i, row in enumerate(group) if i
        ]
    return misses


def fit_held(
    rows: Sequence[Row],
    curves: Mapping[tuple[str, str], TiledCurve],
    power: PowerModel,
    gap_s: float,
) -> tuple[float, float, list[float]]:
    """SMs lost and rounds added with the least mean error, and the errors."""
    groups = held_groups(rows)
    if not groups:
        return 0.0, 0.0, []
    tried = {
        (lost, tail): held_misses(groups, curves, power, gap_s, lost, tail)
        for lost in LOST_SMS
        for tail in TAIL_ROUNDS
    }
    best = min(tried, key=lambda key: float(np.mean(np.abs(tried[key]))))
    return (*best, tried[best])
