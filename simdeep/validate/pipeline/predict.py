"""Predicts a point: the engine runs its table with the calibration's times, drawn many times."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from simdeep.api import run_engine
from simdeep.program.schedule import Act, Spans
from simdeep.validate.pipeline.calibration import (
    END,
    RESTED,
    WAITED_S,
    Calibration,
)
from simdeep.validate.pipeline.measured import bubble_of, median_by_kind, spans_of
from simdeep.validate.pipeline.points import OWN, Point, Setup
from simdeep.validate.pipeline.program import Times, lower

DRAWS = 15
"""Steps simulated for a point, or a few more: as many for each turn of the calibration. Every
action takes another of its measured samples each time."""

_MOST_PASSES = 4
"""Who waits depends on how long actions take, and that on who has waited: so many passes until
both agree."""

Rested = frozenset[tuple[int, Act]]
"""Actions, with their ranks, before which the rank's core has slept."""


@dataclass(frozen=True)
class Predicted:
    """A point as the engine runs it; `spans` are those of the median draw, 0 being its start.

    Draws take the calibration's turns one after the other, of which there are `turns`; emulated
    ones draw from all of them together, and there is 1.
    """

    point: Point
    step_times_s: tuple[float, ...]
    turns: int
    bubble: float
    action_s: Mapping[str, float]
    spans: Spans = field(repr=False)

    @property
    def step_s(self) -> float:
        """Median over the draws."""
        return statistics.median(self.step_times_s)

    def of_turn(self, turn: int) -> float:
        """Median step of the draws that took this turn's samples."""
        return statistics.median(self.step_times_s[turn :: self.turns])


def predict(
    point: Point,
    calibration: Calibration,
    setup: Setup,
    *,
    draws: int | None = None,
    engine: str = "reference",
) -> Predicted:
    """Simulate a point's step `draws` times, with samples of one turn of the calibration each.

    Args:
        point: what to simulate.
        calibration: all that is known of the machine; nothing of it was measured on a pipeline.
        setup: how it would be run.
        draws: how many steps; `DRAWS` if left out.
        engine: `reference` or `compiled`.
    """
    steps, noted = [], []
    turns = 1 if setup.emulate else len(next(iter(calibration.stages.values())).disturbed)
    draws = draws or turns * -(-DRAWS // turns)
    for draw in range(draws):
        rested: Rested = frozenset()
        for _ in range(_MOST_PASSES):
            lowered = lower(point.table, _times(point, calibration, setup, draw, rested))
            timeline = run_engine(engine, lowered.priced)
            before, rested = rested, lowered.rested(timeline, WAITED_S)
            if rested == before or setup.emulate:
                break
        steps.append(timeline.makespan_ns / 1e9)
        noted.append(lowered.spans(timeline))
    spans = [spans_of(point.table, by_rank, 0.0) for by_rank in noted]
    order = sorted(range(draws), key=steps.__getitem__)
    return Predicted(
        point=point,
        step_times_s=tuple(steps),
        turns=min(turns, draws),
        bubble=statistics.median(map(bubble_of, spans)),
        action_s=median_by_kind([rank for by_rank in noted for rank in by_rank]),
        spans=spans[order[(draws - 1) // 2]],
    )


def _times(
    point: Point, calibration: Calibration, setup: Setup, draw: int, rested: Rested
) -> Times:
    random = np.random.default_rng([setup.seed, 0x51, draw])
    overheads = calibration.overheads
    runtime = overheads.runtimes[point.schedule]
    n = point.n_stages
    own = point.schedule == OWN
    messages = overheads.messages[not own]
    # Measured with the threads' own time in it, which the engine adds.
    threads = messages.sender_s + messages.receiver_s
    passing = [max(0.0, seconds - threads) for seconds in messages.passing_s]

    def sample(rank: int, stage: int, what: str) -> float:
        """All of a draw from the same turn, as a slow while is one of slow neighbours.

        Waits have no such memory: they are drawn from all samples, and so are these.
        """
        turns = calibration.stages[rank, stage, n].samples[what]
        turn = int(random.integers(len(turns))) if setup.emulate else draw % len(turns)
        return float(random.choice(turns[turn]))

    def action(rank: int, act: Act) -> float:
        # A wait covers what the runtime does inside the action; it only ends late.
        more = overheads.late_s if setup.emulate else runtime.inside_s.get(act.kind, 0.0)
        # A W comes after its I or another W.
        what = act.kind + RESTED if (rank, act) in rested and act.kind != "W" else act.kind
        return sample(rank, act.stage, what) + more

    parts = ("optimizer",) if own or setup.emulate else END
    ends = tuple(
        sum(sample(rank, stage, part) for stage in stages for part in parts)
        for rank, stages in enumerate(point.table.stages_of)
    )
    after = runtime.after_s
    return Times(
        action=action,
        between_s=runtime.between_s,
        passing_s=lambda: float(random.choice(passing)),
        sender_s=messages.sender_s,
        receiver_s=messages.receiver_s,
        send_s=messages.send_s,
        recv_s=messages.recv_s,
        start_s=runtime.before_s,
        copies=overheads.copies if own else {},
        end_s=tuple(after if setup.emulate else after + seconds for seconds in ends),
        idle_end_s=tuple(seconds + overheads.late_s if setup.emulate else 0.0 for seconds in ends),
        stand_ins=runtime.inside_s if setup.emulate else None,
        shared_cores=overheads.shared_cores,
    )
