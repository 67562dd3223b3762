"""Time of a serving GEMM: tiles chosen as the kernels choose them, or the reading of its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from simdeep.program.workload.kernel import F
from simdeep.serving.kernels.curves import GemmCurve, SustainedGemm

TILE = 128
TILE_M = (64, 128)
TILE_N = (16, 32, 48, 64, 80, 96, 112, 128)
"""Output tiles that DeepGEMM chooses among; it takes those of the shortest waves."""

_TILES = np.array(list(product(TILE_M, TILE_N)), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class GemmShape:
    """`groups` products [m, n] = [m, k] x [k, n]; `m` rows each, one number or one for each draw.

    Sizes in bytes a value: `weight` as read from memory, `operand` as multiplied (it sets how fast
    an SM computes, with `speed` its rate over that of FP8), BF16 results.
    """

    m: F
    n: float
    k: float
    groups: int = 1
    weight: float = 1.0
    operand: float = 1.0
    speed: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class GemmTime:
    """Seconds of a GEMM: bound by its tiles or by its bytes, and its launch."""

    sm_s: F
    mem_s: F
    fixed_s: F

    @property
    def alone_s(self) -> F:
        """All of it."""
        return self.sm_s + self.mem_s + self.fixed_s


def gemm_seconds(shape: GemmShape, curve: GemmCurve, sms: int) -> GemmTime:
    """Time on `sms` SMs. Nothing to multiply takes no time."""
    m = np.asarray(shape.m, dtype=np.float64)
    busy = _tiles_s(shape, m, curve, sms)
    moved = shape.groups * (
        shape.n * shape.k * shape.weight + m * shape.k * shape.operand + 2.0 * m * shape.n
    )
    reading = moved / curve.bandwidth
    longer = np.maximum(busy, reading)
    ratio = np.minimum(busy, reading) / np.where(longer > 0, longer, 1.0)
    both = longer * (1.0 + ratio**curve.power) ** (1.0 / curve.power)
    some = m > 0
    by_tiles = some & (busy >= reading)
    return GemmTime(
        np.where(by_tiles, both, 0.0),
        np.where(some & ~by_tiles, both, 0.0),
        np.where(some, curve.launch_s, 0.0),
    )


def _tiles_s(shape: GemmShape, m: F, curve: GemmCurve, sms: int) -> F:
    """Waves of the best tiles, [draws]."""
    rows, columns = _TILES[:, 0], _TILES[:, 1]
    tiles = shape.groups * np.ceil(np.asarray(m)[..., None] / rows) * np.ceil(shape.n / columns)
    waves = np.ceil(tiles / sms)
    edge = curve.edge_s * (rows + columns) / (2 * TILE) * shape.operand
    area = curve.area_s * rows * columns / TILE**2 / shape.speed
    step = np.maximum(curve.latency_s, edge + area)
    found: F = (waves * (curve.prologue_s + shape.k * step)).min(axis=-1)
    return found


def sustained_seconds(
    shape: GemmShape, alone: GemmTime, curve: SustainedGemm, sms: int
) -> GemmTime:
    """`alone`, or what the GEMM takes in sustained operation if that is longer."""
    m = np.asarray(shape.m, dtype=np.float64)
    tiles = shape.groups * np.ceil(m / curve.tile) * np.ceil(shape.n / curve.tile)
    busy = np.ceil(tiles / sms) * (curve.prologue_s + shape.k * curve.per_k_s / shape.speed)
    longer = busy > alone.sm_s + alone.mem_s
    return GemmTime(
        np.where(longer, busy, alone.sm_s), np.where(longer, 0.0, alone.mem_s), alone.fixed_s
    )
