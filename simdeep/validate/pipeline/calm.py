"""Which steps and samples other work on the machine disturbed.

Three signs: a thread that did not run though it had work, cores that processes of others used, and
a fixed piece of work, done before and after, that took longer on one side than on the other: the
host of a virtual machine slows its cores by tens of percent for seconds, and shows it nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

LOST = 0.05
"""Share of an action's time in which its thread did not run that may pass as undisturbed."""

FOREIGN = 0.1
"""Cores that processes of others may use meanwhile: they take memory bandwidth and clock and, where
cores are threads of one core, its units."""

UNSTEADY = 0.1
"""Share by which the fixed piece of work may take longer on one side, or at one of two times that
are compared."""

UNUSUAL = 2.0
"""Times the median disturbance that may pass on a machine that is never quiet."""

FEWEST = 3
"""Turns that a median is taken of, however disturbed they are."""

T = TypeVar("T")


@dataclass(frozen=True)
class Try(Generic[T]):
    """Something measured, with the signs of disturbance; the piece of work took these seconds."""

    value: T
    lost: float
    foreign: float
    before_s: float
    after_s: float

    @property
    def disturbed(self) -> float:
        """1: as disturbed as may pass."""
        unsteady = apart(self.before_s, self.after_s)
        return max(self.lost / LOST, self.foreign / FOREIGN, unsteady)

    @property
    def pace_s(self) -> float:
        """Of the fixed piece of work, seconds."""
        return (self.before_s + self.after_s) / 2


def apart(one_s: float, other_s: float) -> float:
    """How far two times of the fixed piece of work are apart; 1: as far as may pass."""
    return abs(other_s - one_s) / min(one_s, other_s) / UNSTEADY


def calm_turns(*disturbed: Sequence[float]) -> list[int]:
    """The turns that are undisturbed in every list.

    Where those are fewer than half the machine is no quiet one: then all turns that are not over
    `UNUSUAL` times as disturbed as the median one. At least `FEWEST`, where there are as many. Each
    list has one entry a turn; a turn is as disturbed as in the list where it is most.
    """
    worst = [max(of_turn) for of_turn in zip(*disturbed, strict=True)]
    usual = median(worst)
    allowed = 1.0 if usual <= 1.0 else UNUSUAL * usual
    wanted = max(FEWEST, sum(share <= allowed for share in worst))
    return sorted(sorted(range(len(worst)), key=lambda i: (worst[i], i))[:wanted])
