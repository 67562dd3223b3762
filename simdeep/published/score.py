"""Errors of predictions: of each run, and of families and halves together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from simdeep.published.cases import Case, Half
from simdeep.published.predict import Prediction


@dataclass(frozen=True, slots=True)
class Scored:
    """A run with its prediction.

    `measured` and `predicted` are in `quantity`'s unit: seconds of an iteration, or a bubble rate.
    `error` is relative (predicted / measured - 1), for a bubble rate the difference; None where
    there is no prediction or nothing to compare with. `memory_error` is that of the peak.
    """

    case: Case
    prediction: Prediction
    quantity: str
    measured: float | None
    predicted: float | None
    error: float | None
    memory_error: float | None

    @property
    def reason(self) -> str | None:
        """Why there is no error."""
        if self.error is not None:
            return None
        return self.prediction.reason or "nothing measured that a step could be compared with"


@dataclass(frozen=True, slots=True)
class Score:
    """Errors of some runs together; None where there are none.

    `mape` is the mean size of relative errors, `bias` their mean, `worst` the largest size.
    `kendall` is the rank correlation (tau-b) of predicted and measured. `memory_mape` and
    `memory_bias` are of the `memory_n` peaks that were measured. For bubble rates errors are
    differences.
    """

    n: int
    mape: float | None
    bias: float | None
    worst: float | None
    kendall: float | None
    memory_n: int
    memory_mape: float | None
    memory_bias: float | None


def scored(case: Case, prediction: Prediction) -> Scored:
    """Compare one prediction with what was measured."""
    memory = None
    if case.measured_bytes is not None and prediction.peak_bytes is not None:
        memory = prediction.peak_bytes / case.measured_bytes - 1
    if case.is_rate:
        measured, predicted = case.measured["bubble_rate"][0], prediction.rate
        error = None if predicted is None else predicted - measured
        return Scored(case, prediction, "bubble_rate", measured, predicted, error, memory)
    known, found = case.measured_s, prediction.seconds
    error = None if known is None or found is None else found / known - 1
    return Scored(case, prediction, "iteration_s", known, found, error, memory)


def score(runs: Iterable[Scored]) -> Score:
    """The errors of some runs together."""
    items = list(runs)
    errors = [run.error for run in items if run.error is not None]
    pairs = [
        (run.measured, run.predicted)
        for run in items
        if run.measured is not None and run.predicted is not None
    ]
    memory = [run.memory_error for run in items if run.memory_error is not None]
    return Score(
        n=len(errors),
        mape=_mean([abs(e) for e in errors]),
        bias=_mean(errors),
        worst=max((abs(e) for e in errors), default=None),
        kendall=kendall(pairs),
        memory_n=len(memory),
        memory_mape=_mean([abs(e) for e in memory]),
        memory_bias=_mean(memory),
    )


def by_family(runs: Sequence[Scored], half: Half | None = None) -> dict[str, Score]:
    """The score of each family, in the order of the runs."""
    families = dict.fromkeys(run.case.family for run in runs)
    return {
        family: score(
            run for run in runs if run.case.family == family and half in (None, run.case.half)
        )
        for family in families
    }


def kendall(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's tau-b of (measured, predicted) pairs; None for fewer than two distinct values.

    (concordant - discordant) / sqrt(pairs untied in the one x pairs untied in the other).
    """
    agree = untied_x = untied_y = 0
    for index, (x, y) in enumerate(pairs):
        for other_x, other_y in pairs[:index]:
            dx, dy = x - other_x, y - other_y
            agree += (dx * dy > 0) - (dx * dy < 0)
            untied_x += dx != 0
            untied_y += dy != 0
    if not untied_x or not untied_y:
        return None
    return float(agree / (untied_x * untied_y) ** 0.5)


def median_kendall(families: Iterable[Score]) -> float | None:
    """Rank correlation of the median family."""
    found = [family.kendall for family in families if family.kendall is not None]
    return median(found) if found else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
