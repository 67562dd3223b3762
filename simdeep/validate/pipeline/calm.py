"""Tells steps and samples that other work on the machine disturbed from those it left alone.

Three signs: a thread that did not run though it had work; cores that processes of others used; and
a fixed piece of work, done before and after, that took longer than at its fastest: what the host of
a virtual machine takes away shows only there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

LOST = 0.03
"""Share of an action's time in which its thread did not run that may pass as undisturbed."""

FOREIGN = 0.1
"""Cores that processes of others may use meanwhile: they take memory bandwidth and clock and, where
cores are threads of one core, its units."""

SLOW = 0.1
"""Share by which the fixed piece of work may take longer than at its fastest."""

FEWEST = 3
"""Turns that a median is taken of, however disturbed they are."""

T = TypeVar("T")


@dataclass(frozen=True)
class Try(Generic[T]):
    """Something measured, with the signs of disturbance: see the module."""

    value: T
    lost: float
    foreign: float
    pace_s: float

    def disturbed(self, fastest_s: float) -> float:
        """1: as disturbed as may pass; `fastest_s` is the piece of work's best time."""
        slow = self.pace_s / fastest_s - 1.0
        return max(self.lost / LOST, self.foreign / FOREIGN, slow / SLOW)


def disturbances(tries: Sequence[Try[T]]) -> list[float]:
    """How disturbed each was, by the best pace among them."""
    best = min(one.pace_s for one in tries)
    return [one.disturbed(best) for one in tries]


def calm_turns(*disturbed: Sequence[float]) -> list[int]:
    """The turns that are undisturbed in every list; if those are fewer, the least disturbed third.

    At least `FEWEST` of them, where there are as many. Each list has one entry a turn; a turn is as
    disturbed as in the list where it is most.
    """
    worst = [max(of_turn) for of_turn in zip(*disturbed, strict=True)]
    calm = sum(share <= 1.0 for share in worst)
    wanted = max(calm, FEWEST, -(-len(worst) // 3))
    return sorted(sorted(range(len(worst)), key=lambda i: (worst[i], i))[:wanted])
