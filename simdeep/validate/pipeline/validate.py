"""The whole way: refuse, calibrate on single processes, run, predict, compare."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from simdeep.program.schedule.actions import KINDS
from simdeep.validate.pipeline.calibrate import finish_timing, start_timing, time_overheads
from simdeep.validate.pipeline.calibration import Calibration, StageCosts
from simdeep.validate.pipeline.calm import apart, calm_turns
from simdeep.validate.pipeline.compare import Comparison, Pair
from simdeep.validate.pipeline.measured import Measured
from simdeep.validate.pipeline.points import Point, Setup, cores_here, refuse
from simdeep.validate.pipeline.predict import predict
from simdeep.validate.pipeline.run import Waits, run_points
from simdeep.validate.pipeline.turns import Turns
from simdeep.validate.torch_extra import require_torch
from simdeep.validate.transformer.config import read_config

_EMULATED_TURNS = 1
"""Of the calibration: waits of any length would do, these are to be about right."""


def validate_pipeline(
    points: Sequence[Point],
    setup: Setup,
    timeout_s: float = 600.0,
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Calibrate, run and predict every point.

    Where computing is real, every point has processes of its own, as a real run has: the heap of
    one that has run other schedules is scattered, which slows what walks many small objects. The
    single processes that calibrate and the ranks that run the pipeline take turns, so that what
    slows the machine for a while slows both; while one side measures the other sleeps. Predictions
    know the calibration alone.

    Args:
        points: what to run.
        setup: how.
        timeout_s: after which processes that run together are given up.
        say: told what is being done.

    Raises:
        InputError: torch is missing, or a point cannot be run.
        WorkerError: a process failed; nothing is left running.
    """
    require_torch()
    refuse(points, setup, read_config(setup.model, setup.changes).model, cores_here())
    found: dict[Point, Pair] = {}
    for ranks in dict.fromkeys(point.ranks for point in points):
        mine = [point for point in points if point.ranks == ranks]
        measure = _emulated if setup.emulate else _in_turns
        for calibration, measured in measure(mine, setup, timeout_s, say):
            found[measured.point] = _pair(calibration, measured, setup)
    return Comparison(setup, tuple(found[point] for point in points))


def _pair(calibration: Calibration, measured: Measured, setup: Setup) -> Pair:
    """Compare what the calmest turns say: the same turns of calibration and run."""
    if setup.emulate:  # the waits were drawn from all turns of the calibration
        measured = measured.of_turns(calm_turns(measured.disturbed))
    else:
        stages = calibration.stages.items()
        turns = calm_turns(
            measured.disturbed,
            *(costs.disturbed for _, costs in stages),
            *(_apart(costs, measured, rank) for (rank, _, _), costs in stages),
        )
        calibration, measured = calibration.of_turns(turns), measured.of_turns(turns)
    return Pair(predict(measured.point, calibration, setup), measured, calibration)


def _apart(costs: StageCosts, measured: Measured, rank: int) -> list[float]:
    """Of each turn, how far the rank's core was from its pace when it calibrated this stage."""
    paces = (step[rank].pace_s for step in measured.steps)
    return [apart(one, other) for one, other in zip(costs.pace_s, paces, strict=True)]


Runs = Iterator[tuple[Calibration, Measured]]


def _in_turns(
    points: Sequence[Point], setup: Setup, timeout_s: float, say: Callable[[str], None]
) -> Runs:
    say(f"{points[0].ranks} ranks: timing runtimes and messages")
    overheads = time_overheads(points, setup)
    for i, point in enumerate(points):
        say(f"{point}: calibrating and running, in turns ({i} of {len(points)} done)")
        with tempfile.TemporaryDirectory(prefix="simdeep-") as folder:
            turns = Turns(Path(folder), setup.turns, singles=point.ranks, ranks=point.ranks)
            with ThreadPoolExecutor(point.ranks + 1) as pool:
                timed = start_timing([point], setup, turns, pool, timeout_s)
                run = pool.submit(run_points, [point], setup, None, turns, timeout_s)
                _finish([*timed, run], turns)
        yield finish_timing([point], turns, timed, overheads), run.result()[0]


def _emulated(
    points: Sequence[Point], setup: Setup, timeout_s: float, say: Callable[[str], None]
) -> Runs:
    """Waits must be known before pipelines run; stand-ins of all points fit in the same ranks."""
    ranks = points[0].ranks
    say(f"{ranks} ranks: calibrating on a single process")
    with tempfile.TemporaryDirectory(prefix="simdeep-") as folder:
        turns = Turns(Path(folder), _EMULATED_TURNS, singles=1, ranks=0)
        with ThreadPoolExecutor(1) as pool:
            timed = start_timing(points, setup, turns, pool, timeout_s)
            _finish(timed, turns)
        calibration = finish_timing(points, turns, timed, time_overheads(points, setup))
        say(f"{ranks} ranks: running pipelines, with waits instead of computing")
        alone = Turns(Path(folder), setup.turns, singles=0, ranks=ranks)
        runs = run_points(points, setup, _waits(calibration), alone, timeout_s)
    for measured in runs:
        yield calibration, measured


def _finish(futures: Sequence[Future[Any]], turns: Turns) -> None:
    """Wait for all; the first failure ends the others' processes and is raised."""
    try:
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    except BaseException:
        turns.stop()
        raise


def _waits(calibration: Calibration) -> Waits:
    """What stands for computing: the very samples, drawn anew."""
    stages = calibration.stages
    return Waits(
        actions={
            part: {kind: tuple(costs.all_s(kind)) for kind in KINDS if kind in costs.samples}
            for part, costs in stages.items()
        },
        optimizer_s={part: costs.median_s("optimizer") for part, costs in stages.items()},
    )
