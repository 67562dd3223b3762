"""What running the points gave; knows nothing of torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from simdeep.program.schedule import Spans, Table, acts_of
from simdeep.validate.pipeline.points import Point
from simdeep.validate.timing import Span

GRADIENT_TOLERANCE = 1e-5
"""Largest error of a gradient, relative to its largest entry, that counts as equal in float32."""


@dataclass(frozen=True)
class RankStep:
    """One step of one rank: seconds of the machine's clock, the same for all ranks.

    `disturbed` is how much other work interfered with the rank where it did most, `pace_s` how long
    the fixed piece of work took on this one (see `calm`).
    """

    start: float
    end: float
    spans: tuple[Span, ...] = field(repr=False)
    disturbed: float = 0.0
    pace_s: float = 0.0


@dataclass(frozen=True)
class RankResult:
    """What one rank found of one point; errors are None where waits stood for computing."""

    steps: tuple[RankStep, ...]
    gradient_error: float | None
    loss: float
    wanted_loss: float | None


@dataclass(frozen=True)
class Measured:
    """A point as it ran, several times over."""

    point: Point
    steps: tuple[tuple[RankStep, ...], ...]
    """By turn, then by rank."""
    gradient_error: float | None
    loss_error: float | None

    def of_turns(self, turns: Sequence[int]) -> Measured:
        """What these turns alone gave."""
        return replace(self, steps=tuple(self.steps[i] for i in turns))

    @property
    def disturbed(self) -> tuple[float, ...]:
        """Of each turn, by other work; above 1: more than is let pass."""
        return tuple(max(rank.disturbed for rank in step) for step in self.steps)

    @property
    def calm(self) -> float:
        """Share of the turns that nobody disturbed."""
        return statistics.mean(share <= 1.0 for share in self.disturbed)

    @cached_property
    def step_times_s(self) -> tuple[float, ...]:
        """Of every turn: from the first rank's start to the last one's end."""
        return tuple(max(r.end for r in step) - min(r.start for r in step) for step in self.steps)

    @property
    def step_s(self) -> float:
        """Median step."""
        return statistics.median(self.step_times_s)

    @property
    def middle(self) -> tuple[RankStep, ...]:
        """The turn whose step is the median."""
        order = sorted(range(len(self.steps)), key=self.step_times_s.__getitem__)
        return self.steps[order[(len(order) - 1) // 2]]

    @cached_property
    def spans(self) -> Spans:
        """Of the median turn, time 0 being its start."""
        zero = min(rank.start for rank in self.middle)
        return spans_of(self.point.table, [rank.spans for rank in self.middle], zero)

    @cached_property
    def bubble(self) -> float:
        """Median over turns of the mean idle share of the ranks, from first F to last B."""
        return statistics.median(
            bubble_of(spans_of(self.point.table, [rank.spans for rank in step], 0.0))
            for step in self.steps
        )

    @property
    def action_s(self) -> dict[str, float]:
        """Median seconds of an action by kind."""
        return median_by_kind([rank.spans for step in self.steps for rank in step])


def spans_of(table: Table, by_rank: Sequence[Sequence[Span]], zero: float) -> Spans:
    """Spans of the table's cells, from those of its actions in the order they ran."""
    starts, ends = [], []
    for row, spans in zip(table.rows, by_rank, strict=True):
        left = iter(spans)
        cells = [[next(left) for _ in acts_of(cell)] for cell in row]
        for cell, ran in zip(row, cells, strict=True):
            if tuple(span.act for span in ran) != acts_of(cell):
                raise ValueError(f"{table.name} ran {ran[0].act} where its table has {cell}")
        starts.append(np.array([ran[0].start for ran in cells]) - zero)
        ends.append(np.array([ran[-1].end for ran in cells]) - zero)
    return Spans(table, tuple(starts), tuple(ends))


def bubble_of(spans: Spans) -> float:
    """Mean share of the time between the first start and the last end that ranks do not compute."""
    first = min(float(start[0]) for start in spans.start)
    whole = spans.makespan - first
    return float(1.0 - spans.busy.mean() / whole)


def median_by_kind(lists: Sequence[Sequence[Span]]) -> dict[str, float]:
    """Median seconds of the spans of each kind of action."""
    took: dict[str, list[float]] = {}
    for spans in lists:
        for span in spans:
            took.setdefault(span.act.kind, []).append(span.end - span.start)
    return {kind: statistics.median(times) for kind, times in sorted(took.items())}
