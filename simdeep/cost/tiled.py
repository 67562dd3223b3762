"""Time of a GEMM of a library that picks its tile: the fastest of the candidates it has.

A tile of bm x bn results over k takes one SM a start, bm bn k multiply-adds, the loading of bm + bn
operands for each step of k, and the storing of its results. Tiles run in rounds over the SMs; k
may be split over several, whose parts are then summed. The operands come from HBM meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.cost.power import blend

if TYPE_CHECKING:
    from simdeep.cost.calibration import Provenance

F64 = npt.NDArray[np.float64]

_K_STEP = 64
_PARTIAL_BYTES = 8.0
"""A split's FP32 partial result, written and read."""


@dataclass(frozen=True, slots=True)
class TiledCurve:
    """A library's GEMM for one dtype and product; times in seconds at the highest clock.

    `tiles` and `splits` are those it picks from; `result_bytes` what an entry of the result moves,
    read ones included.

    `start_s` is a tile's start, `multiply_s` of one multiply-add of the tile, `load_s` of one
    operand of one step of k, `store_s` of one byte of its result. `split_s` is the summing kernel's
    launch. `bandwidth` is what all SMs together read and write (B/s), `sm_bandwidth` what one does
    when few run. `joules_per_flop` is at the highest clock.
    `fixed_share`: every CTA's tiles are set before the launch however many there are, so that a
    CTA that finds no SM free runs all of its tiles later. `lost_sms` and `tail_rounds`: see
    `held_rounds`.
    """

    dtype: str
    variant: str
    tiles: tuple[tuple[int, int], ...]
    splits: tuple[int, ...]
    result_bytes: float
    launch_s: float
    split_s: float
    start_s: float
    multiply_s: float
    load_s: float
    store_s: float
    bandwidth: float
    sm_bandwidth: float
    joules_per_flop: float
    fixed_share: bool
    provenance: Provenance
    lost_sms: float = 0.0
    tail_rounds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class TiledTime:
    """Seconds on the SMs at the highest clock, of HBM, and of launching; the tile and split."""

    sm_s: F64
    mem_s: F64
    launch_s: F64
    tile: npt.NDArray[np.int64]
    split: npt.NDArray[np.int64]


def tiled_time(
    curve: TiledCurve,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    *,
    moved: npt.ArrayLike,
    sms: int,
    free: int | None = None,
    groups: int = 1,
) -> TiledTime:
    """Parts of a GEMM's time, for sizes of any common shape.

    Args:
        curve: the library's.
        m: rows of the result, of all groups together.
        n: columns.
        k: contracted.
        moved: bytes of operands and results through HBM.
        sms: SMs that the kernel is launched for.
        free: SMs that it gets; the library picks its tile not knowing.
        groups: products of equal n and k that run as one.
    """
    rows, columns, depth, bytes_ = (
        np.asarray(v, float)[..., None] for v in np.broadcast_arrays(m, n, k, moved)
    )
    tile = np.array([(bm, bn) for bm, bn in curve.tiles for _ in curve.splits], float)
    split = np.array([s for _ in curve.tiles for s in curve.splits], float)
    bm, bn = tile.T
    count = np.ceil(rows / groups / bm) * groups * np.ceil(columns / bn) * split
    steps = np.ceil(depth / split / _K_STEP) * _K_STEP
    each = curve.start_s + bm * bn * curve.result_bytes * curve.store_s
    each = each + steps * (bm * bn * curve.multiply_s + (bm + bn) * curve.load_s)
    moving = bytes_ + np.where(split > 1, _PARTIAL_BYTES / 2 * split * rows * columns, 0.0)
    active = np.minimum(np.maximum(count, 1.0), sms)
    mem = moving * (1 / curve.bandwidth + 1 / (active * curve.sm_bandwidth))
    launch = curve.launch_s + np.where(split > 1, curve.split_s, 0.0)
    sm = np.ceil(count / sms) * each
    best = (launch + blend(sm, mem + 0 * sm)).argmin(-1)[..., None]

    def pick(values: F64) -> F64:
        whole = np.broadcast_to(values, sm.shape)
        return np.take_along_axis(whole, best, -1)[..., 0]

    if free is not None and free < sms:
        sm = held_rounds(curve, count, sms, free) * each
    at = best[..., 0]
    return TiledTime(pick(sm), pick(mem), pick(launch), tile[at].astype(int), split[at].astype(int))


FIXED_UP_TO = 2
"""Tiles a CTA up to which the libraries set each CTA's share before the launch."""


def held_rounds(curve: TiledCurve, count: F64, sms: int, free: int) -> F64:
    """Rounds of tiles when only `free` of the SMs a kernel was launched for are to be had.

    With shares fixed before the launch, the CTAs that find no SM run their whole share afterwards.
    Otherwise tiles go to CTAs as they come free: `lost_sms` find no partner for a cluster, and as a
    CTA takes its next tile ahead, the end is `tail_rounds` longer.
    """
    alone = np.ceil(count / sms)
    launched = np.minimum(count, sms)
    shares = alone * np.ceil(launched / free)
    taken = np.ceil(count / max(1.0, free - curve.lost_sms)) + curve.tail_rounds
    fixed = (alone <= FIXED_UP_TO) | curve.fixed_share
    return np.where(fixed, shares, taken)
