"""GEMM curves from measured rows, and how far off they are on layers left out of the fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from simdeep.calibrate.rows import Row
from simdeep.calibrate.solve import solve_positive
from simdeep.cost.calibration import Provenance
from simdeep.cost.power import Parts, PowerModel, settled_clock
from simdeep.cost.tiled import TiledCurve, TiledTime, tiled_time

F64 = npt.NDArray[np.float64]

FOLDS = 6
"""Parts into which layers are dealt; each is predicted from the others."""

_COLUMNS = {
    8: (64, 128, 256),
    16: (64, 128, 256),
    48: (64, 128),
    64: (64, 128, 256),
    128: (96, 128, 176, 192, 256, 320),
    192: (192,),
}
CUBLAS_TILES = tuple((rows, columns) for columns in _COLUMNS for rows in _COLUMNS[columns])
"""Shapes among those in the names of cuBLAS's kernels for sm_90; each serves both ways round."""

CUBLAS_SPLITS = (1, 2, 3, 4, 6, 8)

_START = {
    "launch_s": 2.4e-6,
    "split_s": 2e-6,
    "start_s": 1e-6,
    "multiply_s": 2 / 4096 / 1.98e9 / 0.92,
    "load_s": 1e-12,
    "store_s": 1e-11,
    "bandwidth": 2.9e12,
    "sm_bandwidth": 1.2e11,
}

HEAVY_US = 100.0
"""Calls at least this long drew full power while their clock was read."""


@dataclass(frozen=True, slots=True)
class GemmSet:
    """Rows that one curve is fitted on: measured `dtype` and `variants`, and the curve's own name.

    `start` is the first guess, `speed` the rate of the tensor cores over the one it is made for.
    """

    dtype: str
    variants: tuple[str, ...]
    curve: tuple[str, str]
    tiles: tuple[tuple[int, int], ...]
    splits: tuple[int, ...]
    speed: float = 1.0
    grouped: bool = False
    fixed_share: bool = False
    result_bytes: float = 2.0
    start: Mapping[str, float] = field(default_factory=lambda: _START)


