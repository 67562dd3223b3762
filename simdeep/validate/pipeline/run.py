"""Starts the ranks of all points and puts together what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simdeep.calibrate.workers import run_workers
from simdeep.program.schedule.actions import Kind
from simdeep.validate.pipeline.calibration import Part
from simdeep.validate.pipeline.measured import Measured, RankResult
from simdeep.validate.pipeline.points import Point, Setup
from simdeep.validate.pipeline.turns import Turns
from simdeep.validate.timing import Durations


@dataclass(frozen=True)
class Waits:
    """How long waits that stand for computing last, seconds.

    Of actions sample by sample, of the optimizer's step the median.
    """

    actions: Mapping[Part, Mapping[Kind, Sequence[float]]]
    optimizer_s: Mapping[Part, float]

    def of_rank(self, rank: int, n_stages: int) -> Durations:
        """Of the actions on a rank of a pipeline of so many stages."""
        return {
            (kind, stage): samples
            for (where, stage, n), kinds in self.actions.items()
            if (where, n) == (rank, n_stages)
            for kind, samples in kinds.items()
        }


def run_points(
    points: Sequence[Point], setup: Setup, waits: Waits | None, turns: Turns, timeout_s: float
) -> tuple[Measured, ...]:
    """Run points of equally many ranks in the same processes; `WorkerError` if one fails.

    `waits` stand for computing where they are given.
    """
    points = tuple(points)
    by_rank: list[list[RankResult]] = run_workers(
        _work,
        (setup, points, waits, turns),
        points[0].ranks,
        setup.backend,
        timeout_s,
        turns.stopped,
    )
    return tuple(
        _together(point, [results[i] for results in by_rank]) for i, point in enumerate(points)
    )


def _work(rank: int, n: int, *arguments: object) -> list[RankResult]:
    from simdeep.validate.pipeline.ranks import run_points as run_rank

    return run_rank(rank, n, *arguments)  # type: ignore[arg-type]


def _together(point: Point, results: Sequence[RankResult]) -> Measured:
    errors = [result.gradient_error for result in results if result.gradient_error is not None]
    wanted = results[0].wanted_loss
    loss = sum(result.loss for result in results)
    return Measured(
        point=point,
        steps=tuple(zip(*(result.steps for result in results), strict=True)),
        gradient_error=max(errors, default=None),
        loss_error=None if wanted is None else abs(loss - wanted) / abs(wanted),
    )
