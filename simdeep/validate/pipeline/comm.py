"""Measurements of nothing but communication, between processes that compute nothing."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import NamedTuple

from simdeep.calibrate.workers import run_workers
from simdeep.validate.pipeline.points import OWN, Point, Setup

_REPEATS = 7
_MESSAGES = 80


@dataclass(frozen=True)
class MessageTimes:
    """Seconds of a message: until it has woken its receiver, and to open a send and a receive."""

    message_s: float
    send_s: float
    recv_s: float


def message_times(backend: str, size: int) -> MessageTimes:
    """Messages of `size` bytes as a pipeline sends them, between two processes; medians.

    The sender comes from computing something, the receiver sleeps until the message is there. In a
    ping-pong without a pause both are awake, and a message takes a fraction of that
    (`simdeep.calibrate.comm.measure_p2p`).
    """
    by_rank: list[list[_Ends]] = run_workers(_exchange, (size, backend), 2, backend)
    pairs = list(zip(*by_rank, strict=True))
    sent = [one if one.sent_s else other for one, other in pairs]
    received = [other if one.sent_s else one for one, other in pairs]
    return MessageTimes(
        statistics.median(r.at - s.at for r, s in zip(received, sent, strict=True)),
        statistics.median(end.sent_s for end in sent),
        statistics.median(end.opened_s for end in received),
    )


class _Ends(NamedTuple):
    """One end of a message: the clock when it was sent or there, and what opening it took."""

    at: float
    sent_s: float = 0.0
    opened_s: float = 0.0


def _exchange(rank: int, n: int, size: int, backend: str) -> list[_Ends]:
    import torch
    import torch.distributed as dist

    from simdeep.validate.pipeline.attempts import Pace

    cuda = backend == "nccl"
    values = torch.zeros(size // 4, device=f"cuda:{rank}" if cuda else "cpu")
    pace = Pace()
    found = []
    for repeat in range(_MESSAGES):
        dist.barrier()
        if repeat % 2 == rank:
            pace.seconds()
            start = time.perf_counter()
            work = dist.isend(values, 1 - rank)
            found.append(_Ends(start, sent_s=time.perf_counter() - start))
            work.wait()
        else:
            start = time.perf_counter()
            work = dist.irecv(values, 1 - rank)
            opened = time.perf_counter() - start
            work.wait()
            if cuda:
                torch.cuda.synchronize()
            found.append(_Ends(time.perf_counter(), opened_s=opened))
    return found[_MESSAGES // 4 :]  # the first ones open connections


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
