"""Measurements of nothing but communication, between two processes."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

from simdeep.calibrate.workers import run_workers
from simdeep.validate.pipeline.calibration import CopyCosts, MessageCosts
from simdeep.validate.pipeline.points import OWN, Point, Setup

_REPEATS = 7
_MESSAGES = 80
_LATE = 10
"""Pieces of work before every other receive is opened, against the seven before its send."""

_PAUSE_S = 2e-3
"""After a message: its threads may still be at work when its receiver is awake."""


def message_costs(setup: Setup, size: int, by_torch: Sequence[bool]) -> dict[bool, MessageCosts]:
    """Messages of `size` bytes as a pipeline sends them, between two processes.

    Their ends are opened as torch's schedules open them, or as simdeep's runtime does, which takes
    half as long. The sender comes from computing something and goes on to compute, so that what
    moves the message must share its core; the receiver sleeps already, or comes from computing too.
    In a ping-pong without a pause both are awake, and a message takes a fraction of that
    (`simdeep.calibrate.comm.measure_p2p`).
    """
    by_rank: list[list[list[_End]]] = run_workers(
        _exchange, (size, setup, by_torch), 2, setup.backend
    )
    return {how: _costs(size, [ends[i] for ends in by_rank]) for i, how in enumerate(by_torch)}


def _costs(size: int, by_rank: Sequence[Sequence[_End]]) -> MessageCosts:
    pairs = list(zip(*by_rank, strict=True))
    sent = [one if one.sends else other for one, other in pairs]
    received = [other if one.sends else one for one, other in pairs]
    both = zip(sent, received, strict=True)
    return MessageCosts(
        size=size,
        send_s=statistics.median(end.open - end.start for end in sent),
        recv_s=statistics.median(end.open - end.start for end in received),
        passing_s=tuple(max(0.0, r.done - max(r.open, s.open)) for s, r in both),
        sender_s=statistics.median(end.threads_s for end in sent),
        receiver_s=statistics.median(end.threads_s for end in received),
    )


class _End(NamedTuple):
    """One end of a message: when its opening started, when it was open, and when it was done.

    `threads_s` is the time that the process's other threads ran meanwhile.
    """

    sends: bool
    start: float
    open: float
    done: float
    threads_s: float


def _exchange(
    rank: int, n: int, size: int, setup: Setup, by_torch: Sequence[bool]
) -> list[list[_End]]:
    import torch
    import torch.distributed as dist
    from torch.distributed.pipelining.schedules import _batch_p2p

    from simdeep.validate.pipeline.attempts import Pace
    from simdeep.validate.pipeline.ranks import pin

    cuda = setup.backend == "nccl"
    if not cuda and not setup.emulate:
        pin(rank)
    values = torch.zeros(size // 4, device=f"cuda:{rank}" if cuda else "cpu")
    pace = Pace()
    found: list[list[_End]] = [[] for _ in by_torch]
    for repeat, (ends, torch_opens) in itertools.product(
        range(_MESSAGES), list(zip(found, by_torch, strict=True))
    ):
        dist.barrier()
        sends = repeat % 2 == rank
        if sends:
            pace.seconds()
        elif not setup.emulate and repeat // 2 % 2:
            pace.seconds(_LATE)
        others = _threads_s()
        act = dist.isend if sends else dist.irecv
        start = time.perf_counter()
        if torch_opens:
            works = _batch_p2p([dist.P2POp(act, values, 1 - rank)])
        else:
            works = [act(values, 1 - rank)]
        opened = time.perf_counter()
        if sends and not setup.emulate:
            pace.seconds()
        for work in works:
            work.wait()
        if cuda:
            torch.cuda.synchronize()
        done = time.perf_counter()
        time.sleep(_PAUSE_S)
        ends.append(_End(sends, start, opened, done, _threads_s() - others))
    return [ends[_MESSAGES // 4 :] for ends in found]  # the first ones open connections


def _threads_s() -> float:
    """Seconds that this process's other threads have run."""
    return time.process_time() - time.thread_time()


def copy_costs(setup: Setup, ranks: int) -> dict[int, CopyCosts]:
    """What adding up DualPipe's copies of stages takes each rank, one pair of ranks at a time."""
    by_process: list[list[CopyCosts]] = run_workers(_add_up, (setup, ranks), 2, setup.backend)
    first, second = by_process
    return dict(enumerate(first)) | {ranks - 1 - i: costs for i, costs in enumerate(second)}


def _add_up(process: int, n: int, setup: Setup, ranks: int) -> list[CopyCosts]:
    """Of the ranks of one half, whose copies are on those of the other."""
    import torch
    import torch.distributed as dist

    from simdeep.validate.pipeline.ranks import pin
    from simdeep.validate.pipeline.work import emulated_work, real_work
    from simdeep.validate.runtime import add_up

    table = Point(OWN, ranks, 2 * ranks).table
    cuda = setup.backend == "nccl"
    if not cuda and not setup.emulate:
        pin(process)
    if setup.emulate:
        work = emulated_work(setup, 1)
    else:
        work = real_work(setup, 1, f"cuda:{process}" if cuda else "cpu")
    found = []
    for rank in range(ranks // 2):
        stages = [work.stage(s, table.n_stages) for s in table.stages_of[rank]]
        tries = []
        for _ in range(_REPEATS + 1):
            dist.barrier()
            if cuda:
                torch.cuda.synchronize()
            start, used = time.perf_counter(), time.process_time()
            for stage in stages:
                add_up(stage, None)
            if cuda:
                torch.cuda.synchronize()
            took = time.perf_counter() - start
            busy = min(took, time.process_time() - used)
            tries.append(CopyCosts(busy, took - busy))
        found.append(sorted(tries[1:], key=sum)[_REPEATS // 2])
    return found
