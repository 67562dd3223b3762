"""Runs the measurements on single processes and puts a `Calibration` together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from simdeep.calibrate.workers import run_workers
from simdeep.validate.pipeline.calibration import (
    Calibration,
    Overheads,
    Part,
    RuntimeCosts,
    StageCosts,
)
from simdeep.validate.pipeline.comm import MessageTimes, message_times, reduce_time
from simdeep.validate.pipeline.points import OWN, Point, Setup
from simdeep.validate.pipeline.turns import Turns
from simdeep.validate.transformer.config import read_config

if TYPE_CHECKING:
    from simdeep.validate.pipeline.single import StageTries


def start_timing(
    points: Sequence[Point], setup: Setup, turns: Turns, pool: Executor, timeout_s: float
) -> list[Future[Any]]:
    """Start timing stages, in `turns`: each core times what the rank on it will hold.

    Each process is a run of its own: it is in no group with another, and exchanges nothing.
    """
    parts = _parts(points)
    if turns.singles == 1:  # cores are taken as alike: a stage is timed once for all ranks
        shares = [tuple({part[1:]: part for part in parts}.values())]
    else:
        shares = [tuple(p for p in parts if p[0] == core) for core in range(turns.singles)]
    return [
        pool.submit(
            run_workers, _time, (setup, share, turns, i), 1, "gloo", timeout_s, turns.stopped
        )
        for i, share in enumerate(shares)
    ]


def finish_timing(
    points: Sequence[Point], turns: Turns, timed: Sequence[Future[Any]], overheads: Overheads
) -> Calibration:
    """Put together what was measured."""
    tries: dict[Part, StageTries] = {}
    for future in timed:
        tries |= future.result()[0]
    if turns.singles == 1:
        by_stage = {part[1:]: found for part, found in tries.items()}
        tries = {part: by_stage[part[1:]] for part in _parts(points)}
    stages = {part: _costs(of_part) for part, of_part in tries.items()}
    return Calibration(stages, overheads, turns.singles)


def time_overheads(points: Sequence[Point], setup: Setup) -> Overheads:
    """Measure runtimes and messages, for points of equally many ranks."""
    ranks = points[0].ranks
    hidden = read_config(setup.model, setup.changes).model.hidden
    size = 4 * setup.sequences * setup.tokens * hidden
    copied = any(point.schedule == OWN for point in points)
    schedules = tuple(dict.fromkeys(point.schedule for point in points))
    runtimes: dict[str, RuntimeCosts] = run_workers(_time_runtimes, (setup, schedules), 1)[0]
    late: list[float] = run_workers(_waits, (), 1) if setup.emulate else [0.0]
    message = MessageTimes((0.0,), 0.0, 0.0)
    if ranks > 1:
        message = message_times(setup, size)
    return Overheads(
        runtimes=runtimes,
        message_bytes=size,
        messages_s=message.messages_s,
        send_s=message.send_s,
        recv_s=message.recv_s,
        reduce_s=reduce_time(setup, ranks) if copied else 0.0,
        late_s=late[0],
    )


def _parts(points: Sequence[Point]) -> list[Part]:
    """Every stage of every point, on the ranks that hold it."""
    held = (
        (rank, stage, point.n_stages)
        for point in points
        for rank, stages in enumerate(point.table.stages_of)
        for stage in stages
    )
    return list(dict.fromkeys(held))


def _costs(tries: StageTries) -> StageCosts:
    return StageCosts(
        samples={
            what: tuple(tuple(one.value[what]) for one in tries.turns)
            for what in tries.turns[0].value
        },
        disturbed=tuple(one.disturbed for one in tries.turns),
        pace_s=tuple(one.pace_s for one in tries.turns),
        saved_bytes=tries.saved_bytes,
        parameter_bytes=tries.parameter_bytes,
    )


def _time(
    rank: int, n: int, setup: Setup, parts: Sequence[Part], turns: Turns, number: int
) -> dict[Part, StageTries]:
    from simdeep.validate.pipeline.single import time_stages

    return time_stages(setup, parts, turns, number)


def _time_runtimes(
    rank: int, n: int, setup: Setup, schedules: Sequence[str]
) -> dict[str, RuntimeCosts]:
    from simdeep.validate.pipeline.single import time_runtime

    return {schedule: time_runtime(setup, schedule) for schedule in schedules}


def _waits(rank: int, n: int) -> float:
    from simdeep.validate.pipeline.single import time_waits

    return time_waits()
