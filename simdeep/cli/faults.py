"""From errors to messages on stderr and exit codes: no user sees a traceback by accident."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec

import typer

from simdeep.errors import InputError, SimdeepError

P = ParamSpec("P")

FAULT = 1
DOES_NOT_FIT = 3
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143
_AGAIN_S = 0.5
"""After which a termination that was swallowed is raised again; cleaning up takes far less."""
TRACEBACK = "SIMDEEP_TRACEBACK"
"""Environment variable that, set to 1, shows tracebacks."""


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose errors end in a message and the exit code that belongs to them."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BrokenPipeError:
            _forget_stdout()
            code = BROKEN_PIPE
        except Exception as error:
            code = _explain(error)
        else:
            return
        raise typer.Exit(code)

    return wrapper


def _explain(error: Exception) -> int:
    """Say on stderr what went wrong; returns the exit code."""
    if os.environ.get(TRACEBACK) == "1":
        import traceback

        traceback.print_exception(error)
    if isinstance(error, InputError):
        number = len(error.problems)
        head = "simdeep: " if number == 1 else f"simdeep: {number} problems in the input\n"
        print(head + str(error), file=sys.stderr)
        return error.exit_code
    if isinstance(error, SimdeepError):
        print(f"simdeep: {error}", file=sys.stderr)
        return error.exit_code
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    print(
        f"simdeep: internal error: {what}\nThis is a bug in simdeep: please report it with the "
        f"command line and the scenario. {TRACEBACK}=1 shows where it happened.",
        file=sys.stderr,
    )
    return FAULT


def _forget_stdout() -> None:
    """Nobody reads any more: let the interpreter's own flush at exit go nowhere, quietly."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def on_terminate() -> Iterator[None]:
    """Leave on SIGTERM as on an error, so that half-written files are cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> None:
        # Libraries that except everything while they are imported swallow this: then again.
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        sys.exit(TERMINATED)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGALRM") if hasattr(signal, name)]
    before = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
