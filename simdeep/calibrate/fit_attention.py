"""Attention cores from measured rows, by the sizes of a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.calibrate.attention import BF16, FP32
from simdeep.calibrate.fit_gemm import joules_per_flop
from simdeep.calibrate.rows import Row
from simdeep.calibrate.solve import solve_positive
from simdeep.cost.power import Parts, PowerModel, settled_clock

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CoreFit:
    """FLOP/s of an SM at the highest clock, keys computed under the mask, rows of queries that an
    SM ends with while others are done, seconds of a launch, joules a FLOP; errors relative, of each
    sequence length predicted from the others."""

    flops_per_sm: float
    masked_keys: float
    tail_rows: float
    launch_s: float
    joules_per_flop: float
    errors: F64


def core_rows(rows: Sequence[Row], variant: str, qk_dim: int, v_dim: int) -> list[Row]:
    """Rows of cuDNN's core, the one that takes every size."""
    return [
        r
        for r in rows
        if r.group == "attention"
        and r.name == "cudnn"
        and (r.variant, r.qk_dim, r.v_dim) == (variant, qk_dim, v_dim)
    ]


def around_s(row: Row, bandwidth: float) -> float:
    """Seconds of the kernels before and after a backward core, which the library runs with it."""
    if row.variant != "bwd":
        return 0.0
    queries = row.m * row.groups
    before = queries * (2 * row.v_dim * BF16 + 2 * FP32) + queries * row.qk_dim * FP32
    after = queries * row.qk_dim * (FP32 + BF16)
    return (before + after) / bandwidth


def core_times(
    x: F64, energy: float, rows: Sequence[Row], power: PowerModel, sms: int, around: float
) -> F64:
    """Seconds of each row, run again and again; `x`: rate of an SM, masked keys, tail rows,
    launch."""
    rate, masked, tail, launch = x
    flops = np.array([r.flops for r in rows])
    a_row = flops / np.array([r.m * r.groups for r in rows])
    length = np.array([r.n for r in rows], float)
    beside = np.array([around_s(r, around) for r in rows])
    parts = Parts(
        ((flops * (1 + 2 * masked / length) / sms + tail * a_row) / rate)[:, None],
        np.zeros((len(rows), 1)),
        np.full((len(rows), 1), launch) + beside[:, None],
        (flops * energy)[:, None],
        np.array([[r.bytes * power.joules_per_byte] for r in rows]),
    )
    clock = settled_clock(parts, power)
    seconds: F64 = parts.busy_s(clock)[:, 0] + parts.fixed_s[:, 0]
    return seconds


def fit_core(rows: Sequence[Row], power: PowerModel, sms: int, around: float) -> CoreFit:
    """Fit one variant and size of head; `around` is the bandwidth of the kernels beside it."""
    energy = joules_per_flop(rows, power)
    measured = np.array([r.us for r in rows]) * 1e-6
    start = np.array([6e12, 64.0, 128.0, 5e-6])

    def solve(chosen: list[int]) -> F64:
        some = [rows[i] for i in chosen]
        return solve_positive(
            lambda x: core_times(x, energy, some, power, sms, around), measured[chosen], start
        )

    everything = list(range(len(rows)))
    x = solve(everything)
    errors = np.empty(len(rows))
    for length in sorted({r.n for r in rows}):
        out = [i for i in everything if rows[i].n == length]
        other = solve([i for i in everything if rows[i].n != length])
        found = core_times(other, energy, [rows[i] for i in out], power, sms, around)
        errors[out] = found / measured[out] - 1
    return CoreFit(float(x[0]), float(x[1]), float(x[2]), float(x[3]), energy, errors)
