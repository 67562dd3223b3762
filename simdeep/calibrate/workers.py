"""Processes of one machine under torch.distributed: started, watched, and gone at the end."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from simdeep.errors import SimdeepError

_LOOPBACK = {"linux": "lo", "darwin": "lo0"}
_LOG_LINES = 12
_POLL_S = 0.05

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _GIB = -1, -3, 1 << 30
"""Parameters of glibc's `mallopt`, and the value that keeps it from giving memory back."""


class WorkerError(SimdeepError):
    """A run that did not finish; the text names the rank that ended it and its error."""


@dataclass(frozen=True)
class Job:
    """What every process runs: `work(rank, n, *arguments)`, importable and picklable."""

    folder: Path
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    backend: str
    n: int
    timeout_s: float

    def path(self, rank: int, what: str) -> Path:
        """File of a rank: its `log`, its `error` or what it `found`."""
        return self.folder / f"{rank}.{what}"


def run_workers(
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
    n: int,
    backend: str = "gloo",
    timeout_s: float = 120.0,
    stopped: Callable[[], bool] | None = None,
) -> list[Any]:
    """Run `work(rank, n, *arguments)` in `n` processes of one group; what each returned, by rank.

    All processes are gone when this returns or raises. `WorkerError` as soon as one process ends
    without a result, after `timeout_s`, or when `stopped` says that the results are of no use.
    """
    with tempfile.TemporaryDirectory(prefix="simdeep-") as folder:
        job = Job(Path(folder), work, arguments, backend, n, timeout_s)
        context = _context(work)
        processes = [
            context.Process(target=_main, args=(rank, job), daemon=True) for rank in range(n)
        ]
        try:
            for process in processes:
                process.start()
            _wait(processes, job, stopped)
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join()
        return [pickle.loads(job.path(rank, "found").read_bytes()) for rank in range(n)]


def _context(work: Callable[..., Any]) -> ForkServerContext | SpawnContext:
    """How processes start: from a server that has imported torch for all of them, if that can be.

    The server is this process's own, ends with it, and has never computed anything: unlike this
    process it is safe to fork. What the first `work` needs it imports too; importing torch's
    pipelines takes each process over a second.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed.pipelining.schedules", work.__module__])
    return context


def _wait(processes: Sequence[BaseProcess], job: Job, stopped: Callable[[], bool] | None) -> None:
    deadline = time.monotonic() + job.timeout_s
    while any(process.is_alive() for process in processes):
        _refuse_dead(processes, job)
        if stopped is not None and stopped():
            raise WorkerError("stopped: another process failed")
        if time.monotonic() > deadline:
            raise WorkerError(f"the run was not over after {job.timeout_s:g} s{_said(job)}")
        time.sleep(_POLL_S)
    _refuse_dead(processes, job)


def _refuse_dead(processes: Sequence[BaseProcess], job: Job) -> None:
    failed = [(p.exitcode, rank) for rank, p in enumerate(processes) if p.exitcode]
    if not failed:
        return
    code, rank = min(failed)  # a killed process (below 0) makes its peers fail, not they it
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    raise WorkerError(f"the process of rank {rank} {how}{_said(job)}")


def _said(job: Job) -> str:
    """The last lines of every rank that left a traceback or, if none did, of every log."""
    for what in ("error", "log"):
        paths = [(rank, job.path(rank, what)) for rank in range(job.n)]
        texts = [(r, p.read_text("utf-8", "replace")) for r, p in paths if p.exists()]
        said = [(r, text.splitlines()[-_LOG_LINES:]) for r, text in texts if text.strip()]
        if said:
            return "".join(f"\nrank {r}, {what}:\n" + "\n".join(lines) for r, lines in said)
    return ""


def _main(rank: int, job: Job) -> None:
    """Entry point of a process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with job.path(rank, "log").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        found = _in_group(rank, job)
    except Exception:
        job.path(rank, "error").write_text(traceback.format_exc(), encoding="utf-8")
        sys.exit(1)
    job.path(rank, "found").write_bytes(pickle.dumps(found))


def _end_with_parent() -> None:
    """Nobody waits for this rank any more once the process that started the run is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _keep_memory() -> None:
    """Let this process keep freed memory, as torch's allocator on GPUs does.

    glibc gives large pieces back, and a page's first touch, after every step, costs as much as a
    good part of a small layer. Elsewhere this does nothing.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _GIB)
        mallopt(_TRIM_THRESHOLD, _GIB)


def _in_group(rank: int, job: Job) -> Any:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    _keep_memory()
    interface = _LOOPBACK.get(sys.platform)
    if interface:  # without it gloo looks up the host's name, which may have no address
        os.environ["GLOO_SOCKET_IFNAME"] = interface
    options: dict[str, Any] = {}
    if job.backend == "nccl":
        torch.cuda.set_device(rank)
        options["device_id"] = torch.device("cuda", rank)
    dist.init_process_group(
        job.backend,
        init_method=(job.folder / "store").as_uri(),
        rank=rank,
        world_size=job.n,
        timeout=timedelta(seconds=job.timeout_s),
        **options,
    )
    found = job.work(rank, job.n, *job.arguments)
    dist.barrier()
    dist.destroy_process_group()
    return found