def both_ways(tiles: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Tiles and the same turned round."""
    return tuple(dict.fromkeys([*tiles, *((n, m) for m, n in tiles)]))


CUBLAS = both_ways(CUBLAS_TILES)
_BLOCK = ((128, 128),)
_CUTLASS = both_ways([(128, 256), (128, 128), (64, 128), (64, 256)])

HOPPER_SETS = (
    GemmSet("bf16", ("fwd",), ("bf16", "fwd"), CUBLAS, CUBLAS_SPLITS),
    GemmSet("bf16", ("dgrad",), ("bf16", "dgrad"), CUBLAS, CUBLAS_SPLITS),
    GemmSet("bf16", ("wgrad",), ("bf16", "wgrad"), CUBLAS, (1,), result_bytes=8.0),
    GemmSet("fp8_block", ("fwd", "dgrad"), ("fp8", "fwd"), _BLOCK, (1, 2, 4, 8), 2.0),
    GemmSet("fp8_block_wgrad", ("wgrad",), ("fp8", "wgrad"), _BLOCK, (1,), 2.0, result_bytes=4.0),
    GemmSet("fp8_row", ("fwd", "dgrad"), ("fp8_row", "fwd"), _BLOCK, (1,), 2.0),
    GemmSet("fp8_tensor", ("fwd",), ("fp8_tensor", "fwd"), CUBLAS, CUBLAS_SPLITS, 2.0),
    GemmSet("bf16", ("fwd",), ("bf16", "grouped_fwd"), _CUTLASS, (1,), 1.0, True, True),
    GemmSet("bf16", ("dgrad",), ("bf16", "grouped_dgrad"), _CUTLASS, (1,), 1.0, True, True),
    GemmSet("fp8_row", ("fwd",), ("fp8", "grouped_fwd"), _CUTLASS, (1,), 2.0, True, True),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Columns of some rows, as arrays."""

    m: F64
    n: F64
    k: F64
    bytes: F64
    flops: F64
    groups: int
    s: F64


def sizes_of(rows: Sequence[Row]) -> Sizes:
    """Columns of rows that are one product's in one dtype."""
    columns = {
        name: np.array([getattr(r, name) for r in rows], float)
        for name in ("m", "n", "k", "flops", "us")
    }
    columns["bytes"] = np.array([r.bytes or _operand_bytes(r) for r in rows])
    return Sizes(
        columns["m"],
        columns["n"],
        columns["k"],
        columns["bytes"],
        columns["flops"],
        rows[0].groups,
        columns["us"] * 1e-6,
    )


def _operand_bytes(row: Row) -> float:
    """Operands and result of a row that does not say its bytes, each once."""
    width = 2.0 if row.dtype == "bf16" else 1.0
    result = 2.0 if row.variant != "wgrad" else 8.0 if row.dtype == "bf16" else 4.0
    return width * (row.m + row.n) * row.k + result * row.m * row.n


def predict_rows(
    curve: TiledCurve,
    rows: Sequence[Row],
    power: PowerModel,
    gap_s: float,
    sms: int,
    free: int | None = None,
) -> F64:
    """Seconds of a call of each row, run again and again, the launch gap included.

    `free` are the SMs that others leave; all if left out.
    """
    found = np.empty(len(rows))
    for groups in sorted({r.groups for r in rows}):
        at = [i for i, r in enumerate(rows) if r.groups == groups]
        found[at] = _predict(curve, sizes_of([rows[i] for i in at]), power, gap_s, sms, free)
    return found


def _predict(
    curve: TiledCurve,
    sizes: Sizes,
    power: PowerModel,
    gap_s: float,
    sms: int,
    free: int | None,
) -> F64:
    parts = parts_of(
        _timed(curve, sizes, sms, free),
        sizes.flops,
        sizes.bytes,
        curve.joules_per_flop,
        power,
        gap_s,
    )
    single = Parts(*(getattr(parts, name)[:, None] for name in _PARTS))
    clock = settled_clock(single, power)
    seconds: F64 = single.busy_s(clock)[:, 0] + parts.fixed_s
    return seconds


_PARTS = ("sm_s", "mem_s", "fixed_s", "compute_j", "move_j")


def _timed(curve: TiledCurve, sizes: Sizes, sms: int, free: int | None) -> TiledTime:
    return tiled_time(
        curve,
        sizes.m,
        sizes.n,
        sizes.k,
        moved=sizes.bytes,
        sms=sms,
        free=free,
        groups=sizes.groups,
    )


def parts_of(
    time: TiledTime, flops: F64, moved: F64, joules_per_flop: float, power: PowerModel, gap_s: float
) -> Parts:
    """What pieces of work take, with the energy they need."""
    return Parts(
        time.sm_s,
        time.mem_s,
        time.launch_s + gap_s,
        flops * joules_per_flop,
        moved * power.joules_per_byte,
    )


def fit_curve(
    chosen: GemmSet,
    rows: Sequence[Row],
    power: PowerModel,
    gap_s: float,
    sms: int,
    rounds: int = 30,
) -> TiledCurve:
    """The curve of some rows, which are all of the set."""
    empty = Provenance("measured", "")
    values = dict(chosen.start)
    values["multiply_s"] /= chosen.speed
    names = [*values]
    energy = joules_per_flop(rows, power)
    if chosen.splits == (1,):
        names = [name for name in names if name != "split_s"]
        values["split_s"] = 0.0
    dtype, variant = chosen.curve
    base = TiledCurve(
        dtype,
        variant,
        chosen.tiles,
        chosen.splits,
        result_bytes=chosen.result_bytes,
        launch_s=0.0,
        split_s=0.0,
        start_s=0.0,
        multiply_s=0.0,
        load_s=0.0,
        store_s=0.0,
        bandwidth=1.0,
        sm_bandwidth=1.0,
        joules_per_flop=energy,
        fixed_share=chosen.fixed_share,
        provenance=empty,
    )
    measured = np.array([r.us for r in rows]) * 1e-6

    def curve_of(x: F64) -> TiledCurve:
        return replace(base, **dict(zip(names, x.tolist(), strict=True)))

    def predict(x: F64) -> F64:
        return predict_rows(curve_of(x), rows, power, gap_s, sms)

    first = np.array([values[name] for name in names])
    return curve_of(solve_positive(predict, measured, first, rounds=rounds))


def joules_per_flop(rows: Sequence[Row], power: PowerModel) -> float:
    """Energy of a FLOP at the highest clock, from the clocks that calls at the power limit ran at.

    Median of (power limit less idle) x time less what moving takes, over the clock's share of the
    highest to the exponent, less what being busy takes, over FLOPs; 0 where no row was held back.
    """
    highest = max((r.mhz for r in rows), default=0)
    found = [
        (
            ((power.limit_w - power.idle_w) * r.us * 1e-6 - r.bytes * power.joules_per_byte)
            / (r.mhz / highest) ** power.exponent
            - power.busy_w * r.us * 1e-6
        )
        / r.flops
        for r in rows
        if r.us >= HEAVY_US and 0 < r.mhz < HELD_BACK * highest
    ]
    return float(np.median(found)) if found else 0.0


HELD_BACK = 0.9
"""Rows whose clock is under this share of the highest were held back by the power limit."""


def rows_of(chosen: GemmSet, rows: Sequence[Row]) -> list[Row]:
    """The rows a set's curve is fitted on."""
    group = "grouped_gemm" if chosen.grouped else "gemm"
    return [
        r
        for r in rows
        if r.group == group and r.dtype == chosen.dtype and r.variant in chosen.variants
    ]


def folds_of(rows: Sequence[Row]) -> list[list[int]]:
    """Row numbers by fold: whole layers, dealt out in the order of their names."""
    names = sorted({r.name for r in rows})
    count = min(FOLDS, len(names))
    return [
        [i for i, r in enumerate(rows) if names.index(r.name) % count == fold]
        for fold in range(count)
    ]


def left_out_errors(
    rows: Sequence[Row],
    fit: Callable[[list[Row]], TiledCurve],
    power: PowerModel,
    gap_s: float,
    sms: int,
) -> F64:
    """Relative error of every row as predicted by a curve that never saw its layer."""
    errors = np.empty(len(rows))
    for fold in folds_of(rows):
        curve = fit([r for i, r in enumerate(rows) if i not in set(fold)])
        out = [rows[i] for i in fold]
        measured = np.array([r.us for r in out]) * 1e-6
        errors[fold] = predict_rows(curve, out, power, gap_s, sms) / measured - 1.0
    return errors
