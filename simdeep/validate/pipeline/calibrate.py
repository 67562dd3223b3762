"""Runs the measurements on single processes and puts a `Calibration` together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING, Any

from simdeep.calibrate.workers import run_workers
from simdeep.program.schedule import acts_of
from simdeep.program.schedule.actions import Kind
from simdeep.validate.pipeline.calibration import (
    Calibration,
    MessageCosts,
    Overheads,
    Part,
    RuntimeCosts,
    StageCosts,
    mean_costs,
)
from simdeep.validate.pipeline.comm import copy_costs, message_costs
from simdeep.validate.pipeline.points import OWN, Point, Setup, cores_here
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
        alike: dict[tuple[int, int], tuple[Part, set[Kind]]] = {}
        for part, kinds in parts.items():
            alike.setdefault(part[1:], (part, set()))[1].update(kinds)
        shares = [dict(alike.values())]
    else:
        shares = [
            {part: kinds for part, kinds in parts.items() if part[0] == core}
            for core in range(turns.singles)
        ]
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
    stages = {part: _costs(of_part, turns) for part, of_part in tries.items()}
    return Calibration(stages, overheads, turns.singles)


def time_overheads(points: Sequence[Point], setup: Setup) -> Overheads:
    """Measure runtimes and messages, for points of equally many ranks."""
    ranks = points[0].ranks
    hidden = read_config(setup.model, setup.changes).model.hidden
    size = 4 * setup.sequences * setup.tokens * hidden
    copied = any(point.schedule == OWN for point in points)
    schedules = tuple(dict.fromkeys(point.schedule for point in points))
    # Ranks that share cores take each other's caches: as many as there will be run at once.
    at_once = ranks if setup.emulate else 1
    with ThreadPoolExecutor(at_once) as pool:
        timed = [
            pool.submit(run_workers, _time_runtimes, (setup, schedules), 1) for _ in range(at_once)
        ]
        by_process: list[dict[str, RuntimeCosts]] = [future.result()[0] for future in timed]
    runtimes = {name: mean_costs([found[name] for found in by_process]) for name in schedules}
    late: list[float] = run_workers(_waits, (), 1) if setup.emulate else [0.0]
    by_torch = tuple({schedule != OWN for schedule in schedules})
    if ranks > 1:
        messages = message_costs(setup, size, by_torch)
    else:
        messages = dict.fromkeys(by_torch, MessageCosts(size))
    return Overheads(
        runtimes=runtimes,
        messages=messages,
        copies=copy_costs(setup, ranks) if copied else {},
        late_s=late[0],
        shared_cores=cores_here() if setup.emulate else 0,
    )


def _parts(points: Sequence[Point]) -> dict[Part, set[Kind]]:
    """Every stage of every point, on the ranks that hold it, with what is done with it there."""
    found: dict[Part, set[Kind]] = {}
    for point in points:
        for rank, row in enumerate(point.table.rows):
            for act in chain.from_iterable(map(acts_of, row)):
                found.setdefault((rank, act.stage, point.n_stages), set()).add(act.kind)
    return found


def _costs(tries: StageTries, turns: Turns) -> StageCosts:
    """Turn by turn: of the measurements around each run, or of each where nothing ran between."""
    around = 2 if turns.ranks else 1
    groups = [tries.turns[i : i + around] for i in range(turns.count)]
    return StageCosts(
        samples={
            what: tuple(tuple(chain(*(one.value[what] for one in group))) for group in groups)
            for what in tries.turns[0].value
        },
        disturbed=tuple(max(one.disturbed for one in group) for group in groups),
        pace_s=tuple(fmean(one.pace_s for one in group) for group in groups),
        saved_bytes=tries.saved_bytes,
        parameter_bytes=tries.parameter_bytes,
    )


def _time(
    rank: int,
    n: int,
    setup: Setup,
    parts: Mapping[Part, Collection[Kind]],
    turns: Turns,
    number: int,
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
