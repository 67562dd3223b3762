"""How one piece of work is timed: many calls between two readings of the device's clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from typing import Any, Protocol

Call = Callable[[], object]

L2_ROTATION = 3.0
"""Calls go round over operands of this many times the L2, so that none finds its own there."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds a call: median, fastest and slowest reading; clock and power seen meanwhile."""

    us: float
    low_us: float
    high_us: float
    repeats: int
    mhz: int = 0
    watts: int = 0


@dataclass(frozen=True, slots=True)
class Captured:
    """A CUDA graph of `calls` calls that lasts about `seconds`."""

    graph: Any
    calls: int
    seconds: float


class Clock(Protocol):
    """Times calls on one device."""

    device: str

    def time(self, calls: Sequence[Call]) -> Timing:
        """Time of one call; `calls` do the same work on operands of their own."""


def rotation(nbytes: float, cache_bytes: float) -> int:
    """Copies of a piece of work's operands for calls to go round over."""
    return max(1, min(64, int(L2_ROTATION * cache_bytes / max(nbytes, 1.0)) + 1))


class CpuClock:
    """Times calls on this process's threads."""

    device = "cpu"

    def __init__(self, reading_s: float = 0.02, readings: int = 7):
        self.reading_s, self.readings = reading_s, readings

    def time(self, calls: Sequence[Call]) -> Timing:
        """Readings of `reading_s` each, after one that warms up."""
        start = time.perf_counter()
        for call in calls:
            call()
        once = max((time.perf_counter() - start) / len(calls), 1e-7)
        rounds = max(1, int(self.reading_s / once / len(calls)))
        readings = []
        for _ in range(self.readings + 1):
            start = time.perf_counter()
            for _ in range(rounds):
                for call in calls:
                    call()
            readings.append((time.perf_counter() - start) / rounds / len(calls) * 1e6)
        return _timing(readings[1:])


class CudaClock:
    """Times calls captured into a CUDA graph, so that launches do not wait for the host.

    A graph holds the calls again and again until it lasts `graph_s`; it is replayed for about
    `total_s`, each replay between two events; work long enough to draw full power for twice that,
    so that the clock has come down where it must. The first half warms up.
    """

    device = "cuda"
    heavy_s = 1e-4

    def __init__(self, total_s: float = 0.14, graph_s: float = 0.006):
        self.total_s, self.graph_s = total_s, graph_s

    @cached_property
    def meter(self) -> Meter:
        """Reads clock and power."""
        return Meter()

    def time(self, calls: Sequence[Call]) -> Timing:
        """Median over replays."""
        return self.replay(self.capture(calls))

    def replay(self, captured: Captured) -> Timing:
        """Time of a call of a captured graph; waits for this stream alone."""
        import torch

        graph, count = captured.graph, captured.calls
        heavy = captured.seconds / count > self.heavy_s
        replays = max(8, min(400, int(self.total_s * (1 + heavy) / captured.seconds)))
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(replays + 1)]
        marks[0].record()
        for mark in marks[1:]:
            graph.replay()
            mark.record()
        while not marks[(3 * replays) // 4].query():
            time.sleep(0.0005)
        mhz, watts = self.meter.read()
        marks[-1].synchronize()
        took = [a.elapsed_time(b) * 1e3 / count for a, b in pairwise(marks)]
        return _timing(took[replays // 2 :], mhz, watts)

    def capture(self, calls: Sequence[Call]) -> Captured:
        """A graph of the calls, repeated, on the current stream (which must not be the default)."""
        import torch

        stream = torch.cuda.current_stream()
        for call in calls:
            call()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for call in calls:
            call()
        end.record()
        end.synchronize()
        once_s = max(start.elapsed_time(end) / 1e3, 2e-6 * len(calls))
        rounds = max(1, min(400 // len(calls), int(self.graph_s / once_s)))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(rounds):
                for call in calls:
                    call()
        graph.replay()
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        return Captured(graph, rounds * len(calls), start.elapsed_time(end) / 1e3)


class Meter:
    """SM clock (MHz) and power (W) of the first GPU through NVML; zeros where that is missing."""

    def __init__(self) -> None:
        try:
            pynvml: Any = import_module("pynvml")

            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            self._nvml: Any = pynvml
        except Exception:
            self._nvml = None

    def read(self) -> tuple[int, int]:
        """Clock and power now."""
        if self._nvml is None:
            return 0, 0
        nvml = self._nvml
        mhz = int(nvml.nvmlDeviceGetClockInfo(self._handle, nvml.NVML_CLOCK_SM))
        try:
            field = nvml.nvmlDeviceGetFieldValues(self._handle, [186])[0]  # instantaneous power
            watts = int(field.value.uiVal / 1000)
        except Exception:
            watts = int(nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000)
        return mhz, watts


def _timing(readings: Sequence[float], mhz: int = 0, watts: int = 0) -> Timing:
    middle = statistics.median(readings)
    return Timing(middle, min(readings), max(readings), len(readings), mhz, watts)
