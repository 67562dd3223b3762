"""Prediction beside measurement: errors of each point, and whether their order agrees."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simdeep.validate.pipeline.calibration import Calibration
from simdeep.validate.pipeline.measured import GRADIENT_TOLERANCE, Measured
from simdeep.validate.pipeline.points import Setup
from simdeep.validate.pipeline.predict import Predicted

DIFFERENT = 0.05
"""Share by which two measured step times must differ for their order to count."""


@dataclass(frozen=True)
class Pair:
    """A point, predicted and measured; `calibration` is all that the prediction is made of."""

    predicted: Predicted
    measured: Measured
    calibration: Calibration

    @property
    def error(self) -> float:
        """Of the predicted step time, relative to the measured one; positive if too long.

        The midmean over turns, each run against what was calibrated before and after it: a machine
        that is fast in some turns and slow in others is so for both. Emulated runs were not
        calibrated in turns; there it is that of the medians.
        """
        predicted, measured = self.predicted, self.measured
        if predicted.turns != len(measured.steps):
            return predicted.step_s / measured.step_s - 1.0
        times = enumerate(measured.step_times_s)
        return midmean(predicted.of_turn(turn) / took - 1.0 for turn, took in times)

    @property
    def predicted_step_s(self) -> float:
        """Step time predicted for the median run: the measured one, but for the error."""
        return self.measured.step_s * (1.0 + self.error)

    @property
    def gradients_equal(self) -> bool | None:
        """Whether gradients are those of the unpipelined run; None where waits stood for them."""
        error = self.measured.gradient_error
        return None if error is None else error <= GRADIENT_TOLERANCE


@dataclass(frozen=True)
class Comparison:
    """All points of a grid."""

    setup: Setup
    pairs: tuple[Pair, ...]

    @property
    def median_error(self) -> float:
        """Median size of the step times' errors."""
        return statistics.median(abs(pair.error) for pair in self.pairs)

    @property
    def worst_error(self) -> float:
        """Largest size of the step times' errors."""
        return max(abs(pair.error) for pair in self.pairs)

    @property
    def ordering(self) -> Ordering:
        """Whether the prediction orders the points as the measurement does."""
        return order(
            [pair.predicted_step_s for pair in self.pairs],
            [pair.measured.step_s for pair in self.pairs],
        )

    @property
    def gradients_equal(self) -> bool | None:
        """Whether those of all points are; None where waits stood for computing."""
        found = [pair.gradients_equal for pair in self.pairs]
        return None if None in found else all(found)


@dataclass(frozen=True, slots=True)
class Ordering:
    """Of `pairs` of points whose measured times differ by over `DIFFERENT`, so many are right."""

    right: int
    pairs: int

    @property
    def share(self) -> float:
        """Of the pairs; 1 where there is none."""
        return self.right / self.pairs if self.pairs else 1.0


def midmean(values: Iterable[float]) -> float:
    """Mean of the middle half: deaf to outliers as a median is, and steadier than one."""
    ordered = sorted(values)
    cut = len(ordered) // 4
    return statistics.fmean(ordered[cut : len(ordered) - cut])


def order(predicted: Sequence[float], measured: Sequence[float]) -> Ordering:
    """Compare the order of two lists of step times, seconds, pair by pair."""
    right = pairs = 0
    for i, j in itertools.combinations(range(len(measured)), 2):
        low, high = sorted((i, j), key=measured.__getitem__)
        if measured[high] > (1.0 + DIFFERENT) * measured[low]:
            pairs += 1
            right += predicted[high] > predicted[low]
    return Ordering(right, pairs)
