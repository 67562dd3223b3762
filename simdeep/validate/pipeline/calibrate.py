"""Runs the measurements on single processes and puts a `Calibration` together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from simdeep.calibrate.workers import run_workers
from simdeep.validate.pipeline.calibration import (
    Calibration,
    Part,
    RuntimeCosts,
    StageCosts,
    Turnwise,
)
from simdeep.validate.pipeline.calm import Try, disturbances
from simdeep.validate.pipeline.comm import message_time, open_times, reduce_time
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
        pool.submit(run_workers, _time, (setup, share, turns, i), 1, "gloo", timeout_s)
        for i, share in enumerate(shares)
    ]


def finish_timing(
    points: Sequence[Point], setup: Setup, turns: Turns, timed: Sequence[Future[Any]]
) -> Calibration:
    """Measure the runtimes and messages too, and put all together."""
    ranks = points[0].ranks
    tries: dict[Part, StageTries] = {}
    for future in timed:
        tries |= future.result()[0]
    hidden = read_config(setup.model, setup.changes).model.hidden
    size = 4 * setup.sequences * setup.tokens * hidden
    if turns.singles == 1:
        by_stage = {part[1:]: found for part, found in tries.items()}
        tries = {part: by_stage[part[1:]] for part in _parts(points)}
    copied = any(point.schedule == OWN for point in points)
    schedules = tuple(dict.fromkeys(point.schedule for point in points))
    runtimes: dict[str, RuntimeCosts] = run_workers(_time_runtimes, (setup, schedules), 1)[0]
    late: list[float] = run_workers(_waits, (), 1) if setup.emulate else [0.0]
    send_s, recv_s = open_times(setup.backend, size) if ranks > 1 else (0.0, 0.0)
    return Calibration(
        stages={part: _costs(of_part) for part, of_part in tries.items()},
        runtimes=runtimes,
        message_bytes=size,
        message_s=message_time(setup.backend, size) if ranks > 1 else 0.0,
        send_s=send_s,
        recv_s=recv_s,
        reduce_s=reduce_time(setup, ranks) if copied else 0.0,
        late_s=late[0],
        at_once=turns.singles,
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
        samples=_turnwise(tries.together),
        alone=_turnwise(tries.alone),
        disturbed=tuple(
            map(max, zip(*map(disturbances, (tries.together, tries.alone)), strict=True))
        ),
        saved_bytes=tries.saved_bytes,
        parameter_bytes=tries.parameter_bytes,
    )


def _turnwise(tries: Sequence[Try[dict[str, list[float]]]]) -> Turnwise:
    return {what: tuple(tuple(one.value[what]) for one in tries) for what in tries[0].value}


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
