"""The pipeline bubble under each of the names it goes by; they are different numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.analysis.attribution import Attribution


@dataclass(frozen=True, slots=True)
class Extremes:
    """Largest, smallest and mean over ranks."""

    max: float
    min: float
    mean: float

    @classmethod
    def of(cls, values: np.ndarray) -> Extremes:
        """Over an array with one value a rank; zeros if there are no ranks."""
        if not len(values):
            return cls(0.0, 0.0, 0.0)
        return cls(float(values.max()), float(values.min()), float(values.mean()))

    @classmethod
    def of_ns(cls, values: np.ndarray) -> Extremes:
        """The same in seconds, from nanoseconds."""
        return cls.of(np.asarray(values) / 1e9)


@dataclass(frozen=True, slots=True)
class BubbleMeasures:
    """The bubble by name, in seconds.

    Attributes:
        makespan_s: end of the last task of any rank.
        bubble_s: each rank's own bubble over the whole step [0, makespan].
        bubble_in_span_s: only what lies between a rank's first and last F, I or W; the measure in
            which zero-bubble schedules are usually quoted.
        longest_rank_span_s: the longest time from a rank's first F, I or W to its last.
        bubble_over_makespan: mean bubble over makespan, the share of GPU time lost.
        bubble_over_ideal: mean bubble over (makespan - mean bubble), as in Megatron's papers.
        closed_form_s: the published formula for this schedule, given by the caller; None if none.
    """

    makespan_s: float
    bubble_s: Extremes
    bubble_in_span_s: Extremes
    longest_rank_span_s: float
    bubble_over_makespan: float
    bubble_over_ideal: float
    closed_form_s: float | None = None


def bubble_measures(attribution: Attribution, closed_form_s: float | None = None) -> BubbleMeasures:
    """Bubble measures of an attributed timeline."""
    makespan = attribution.makespan_ns / 1e9
    bubble = Extremes.of_ns(attribution.bubble_ns)
    ideal = makespan - bubble.mean
    return BubbleMeasures(
        makespan_s=makespan,
        bubble_s=bubble,
        bubble_in_span_s=Extremes.of_ns(attribution.bubble_in_span_ns),
        longest_rank_span_s=float(attribution.span_ns.max(initial=0)) / 1e9,
        bubble_over_makespan=bubble.mean / makespan if makespan else 0.0,
        bubble_over_ideal=bubble.mean / ideal if ideal > 0 else 0.0,
        closed_form_s=closed_form_s,
    )
