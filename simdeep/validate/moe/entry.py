"""What the processes are started with: torch is imported inside them alone."""

from __future__ import annotations

import ctypes
import os
import sys
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
    _keep_memory()
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


def _keep_memory() -> None:
    """Let the allocator keep what is freed, as a training job's caching allocator does.

    Otherwise glibc hands large blocks back after every step, and each step pays anew for the pages
    it touches first: time of the system's, not of experts or transfers.
    """
    if sys.platform == "linux":
        trim_threshold, mmap_threshold, never = -1, -3, 1 << 30
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(trim_threshold, never)
            libc.mallopt(mmap_threshold, never)


def _take_core(rank: int, n: int) -> None:
    """Bind a rank to a core of its own where there are enough, as launchers of jobs do.

    Otherwise a rank that wakes from a transfer may share a core with another for a time slice of
    the scheduler's, which is as long as a layer.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if n <= len(cores):
            os.sched_setaffinity(0, {cores[rank]})
