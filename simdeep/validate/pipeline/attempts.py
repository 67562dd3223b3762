"""Measures something together with the signs of disturbance (see `calm`). Imports torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from simdeep.validate.pipeline.calm import Try
from simdeep.validate.timing import Foreigners, Span, disturbance

T = TypeVar("T")


class Pace:
    """The fixed piece of work: some matrix products and passes over memory, about 2 ms."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._matrix = torch.randn(192, 192, generator=generator)
        self._vector = torch.ones(1 << 17)

    def seconds(self, times: int = 7) -> float:
        """Median time of several."""
        return statistics.median(self._once() for _ in range(times))

    def _once(self) -> float:
        start = time.perf_counter()
        for _ in range(20):
            torch.mm(self._matrix, self._matrix)
            self._vector.mul_(1.0)
        return time.perf_counter() - start


def attempt(
    measure: Callable[[], T],
    spans: Callable[[T], Sequence[Span]],
    pace: Pace,
    own_s: Callable[[float, float], float],
    meet: Callable[[], object] = lambda: None,
) -> Try[T]:
    """Measure something once, with its signs.

    Args:
        measure: does it.
        spans: the actions in what it returns.
        pace: of this process.
        own_s: CPU seconds that are not foreign, of the seconds passed and this process's own.
        meet: lets processes that measure together do their fixed piece of work at the same time.
    """
    meet()
    before = pace.seconds()
    foreigners, start, used = Foreigners(), time.perf_counter(), time.process_time()
    value = measure()
    foreign = foreigners.cores(own_s(time.perf_counter() - start, time.process_time() - used))
    meet()
    return Try(value, disturbance(spans(value)), foreign, before, pace.seconds())
