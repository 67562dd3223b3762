"""Time on the device that computes: the machine's clock, or events on a CUDA stream."""

from __future__ import annotations

import time
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Marks moments of the device's work, which may be read later than they are taken."""

    def mark(self) -> Any:
        """This moment in the order of the device's work."""

    def settle(self) -> None:
        """Wait until all marked moments have come."""

    def seconds(self, first: Any, last: Any) -> float:
        """Between two marks, once settled."""


class CpuClock:
    """The machine's monotonic clock: a CPU does things when it is told to."""

    def mark(self) -> float:
        """Seconds."""
        return time.perf_counter()

    def settle(self) -> None:
        """Everything has happened already."""

    def seconds(self, first: float, last: float) -> float:
        """Their difference."""
        return last - first


class CudaClock:
    """Events on the current stream."""

    def mark(self) -> torch.cuda.Event:
        """An event that comes when all work before it is done."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def settle(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize()

    def seconds(self, first: torch.cuda.Event, last: torch.cuda.Event) -> float:
        """Half a microsecond exact, as the driver says."""
        return float(first.elapsed_time(last)) / 1e3


def clock_for(device: torch.device) -> Clock:
    """The clock of a device."""
    return CudaClock() if device.type == "cuda" else CpuClock()
