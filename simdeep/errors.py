"""The errors a user can meet, each with the exit code the command line gives it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class SimdeepError(Exception):
    """Base of every error simdeep raises on purpose. Exit code 1: a fault of simdeep."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the input.

    `place` is `file:line` or the flag; `key` the dotted key path (may be empty); `message` says the
    value, the rule and the nearest valid alternative.
    """

    place: str
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        key = f"{self.key}: " if self.key else ""
        return f"{where}{key}{self.message}"


class InputError(SimdeepError):
    """Bad input: holds every problem found, not only the first. Exit code 2."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem] | str):
        if isinstance(problems, str):
            problems = [Problem("", "", problems)]
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class DeadlockError(SimdeepError):
    """A program that cannot finish; the text names the cycle (rank, task, whom it waits for)."""
