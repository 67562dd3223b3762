"""Notes of when a rank computed what, and the waits that stand for computing; without torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simdeep.program.schedule import Act
from simdeep.program.schedule.actions import Kind

Durations = Mapping[tuple[Kind, int], Sequence[float]]
"""Seconds an action took, sample by sample, by its kind and stage."""

_CLOCK_S = 1e-4
"""What the two clocks and a thread's wake-up may differ by in a single action."""

_TICK_S = 0.01
"""Resolution of the system's account of busy cores."""


class Span(NamedTuple):
    """An action with its start and end, in seconds of the machine's monotonic clock.

    `lost_s` is the part in which its thread did not run: others had the core. Where computing is
    not this thread's (waits, a GPU) it is 0.
    """

    act: Act
    start: float
    end: float
    lost_s: float = 0.0


def machine_clock() -> float:
    """Seconds of the clock that all processes of the machine share."""
    return time.perf_counter()


def nothing() -> None:
    """What there is to wait for where computing is this thread's own."""


def finish_stream() -> None:
    """Wait for the GPU's stream that computes.

    Not for the whole GPU: a receive that is open for later would be waited for too.
    """
    import torch

    torch.cuda.current_stream().synchronize()


@dataclass
class Notes:
    """Takes the time of each action; with `waits`, each lasts as long as one of its samples.

    What the action really does counts towards the wait. `finish` is called before each reading of
    the clock: it waits for a GPU. The clock may be the thread's own, which stands still in a wait.
    """

    waits: Durations | None = None
    seed: int = 0
    finish: Callable[[], None] = nothing
    clock: Callable[[], float] = machine_clock
    spans: list[Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng([self.seed, 0xE])

    @contextmanager
    def taking(self, act: Act) -> Iterator[None]:
        """Note what happens inside as this action."""
        self.finish()
        now, start, used = time.perf_counter(), self.clock(), time.thread_time()
        yield
        self.finish()
        if self.waits is not None:
            self._wait(now + float(self._random.choice(self.waits[act.kind, act.stage])))
        self._note(Span(act, start, start), used)

    @contextmanager
    def extending(self) -> Iterator[None]:
        """Count what happens inside as part of the action before: a loss belongs to its F."""
        before, used = self.spans.pop(), time.thread_time()
        yield
        self.finish()
        self._note(before, used - (before.end - before.start - before.lost_s))

    def _note(self, span: Span, used: float) -> None:
        """Append a span that ends now; its thread had run for `used` when it started."""
        end = self.clock()
        ran = time.thread_time() - used
        lost = end - span.start - ran if self.waits is None and self.finish is nothing else 0.0
        self.spans.append(span._replace(end=end, lost_s=max(0.0, lost)))

    def pause(self, seconds: float) -> None:
        """Wait, where waits stand for computing."""
        if self.waits is not None:
            self._wait(time.perf_counter() + seconds)

    def take(self) -> list[Span]:
        """The spans so far, which are then forgotten."""
        spans, self.spans = self.spans, []
        return spans

    @staticmethod
    def _wait(until: float) -> None:
        if (left := until - time.perf_counter()) > 0:
            time.sleep(left)


def disturbance(spans: Sequence[Span]) -> float:
    """Share of the spans' time in which others had the core."""
    whole = sum(span.end - span.start for span in spans)
    lost = sum(max(0.0, span.lost_s - _CLOCK_S) for span in spans)
    return lost / whole if whole > 0.0 else 0.0


class Foreigners:
    """How many cores other processes use, from the system's account; 0 where it has none."""

    def __init__(self) -> None:
        self._start, self._busy = time.perf_counter(), _busy_s()

    def cores(self, own_s: float) -> float:
        """Mean cores since this was made; `own_s` is the CPU time that is not foreign."""
        if self._busy is None or (busy := _busy_s()) is None:
            return 0.0
        # Two readings are each a tick off at most, for every core.
        foreign = busy - self._busy - own_s - 2 * _TICK_S
        return max(0.0, foreign / (time.perf_counter() - self._start))


def _busy_s() -> float | None:
    """Seconds that cores of this machine were busy since it started; None if it does not say."""
    try:
        fields = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, *_ = map(int, fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
