"""Measured times between which others are read off; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

import numpy as np


@dataclass(frozen=True, slots=True)
class ExpertTime:
    """Seconds one expert takes for so many rows, mean over a layer's, timed layer by layer."""

    rows: int
    f_s: tuple[float, ...]
    b_s: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """Seconds at some sizes; straight lines between them, the last one goes on.

    `jitter` are of each size the single measurements over their mean; empty where there is none.
    """

    sizes: tuple[float, ...]
    seconds: tuple[float, ...]
    jitter: tuple[tuple[float, ...], ...] = ()

    def at(self, size: float) -> float:
        """Seconds at a size; below the first size, the first's."""
        beyond = size - self.sizes[-1]
        if beyond > 0 and len(self.sizes) > 1:
            slope = (self.seconds[-1] - self.seconds[-2]) / (self.sizes[-1] - self.sizes[-2])
            return self.seconds[-1] + max(0.0, slope) * beyond
        return float(np.interp(size, self.sizes, self.seconds))

    def draw_jitter(self, size: float, random: np.random.Generator) -> float:
        """How much longer than at this size in the mean one measurement took: of the nearest."""
        if not self.jitter:
            return 1.0
        nearest = int(np.argmin(np.abs(np.array(self.sizes) - size)))
        return float(random.choice(self.jitter[nearest]))


def expert_curves(times: Sequence[ExpertTime]) -> tuple[Curve, Curve]:
    """Forward and backward of one expert against its rows."""
    rows = tuple(float(time.rows) for time in times)
    return _curve(rows, [t.f_s for t in times]), _curve(rows, [t.b_s for t in times])


def _curve(sizes: tuple[float, ...], samples: Sequence[Sequence[float]]) -> Curve:
    means = tuple(map(fmean, samples))
    both = zip(samples, means, strict=True)
    return Curve(sizes, means, tuple(tuple(s / mean for s in taken) for taken, mean in both))


def of_all_ranks(by_rank: Sequence[Sequence[ExpertTime]]) -> list[ExpertTime]:
    """Put together what ranks timed, which had the same numbers of rows."""
    return [
        ExpertTime(
            times[0].rows,
            tuple(chain.from_iterable(t.f_s for t in times)),
            tuple(chain.from_iterable(t.b_s for t in times)),
        )
        for times in zip(*by_rank, strict=True)
    ]


def transfer_curve(
    sent: Sequence[float], of_ranks: Sequence[Sequence[Sequence[tuple[float, float]]]]
) -> Curve:
    """All-to-alls with equal shares against the bytes a rank sends to others.

    `of_ranks` [ranks][sizes][repeats] are starts and ends; one lasts from the moment that its last
    rank starts until its last rank is done.
    """
    times = np.array(of_ranks)
    seconds = times[..., 1].max(axis=0) - times[..., 0].max(axis=0)
    return _curve(tuple(sent), seconds.tolist())
