"""Measurements of nothing but communication, between processes that compute nothing."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import NamedTuple

from simdeep.calibrate.workers import run_workers
from simdeep.validate.pipeline.points import OWN, Point, Setup

_REPEATS = 7
_MESSAGES = 120
_LATE = 10
"""Pieces of work before every other receive is opened, against the seven before its send."""


@dataclass(frozen=True)
class MessageTimes:
    """Seconds of messages, one by one, and what opening a send and a receive takes a process."""

    messages_s: tuple[float, ...]
    send_s: float
    recv_s: float


def message_times(setup: Setup, size: int) -> MessageTimes:
    """Messages of `size` bytes as a pipeline sends them, between two processes.

    From when both ends are open until the receiver is awake again. The sender comes from computing
    something and goes on to compute, so that what moves the message must share its core, which at
    times takes milliseconds; the receiver sleeps already, or comes from computing too. In a
    ping-pong without a pause both are awake, and a message takes a fraction of that
    (`simdeep.calibrate.comm.measure_p2p`).
    """
    by_rank: list[list[_Ends]] = run_workers(_exchange, (size, setup), 2, setup.backend)
    pairs = list(zip(*by_rank, strict=True))
    sent = [one if one.sent_s else other for one, other in pairs]
    received = [other if one.sent_s else one for one, other in pairs]
    return MessageTimes(
        tuple(r.done - max(r.open, s.open) for r, s in zip(received, sent, strict=True)),
        statistics.median(end.sent_s for end in sent),
        statistics.median(end.opened_s for end in received),
    )


class _Ends(NamedTuple):
    """One end of a message: when it was opened and done, and what opening it took."""

    open: float
    done: float = 0.0
    sent_s: float = 0.0
    opened_s: float = 0.0


def _exchange(rank: int, n: int, size: int, setup: Setup) -> list[_Ends]:
    import torch
    import torch.distributed as dist

    from simdeep.validate.pipeline.attempts import Pace
    from simdeep.validate.pipeline.ranks import pin

    cuda = setup.backend == "nccl"
    if not cuda and not setup.emulate:
        pin(rank)
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
            if not setup.emulate:
                pace.seconds()
            work.wait()
        else:
            if not setup.emulate and repeat // 2 % 2:
                pace.seconds(_LATE)
            start = time.perf_counter()
            work = dist.irecv(values, 1 - rank)
            opened = time.perf_counter() - start
            work.wait()
            if cuda:
                torch.cuda.synchronize()
            found.append(_Ends(start, time.perf_counter(), opened_s=opened))
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
