"""What the processes are started with: torch is imported inside them alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from simdeep.validate.moe.case import Case


def enter(
    rank: int,
    n: int,
    what: Literal["prepare", "beside", "run"],
    case: Case,
    state: Path,
    batches: Path,
) -> Any:
    """`prepare` in one process, or as a rank time what is `beside` others, or do the `run`."""
    if what != "prepare":
        _take_core(rank, n)
    if what == "prepare":
        from simdeep.validate.moe.prepare import prepare

        return prepare(rank, n, case, state, batches)
    if what == "beside":
        from simdeep.validate.moe.beside import time_beside

        return time_beside(rank, n, case, state)
    from simdeep.validate.moe.rank import run_rank

    return run_rank(rank, n, case, state, batches)


def _take_core(rank: int, n: int) -> None:
    """Bind a rank to a core of its own where there are enough, as launchers of jobs do.

    Otherwise a rank that wakes from a transfer may share a core with another for a time slice of
    the scheduler's, which is as long as a layer.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if n <= len(cores):
            os.sched_setaffinity(0, {cores[rank]})
