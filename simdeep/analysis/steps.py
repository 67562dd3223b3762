"""Step times of several steps, and what faults add to one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class StepDistribution:
    """Seconds of a step for each seed of routing and jitter, in the order of `seeds`."""

    seeds: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def mean_s(self) -> float:
        """Mean over steps."""
        return float(np.mean(self.seconds))

    @property
    def std_s(self) -> float:
        """Standard deviation over steps (0 for one step)."""
        return float(np.std(self.seconds, ddof=1)) if len(self.seconds) > 1 else 0.0

    def quantile_s(self, share: float) -> float:
        """The time that this share of steps stays within."""
        return float(np.quantile(self.seconds, share))


@dataclass(frozen=True, slots=True)
class FaultCost:
    """Seconds of a step with and without the scenario's faults, all else equal."""

    with_s: float
    without_s: float

    @property
    def added_s(self) -> float:
        """What the faults add to a step."""
        return self.with_s - self.without_s

    @property
    def ratio(self) -> float:
        """Step time over that without faults."""
        return self.with_s / self.without_s
