"""The whole way: refuse, calibrate on single processes, run, predict, compare."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from simdeep.program.schedule.actions import KINDS
from simdeep.validate.pipeline.calibrate import finish_timing, start_timing
from simdeep.validate.pipeline.calibration import Calibration
from simdeep.validate.pipeline.calm import calm_turns
from simdeep.validate.pipeline.compare import Comparison, Pair
from simdeep.validate.pipeline.measured import Measured
from simdeep.validate.pipeline.points import Point, Setup, cores_here, refuse
from simdeep.validate.pipeline.predict import predict
from simdeep.validate.pipeline.run import Waits, run_points
from simdeep.validate.pipeline.turns import Turns
from simdeep.validate.torch_extra import require_torch
from simdeep.validate.transformer.config import read_config

_EMULATED_TURNS = 2
"""Of the calibration: waits of any length would do, these are to be about right."""


def validate_pipeline(
    points: Sequence[Point],
    setup: Setup,
    timeout_s: float = 600.0,
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Calibrate, run and predict every point; predictions know the calibration alone.

    Where computing is real, the single processes that calibrate and the ranks that run pipelines
    take turns, so that what slows the machine for a while slows both; while one side measures the
    other sleeps.

    Args:
        points: what to run.
        setup: how.
        timeout_s: after which the work on a number of ranks is given up.
        say: told what is being done.

    Raises:
        InputError: torch is missing, or a point cannot be run.
        WorkerError: a process failed; nothing is left running.
    """
    require_torch()
    refuse(points, setup, read_config(setup.model, setup.changes).model, cores_here())
    calibrations: dict[int, Calibration] = {}
    found: dict[Point, Pair] = {}
    for ranks in dict.fromkeys(point.ranks for point in points):
        mine = [point for point in points if point.ranks == ranks]
        measure = _emulated if setup.emulate else _in_turns
        calibrations[ranks], runs = measure(mine, setup, timeout_s, say)
        say(f"{ranks} ranks: predicting")
        for point, measured in zip(mine, runs, strict=True):
            found[point] = _pair(point, calibrations[ranks], measured, setup)
    return Comparison(setup, calibrations, tuple(found[point] for point in points))


def _pair(point: Point, calibration: Calibration, measured: Measured, setup: Setup) -> Pair:
    """Compare what the calmest turns say: the same turns of calibration and run."""
    of_stages = [costs.disturbed for costs in calibration.of_stages(point).values()]
    if setup.emulate:  # they were not measured at the same time
        measured = measured.of_turns(calm_turns(measured.disturbed))
        turns = calm_turns(*of_stages)
    else:
        turns = calm_turns(measured.disturbed, *of_stages)
        measured = measured.of_turns(turns)
    return Pair(predict(point, calibration.of_turns(turns), setup), measured)


Runs = tuple[Calibration, tuple[Measured, ...]]


def _in_turns(
    points: Sequence[Point], setup: Setup, timeout_s: float, say: Callable[[str], None]
) -> Runs:
    ranks = points[0].ranks
    say(f"{ranks} ranks: calibrating on single processes and running pipelines, in turns")
    with tempfile.TemporaryDirectory(prefix="simdeep-") as folder:
        turns = Turns(Path(folder), setup.turns, singles=ranks, ranks=ranks)
        with ThreadPoolExecutor(ranks + 1) as pool:
            timed = start_timing(points, setup, turns, pool, timeout_s)
            runs = pool.submit(run_points, points, setup, None, turns, timeout_s)
            _finish([*timed, runs], turns)
        say(f"{ranks} ranks: timing runtimes and messages")
        return finish_timing(points, setup, turns, timed), runs.result()


def _emulated(
    points: Sequence[Point], setup: Setup, timeout_s: float, say: Callable[[str], None]
) -> Runs:
    """Waits must be known before pipelines run."""
    ranks = points[0].ranks
    say(f"{ranks} ranks: calibrating on a single process")
    with tempfile.TemporaryDirectory(prefix="simdeep-") as folder:
        turns = Turns(Path(folder), _EMULATED_TURNS, singles=1, ranks=0)
        with ThreadPoolExecutor(1) as pool:
            timed = start_timing(points, setup, turns, pool, timeout_s)
            _finish(timed, turns)
        calibration = finish_timing(points, setup, turns, timed)
        say(f"{ranks} ranks: running pipelines, with waits instead of computing")
        alone = Turns(Path(folder), setup.turns, singles=0, ranks=ranks)
        return calibration, run_points(points, setup, _waits(calibration), alone, timeout_s)


def _finish(futures: Sequence[Future[Any]], turns: Turns) -> None:
    """Wait for all; the first failure ends the others' waits and is raised."""
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
            part: {kind: tuple(costs.all_s(kind)) for kind in KINDS}
            for part, costs in stages.items()
        },
        optimizer_s={part: costs.median_s("optimizer") for part, costs in stages.items()},
    )
