"""Effective training time: what failures, restarts and checkpoints leave of a run.

Failures come at random at a constant rate (exponential gaps). The job writes a checkpoint after
every `interval_s` of training, which holds it up for `checkpoint_s`. A failure loses what was done
since the last checkpoint and costs `restart_s`, during which the job may fail again. Training ends
with the month: what runs then counts.

Sources: Young, CACM 17(9) 1974 (first-order optimum); Daly, Future Generation Computer Systems
22(3) 2006, eq. 20 (run time, exact for exponential failures) and eq. 37 (higher-order optimum).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
HOUR = 3600.0
DAY = 24 * HOUR

_MOST_FAILURES = 20_000  # expected in a run, which is cut short there: its mean is known by then


@dataclass(frozen=True, slots=True)
class Failures:
    """How often the whole job fails and what that costs, in seconds."""

    mtbf_s: float
    restart_s: float
    checkpoint_s: float

    @classmethod
    def of_cluster(
        cls, gpus: int, gpu_hours_per_failure: float, restart_s: float, checkpoint_s: float
    ) -> Failures:
        """A job on `gpus` GPUs, any of which stops it."""
        return cls(gpu_hours_per_failure * HOUR / gpus, restart_s, checkpoint_s)


@dataclass(frozen=True, slots=True, eq=False)
class EffectiveTime:
    """Share of wall time that trained, over simulated runs, and what set it.

    `ratio` is the mean over runs, `low` and `high` its 5th and 95th percentile; `expected` is the
    closed form for a run without end. The parts of the lost share are means over runs.
    `optimum_s` is the best interval between checkpoints and `at_optimum` the closed form there.
    `loss_s` is what one failure costs on average: the restart and the training done again.
    """

    failures: Failures
    interval_s: float
    days: float
    trials: int
    ratio: float
    low: float
    high: float
    expected: float
    checkpoints: float
    restarts: float
    repeated: float
    failures_per_run: float
    optimum_s: float
    at_optimum: float
    loss_s: float


def young_interval_s(failures: Failures) -> float:
    """Young's optimum of the training time between checkpoints."""
    return math.sqrt(2.0 * failures.checkpoint_s * failures.mtbf_s)


def daly_interval_s(failures: Failures) -> float:
    """Daly's higher-order optimum (eq. 37); the MTBF where a checkpoint takes twice as long."""
    cost, mtbf = failures.checkpoint_s, failures.mtbf_s
    if cost >= 2.0 * mtbf:
        return mtbf
    part = cost / (2.0 * mtbf)
    return math.sqrt(2.0 * cost * mtbf) * (1.0 + math.sqrt(part) / 3.0 + part / 9.0) - cost


def expected_ratio(failures: Failures, interval_s: float) -> float:
    """Share of a long run's wall time that trains (Daly's eq. 20)."""
    mtbf = failures.mtbf_s
    exponent = (interval_s + failures.checkpoint_s) / mtbf
    if exponent + failures.restart_s / mtbf > 700:  # beyond what a float holds: nothing gets done
        return 0.0
    return interval_s / (mtbf * math.exp(failures.restart_s / mtbf) * math.expm1(exponent))


def effective_time(
    failures: Failures,
    interval_s: float | None = None,
    *,
    days: float = 30.0,
    trials: int = 1000,
    seed: int = 0,
) -> EffectiveTime:
    """Simulate `trials` runs of `days` (Monte Carlo, repeatable from the seed).

    Args:
        failures: rate and costs.
        interval_s: training time between checkpoints; None: Daly's optimum.
        days: length of each run; shorter where failures would come by the ten thousand.
        trials: number of runs.
        seed: of the random gaps between failures.
    """
    optimum = daly_interval_s(failures)
    interval = optimum if interval_s is None else interval_s
    length = min(days * DAY, _MOST_FAILURES * failures.mtbf_s)
    rng = np.random.default_rng([seed, 0xFA11])
    now, trained, saving, restarting, repeated, failed = np.zeros((6, trials))
    cycle = interval + failures.checkpoint_s
    begin = np.zeros(trials)  # nothing to restart from at first
    running = np.arange(trials)
    while len(running):
        gap = rng.exponential(failures.mtbf_s, trials)[running]
        left = length - now[running]
        fails = gap < left
        lasted = np.minimum(gap, left)
        restart = np.minimum(begin[running], lasted)
        worked = lasted - restart
        whole = np.floor(worked / cycle)
        rest = worked - whole * cycle
        half_done = np.minimum(rest, interval)
        trained[running] += whole * interval + np.where(fails, 0.0, half_done)
        repeated[running] += np.where(fails, half_done, 0.0)
        saving[running] += worked - whole * interval - half_done
        restarting[running] += restart
        failed[running] += fails
        now[running] += lasted
        begin[running] = failures.restart_s
        running = running[fails]
    ratio = trained / length
    low, high = np.percentile(ratio, (5, 95))
    count = float(failed.mean())
    lost = float(restarting.mean() + repeated.mean())
    return EffectiveTime(
        failures=failures,
        interval_s=interval,
        days=length / DAY,
        trials=trials,
        ratio=float(ratio.mean()),
        low=float(low),
        high=float(high),
        expected=expected_ratio(failures, interval),
        checkpoints=float(saving.mean()) / length,
        restarts=float(restarting.mean()) / length,
        repeated=float(repeated.mean()) / length,
        failures_per_run=count,
        optimum_s=optimum,
        at_optimum=expected_ratio(failures, optimum),
        loss_s=lost / count if count else failures.restart_s + interval / 2,
    )
