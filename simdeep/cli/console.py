"""What goes to the terminal: the answer to stdout, the rest to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH = 100
"""Columns of the answer where it does not go to a narrower terminal."""


def console(stderr: bool = False) -> Console:
    """A console of at most `WIDTH` columns; colour and width of a terminal only on one."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    made.width = min(made.width, WIDTH) if made.is_terminal else WIDTH
    return made


def render(parts: Iterable[RenderableType]) -> str:
    """What a console shows of tables and texts, ending in a newline."""
    made = console()
    with made.capture() as capture:
        for part in parts:
            made.print(part)
    lines = capture.get().split("\n")
    return "\n".join(line.rstrip(" ") for line in lines)


def answer(text: str) -> None:
    """Write the answer to stdout."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        message = f"cannot write the answer: {error.strerror or error}"
        raise InputError([Problem("stdout", "", message)]) from error


def write_file(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file the user named, with a function that takes its path."""
    try:
        save(path)
    except OSError as error:
        message = f"cannot write: {error.strerror or error}"
        raise InputError([Problem(f"-o {path}", "", message)]) from error


def note(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr)


class Progress:
    """Silent progress; also what a bar does as seen by the work."""

    def stage(self, text: str) -> None:
        """What is being done now."""

    def tasks(self, text: str) -> Callable[[int, int], None] | None:
        """A stage that counts: the function takes (done, of all); None where nobody looks."""
        self.stage(text)
        return None


class _Bar(Progress):
    def __init__(self, made: Console):
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.bar = RichProgress(*columns, console=made, transient=True)
        self.task = self.bar.add_task("", total=None)

    def stage(self, text: str) -> None:
        self.bar.reset(self.task, total=None, description=text)

    def tasks(self, text: str) -> Callable[[int, int], None] | None:
        self.stage(text)

        def report(done: int, total: int) -> None:
            self.bar.update(self.task, completed=done, total=total)

        return report


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """Progress of long work: a bar on stderr if that is a terminal and `quiet` is false."""
    made = None if quiet else console(stderr=True)
    if made is None or not made.is_terminal:
        yield Progress()
        return
    bar = _Bar(made)
    with bar.bar:
        yield bar
