"""Measurements of nothing but communication, between processes that compute nothing."""

from __future__ import annotations

import statistics
import time

from simdeep.calibrate.comm import measure_p2p
from simdeep.calibrate.workers import run_workers
from simdeep.validate.pipeline.points import OWN, Point, Setup

_REPEATS = 7
_MESSAGES = 40


def message_time(backend: str, size: int) -> float:
    """Seconds of a message of `size` bytes between two processes: half a ping-pong's round trip.

    Of the fastest batch of about a hundred: other work on the machine only adds to it.
    """
    rows = measure_p2p("nccl" if backend == "nccl" else "gloo", sizes=(size,))
    return float(next(row.low_s for row in rows if row.kind == "p2p"))


def open_times(backend: str, size: int) -> tuple[float, float]:
    """Seconds that a process spends in opening a send and a receive of `size` bytes; medians."""
    by_rank: list[list[tuple[float, float]]] = run_workers(_open, (size, backend), 2, backend)
    sends, receives = zip(*(times for of_rank in by_rank for times in of_rank), strict=True)
    return statistics.median(sends), statistics.median(receives)


def _open(rank: int, n: int, size: int, backend: str) -> list[tuple[float, float]]:
    import torch
    import torch.distributed as dist

    device = f"cuda:{rank}" if backend == "nccl" else "cpu"
    ours, theirs = (torch.zeros(size // 4, device=device) for _ in range(2))
    found = []
    for repeat in range(_MESSAGES):
        dist.barrier()
        start = time.perf_counter()
        receive = dist.irecv(theirs, 1 - rank)
        received = time.perf_counter() - start
        dist.barrier()  # as in a pipeline, the other side is mostly ready when a send comes
        start = time.perf_counter()
        send = dist.isend(ours, 1 - rank)
        sent = time.perf_counter() - start
        receive.wait()
        send.wait()
        if repeat:
            found.append((sent, received))
    return found


def reduce_time(setup: Setup, ranks: int) -> float:
    """Seconds to add up the gradients of DualPipe's copies of stages, on all ranks; the fastest."""
    by_rank: list[list[float]] = run_workers(_reduce, (setup,), ranks, setup.backend)
    worst = [max(times) for times in zip(*by_rank, strict=True)]
    return float(min(worst))


def _reduce(rank: int, n: int, setup: Setup) -> list[float]:
    import torch
    import torch.distributed as dist

    from simdeep.validate.computer import Computer
    from simdeep.validate.pipeline.work import emulated_work, real_work
    from simdeep.validate.runtime import RankRuntime

    table = Point(OWN, n, 2 * n).table
    cuda = setup.backend == "nccl"
    finish = torch.cuda.synchronize if cuda else lambda: None
    if setup.emulate:
        work = emulated_work(setup, 1)
    else:
        work = real_work(setup, 1, f"cuda:{rank}" if cuda else "cpu")
    stages = {s: work.stage(s, table.n_stages) for s in table.stages_of[rank]}
    computer = Computer(stages, table.n_stages, work.inputs, work.targets, work.loss)
    runtime = RankRuntime(table, rank, computer, lambda: torch.empty(work.shape))
    times = []
    for repeat in range(_REPEATS + 1):
        dist.barrier()
        finish()
        start = time.perf_counter()
        runtime.reduce_copies()
        finish()
        if repeat:
            times.append(time.perf_counter() - start)
    return times
