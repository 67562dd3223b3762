"""Curves through tables of kernel times: whole waves of GEMM tiles, attention with its tail."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def fit_gemm(rows: Sequence[Mapping[str, str]], sms: int, tile: tuple[int, int]) -> tuple[F64, F64]:
    """Launch, prologue and time per k (us) of whole waves of tiles; relative errors of the rows."""
    m, n, k, took = (
        np.array([float(row[c]) for row in rows]) for c in ("m", "n", "k", "latency_us")
    )
    waves = np.ceil(np.ceil(m / tile[0]) * np.ceil(n / tile[1]) / sms)
    design = np.stack([np.ones_like(took), waves, waves * k], axis=1) / took[:, None]
    found = nonnegative(design)
    return found, design @ found - 1.0


def fit_attention(rows: Sequence[Mapping[str, str]], sms: int) -> tuple[float, float, F64]:
    """FLOP/s of an SM, rows of the tail, relative errors; values are 128 wide in all tables."""
    tokens, span, dim, heads, took = (
        np.array([float(row[c]) for row in rows]) for c in ("m", "n", "k", "groups", "latency_us")
    )
    forward = rows[0]["variant"] == "fwd"
    a_pair = dim + 128 if forward else 3 * dim + 2 * 128
    a_row = span * a_pair
    design = np.stack([tokens * heads * a_row / sms, a_row], axis=1) / took[:, None]
    found = nonnegative(design)
    per_flop, tail = found
    return 1e6 / per_flop, tail / per_flop, design @ found - 1.0


def nonnegative(design: F64) -> F64:
    """Least squares for a right side of ones with no coefficient below 0: the best of all
    subsets of columns."""
    best, least = np.zeros(design.shape[1]), np.inf
    for size in range(1, design.shape[1] + 1):
        for columns in itertools.combinations(range(design.shape[1]), size):
            part = design[:, list(columns)]
            found = np.linalg.lstsq(part, np.ones(len(design)), rcond=None)[0]
            error = float(((part @ found - 1.0) ** 2).sum())
            if found.min() >= 0 and error < least:
                best, least = np.zeros(design.shape[1]), error
                best[list(columns)] = found
    return best
