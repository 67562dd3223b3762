"""Starts one process a rank on this machine, waits for them, and puts their findings together."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from simdeep.errors import SimdeepError
from simdeep.program.schedule import Spans, to_csv
from simdeep.validate.cases import Case, ModelSize, Outcome, Runtime, refuse
from simdeep.validate.job import Found, Job
from simdeep.validate.torch_extra import require_torch
from simdeep.validate.worker import main

_LOG_LINES = 12
_PRELOAD = ("simdeep.validate.runtime", "simdeep.validate.torch_schedule")


class RunError(SimdeepError):
    """A run that did not finish; the text says what each failing rank was at."""


def run_cases(
    cases: Sequence[Case], size: ModelSize | None = None, timeout_s: float = 120.0
) -> tuple[Outcome, ...]:
    """Run tables of equally many ranks, one after the other, in the same processes.

    All processes are gone when this returns or raises: InputError where torch is missing or cannot
    run a table, RunError if a process fails or `timeout_s` is over.
    """
    require_torch()
    cases = tuple(cases)
    refuse(cases)
    n_ranks = {case.table.n_ranks for case in cases}
    if len(n_ranks) != 1:
        raise ValueError(f"the tables of one run have equally many ranks, not {sorted(n_ranks)}")
    with tempfile.TemporaryDirectory(prefix="simdeep-") as folder:
        # A wait that hangs must end, and say where, before this process gives up.
        job = Job(Path(folder), cases, size or ModelSize(), n_ranks.pop(), timeout_s / 2)
        for number, case in enumerate(cases):
            if case.runtime is Runtime.TORCH:
                job.csv(number).write_text(to_csv(case.table), encoding="utf-8")
        _run_processes(job, timeout_s)
        found = [pickle.loads(job.found(rank).read_bytes()) for rank in range(job.n_ranks)]
    return tuple(
        _outcome(case, [of_rank[number] for of_rank in found]) for number, case in enumerate(cases)
    )


def _start_method() -> Literal["forkserver", "spawn"]:
    """How processes start: from a server that has imported torch for all of them, if that can be.

    The server is this process's own, ends with it, and has never computed anything: unlike this
    process it is safe to fork.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(list(_PRELOAD))
    forkserver.ensure_running()
    return "forkserver"


def _run_processes(job: Job, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    method = _start_method()  # before torch: the server imports it at the same time
    from torch.multiprocessing import ProcessExitedException, start_processes

    context = start_processes(
        main, args=(job,), nprocs=job.n_ranks, join=False, daemon=True, start_method=method
    )
    try:
        while not context.join(timeout=max(deadline - time.monotonic(), 0.0)):
            if time.monotonic() >= deadline:
                raise RunError(f"the run was not over after {timeout_s:g} s{_what_failed(job)}")
    except ProcessExitedException as error:
        raise RunError(f"{error}{_what_failed(job)}") from error
    finally:
        for process in context.processes:
            process.kill()
            process.join()


def _what_failed(job: Job) -> str:
    """The last lines of every rank that left a traceback or, if none did, of every log."""
    ranks = range(job.n_ranks)
    paths = [job.error(r) for r in ranks if job.error(r).exists()]
    paths = paths or [job.log(r) for r in ranks if job.log(r).exists()]
    texts = ((path.name, path.read_text(encoding="utf-8", errors="replace")) for path in paths)
    return "".join(
        f"\nrank {name.replace('.', ', ')}:\n" + "\n".join(text.splitlines()[-_LOG_LINES:])
        for name, text in texts
        if text.strip()
    )


def _outcome(case: Case, found: list[Found]) -> Outcome:
    return Outcome(
        case,
        loss=sum(part.loss for part in found),
        reference_loss=found[0].reference_loss,
        gradients=tuple(gradient for part in found for gradient in part.gradients),
        spans=_spans(case, found),
    )


def _spans(case: Case, found: list[Found]) -> Spans | None:
    if case.runtime is Runtime.TORCH:
        return None
    first = min(part.times[0].start for part in found)
    times = [np.array(part.times) - first for part in found]
    return Spans(case.table, tuple(t[:, 0] for t in times), tuple(t[:, 1] for t in times))
