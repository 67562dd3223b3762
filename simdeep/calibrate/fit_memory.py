"""Memory-bound kernels from measured rows: launches x floor + bytes / bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.calibrate.rows import Row

F64 = npt.NDArray[np.float64]

SMALLEST_FLOOR_S = 1e-7
FASTEST = 2e13
"""Ceiling of a fitted bandwidth (B/s), for arrays that cost their launches only."""


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """Seconds a launch, bytes a second; errors relative, each size predicted from the others."""

    floor_s: float
    bandwidth: float
    errors: F64


def fit_memory(rows: Sequence[Row], launches: int, gap_s: float) -> MemoryFit:
    """Fit one class; `launches` are those of the kernel record, each with its launch gap."""
    seconds = np.array([r.us for r in rows]) * 1e-6 - launches * gap_s
    seconds = np.maximum(seconds, SMALLEST_FLOOR_S)
    moved = np.array([r.bytes for r in rows])
    floor, per_byte = _solve(seconds, moved)
    errors = np.empty(len(rows))
    for i in range(len(rows)):
        rest = np.arange(len(rows)) != i
        a, b = _solve(seconds[rest], moved[rest])
        errors[i] = (a + b * moved[i]) / seconds[i] - 1
    return MemoryFit(floor / launches, 1 / per_byte, errors)


def _solve(seconds: F64, moved: F64) -> tuple[float, float]:
    """Fixed seconds and seconds a byte: least squares of relative errors, neither negative."""
    terms = np.stack([np.ones_like(moved), moved], axis=1) / seconds[:, None]
    floor, per_byte = np.linalg.lstsq(terms, np.ones(len(seconds)), rcond=None)[0]
    if per_byte < 1 / FASTEST:
        return float(1 / np.mean(1 / seconds)), 1 / FASTEST
    if floor < SMALLEST_FLOOR_S:
        column = terms[:, 1]
        return SMALLEST_FLOOR_S, float(column.sum() / (column**2).sum())
    return float(floor), float(per_byte)
