"""Lets processes that exchange nothing take turns on the machine: marks in a common folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_STOP = "stop"
_POLL_S = 0.005


@dataclass(frozen=True)
class Turns:
    """`singles` processes that calibrate, and `ranks` of a pipeline (0: those run later).

    The ranks run `count` times; the others measure before the first run and after each.
    """

    folder: Path
    count: int
    singles: int
    ranks: int

    @property
    def calibrations(self) -> int:
        """Times that single processes measure: each run lies between two."""
        return self.count + 1 if self.ranks else self.count

    def mark(self, what: str, number: int) -> None:
        """Leave a process's mark."""
        (self.folder / f"{what}.{number}").touch()

    def wait(self, what: str, marks: int, meanwhile: Callable[[], object] | None = None) -> None:
        """Wait for so many marks, idle or working on."""
        while sum(1 for _ in self.folder.glob(f"{what}.*")) < marks:
            if meanwhile is None:
                time.sleep(_POLL_S)
            else:
                meanwhile()

    def meet(self, what: str, number: int, meanwhile: Callable[[], object] | None = None) -> None:
        """Mark, and wait until every calibrating process has."""
        self.mark(what, number)
        self.wait(what, self.singles, meanwhile)

    def stop(self) -> None:
        """Say that one process failed: the others' results are of no use."""
        (self.folder / _STOP).touch()

    def stopped(self) -> bool:
        """Whether one has failed."""
        return (self.folder / _STOP).exists()
