"""The clock a GPU settles on: as high as its power limit lets the work at hand run.

Dynamic power of an SM grows with the clock and the square of the voltage, which follows the clock;
over the range a GPU uses, joules a FLOP go with a power of the clock (`exponent`). Moving bytes
takes the same energy at any clock of the SMs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

LOWEST_CLOCK = 0.3
"""Share of the highest clock under which no GPU is taken to fall."""

BLEND = 4.0
"""How far computing and moving hide each other: their times add as this power. Infinity would be
the larger of the two, 1 their sum."""

_HALVINGS = 24


@dataclass(frozen=True, slots=True)
class PowerModel:
    """Power limit and idle power (W), joules a byte, and the exponent of joules a FLOP.

    `busy_w` is drawn on top at the highest clock whenever a kernel computes, by whichever SMs wait
    too; it falls with the clock as joules a FLOP do.
    """

    limit_w: float
    idle_w: float
    joules_per_byte: float
    exponent: float
    busy_w: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What some pieces of work take, last axis the pieces: seconds on the SMs at the highest clock,
    seconds of HBM, seconds of launching, and joules of computing (at that clock) and moving."""

    sm_s: F64
    mem_s: F64
    fixed_s: F64
    compute_j: F64
    move_j: F64

    def busy_s(self, clock: F64 | float) -> F64:
        """Seconds of each piece but its launch, at a share of the highest clock."""
        compute = self.sm_s / np.asarray(clock)[..., None]
        return blend(compute, self.mem_s)


def blend(a: F64, b: F64) -> F64:
    """Time of two activities that hide each other almost wholly."""
    most = np.maximum(a, b)
    least = np.minimum(a, b)
    ratio = np.divide(least, most, out=np.zeros_like(most), where=most > 0)
    joined: F64 = most * (1.0 + ratio**BLEND) ** (1.0 / BLEND)
    return joined


def settled_clock(parts: Parts, power: PowerModel) -> F64:
    """Share of the highest clock at which the pieces, run in turn, draw the power limit on average.

    1 where they stay under the limit at the highest clock.
    """
    launch = parts.fixed_s.sum(-1)
    compute, move = parts.compute_j.sum(-1), parts.move_j.sum(-1)

    def over(clock: F64) -> npt.NDArray[np.bool_]:
        busy = parts.busy_s(clock)
        seconds = busy.sum(-1) + launch
        computing = np.where(parts.sm_s > 0, busy, 0.0).sum(-1)
        joules = (compute + power.busy_w * computing) * clock**power.exponent + move
        found: npt.NDArray[np.bool_] = joules > (power.limit_w - power.idle_w) * seconds
        return found

    low = np.full(launch.shape, LOWEST_CLOCK)
    high = np.ones(launch.shape)
    free = ~over(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = over(middle)
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return np.where(free, 1.0, low)
