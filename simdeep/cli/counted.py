"""Counted progress on stderr with the time left: a line that changes, or one now and then."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType

_EVERY_S = 10.0
"""Seconds between lines where stderr is no terminal, such as the log of a batch job."""


class Told:
    """Told of progress; says it unless quiet. `what` is counted."""

    def __init__(self, quiet: bool, what: str = "points"):
        self._quiet = quiet
        self._what = what
        self._terminal = not quiet and sys.stderr.isatty()
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last = self._start
        self._shown = False

    def __enter__(self) -> Told:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clear()

    def __call__(self, done: int, total: int) -> None:
        """Points done of all that are to be computed."""
        now = time.monotonic()
        if self._first is None:  # from here on: start-up says nothing of the pace
            self._first = now, done
        if self._quiet or (not self._terminal and now - self._last < _EVERY_S):
            return
        self._last = now
        text = f"{done:,} of {total:,} {self._what}, {self._left(now, done, total)}"
        if self._terminal:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
            self._shown = True
        else:
            print(text, file=sys.stderr, flush=True)

    def stopped(self, store: Path, rows: int) -> None:
        """Say what a sweep that was stopped leaves behind."""
        self._clear()
        if not self._quiet:
            print(f"Stopped; {store} has {rows:,} rows.", file=sys.stderr)

    def _left(self, now: float, done: int, total: int) -> str:
        assert self._first is not None
        since, before = self._first
        if done == before:
            return "time left not known yet"
        return f"{clock((now - since) / (done - before) * (total - done))} left"

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False


def clock(seconds: float) -> str:
    """`4 s`, `1:05 min` or `2:07 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600:,}:{whole % 3600 // 60:02d} h"
