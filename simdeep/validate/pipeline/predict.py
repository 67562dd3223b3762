"""Predicts a point: the engine runs its table with the calibration's times, drawn many times."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from simdeep.api import run_engine
from simdeep.program.schedule import Act, Spans
from simdeep.validate.pipeline.calibration import END, Calibration
from simdeep.validate.pipeline.measured import bubble_of, median_by_kind, spans_of
from simdeep.validate.pipeline.points import OWN, Point, Setup
from simdeep.validate.pipeline.program import Cost, Times, lower

DRAWS = 15
"""Steps simulated for a point, every action with another of its measured samples each time."""


@dataclass(frozen=True)
class Predicted:
    """A point as the engine runs it; `spans` are those of the median draw, 0 being its start."""

    point: Point
    step_times_s: tuple[float, ...]
    bubble: float
    action_s: Mapping[str, float]
    spans: Spans = field(repr=False)

    @property
    def step_s(self) -> float:
        """Median over the draws."""
        return statistics.median(self.step_times_s)


def predict(
    point: Point,
    calibration: Calibration,
    setup: Setup,
    draws: int = DRAWS,
    engine: str = "reference",
) -> Predicted:
    """Simulate a point's step `draws` times.

    Args:
        point: what to simulate.
        calibration: all that is known of the machine; nothing of it was measured on a pipeline.
        setup: how it would be run.
        draws: an odd number of steps.
        engine: `reference` or `compiled`.
    """
    steps, noted = [], []
    for draw in range(draws):
        lowered = lower(point.table, _times(point, calibration, setup, draw))
        timeline = run_engine(engine, lowered.priced)
        steps.append(timeline.makespan_ns / 1e9)
        noted.append(lowered.spans(timeline))
    spans = [spans_of(point.table, by_rank, 0.0) for by_rank in noted]
    order = sorted(range(draws), key=steps.__getitem__)
    return Predicted(
        point=point,
        step_times_s=tuple(steps),
        bubble=statistics.median(map(bubble_of, spans)),
        action_s=median_by_kind([rank for by_rank in noted for rank in by_rank]),
        spans=spans[order[(draws - 1) // 2]],
    )


def _times(point: Point, calibration: Calibration, setup: Setup, draw: int) -> Times:
    random = np.random.default_rng([setup.seed, 0x51, draw])
    runtime = calibration.runtimes[point.schedule]
    n = point.n_stages
    others = max(1, calibration.at_once - 1)

    moment = random.random()

    def cost(rank: int, stage: int, what: str) -> Cost:
        """A sample, split so that alone and beside the others it takes what was measured.

        All samples of a draw come from the same turn: a slow while is one of slow neighbours.
        """
        of_stage = calibration.stages[rank, stage, n]
        turns = of_stage.samples[what]
        beside = float(random.choice(turns[int(moment * len(turns))]))
        shared = beside * (1.0 - of_stage.alone_share(what)) / others
        return Cost(beside - shared * (1 + others), shared)

    def action(rank: int, act: Act) -> Cost:
        # A wait covers what the runtime does inside the action; it only ends late.
        more = calibration.late_s if setup.emulate else runtime.inside_s.get(act.kind, 0.0)
        return cost(rank, act.stage, act.kind) + Cost(more)

    own = point.schedule == OWN
    parts = ("optimizer",) if own or setup.emulate else END
    late = Cost(runtime.after_s + calibration.late_s)
    return Times(
        action=action,
        between_s=runtime.between_s,
        message_s=calibration.message_s,
        send_s=calibration.send_s,
        recv_s=calibration.recv_s,
        start_s=runtime.before_s,
        reduce_s=calibration.reduce_s if own else 0.0,
        end=tuple(
            sum((cost(rank, stage, part) for stage in stages for part in parts), late)
            for rank, stages in enumerate(point.table.stages_of)
        ),
    )
