"""What plans are ranked by, and the limits of money and time they must keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simdeep.planner.judge import Judged
    from simdeep.spec.scenario import Scenario

F64 = npt.NDArray[np.float64]

HOUR = 3600.0
TRILLION = 1e12


@dataclass(frozen=True)
class Limits:
    """A budget and a deadline for the scenario's tokens (None: none)."""

    max_usd: float | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, eq=False)
class Objective:
    """Dollars and seconds from step times.

    Plans are ranked by step time; by dollars where there is a deadline, or a choice of clusters and
    no budget. All candidates train on the same global batch.
    """

    by: str
    usd_per_step_s: F64
    steps: float | None
    limits: Limits

    @classmethod
    def of(cls, scenarios: Sequence[Scenario], limits: Limits) -> Objective:
        """Of scenarios that differ in their cluster."""
        rate = [s.topology.gpus * s.usd_per_gpu_hour / HOUR for s in scenarios]
        cheapest = limits.deadline_s is not None or (len(scenarios) > 1 and limits.max_usd is None)
        tokens = scenarios[0].goal.tokens
        steps = None if tokens is None else tokens / scenarios[0].tokens_per_step
        return cls("usd" if cheapest else "time", np.array(rate), steps, limits)

    def value(self, seconds: F64, cluster: npt.NDArray[np.int64]) -> F64:
        """What is made small: seconds or dollars of a step; infinite beyond a limit."""
        usd = seconds * self.usd_per_step_s[cluster]
        value = seconds if self.by == "time" else usd
        over = np.zeros(len(seconds), bool)
        if self.steps is not None and self.limits.deadline_s is not None:
            over |= seconds * self.steps > self.limits.deadline_s
        if self.steps is not None and self.limits.max_usd is not None:
            over |= usd * self.steps > self.limits.max_usd
        return np.where(over, np.inf, value)

    def of_judged(self, judged: Judged) -> float:
        """The value of a simulated plan."""
        cluster = np.array([judged.choice.cluster])
        return float(self.value(np.array([judged.step_time_s]), cluster)[0])
