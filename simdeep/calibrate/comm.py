"""Times of point-to-point sends and collectives between processes of this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from simdeep.calibrate.workers import run_workers

if TYPE_CHECKING:
    import torch

Backend = Literal["gloo", "nccl"]
Collective = Literal["all_reduce", "all_to_all"]

SIZES = tuple(4**e for e in range(3, 14))
"""Bytes from 64 to 64 Mi."""

COLLECTIVES: tuple[Collective, ...] = ("all_reduce", "all_to_all")

BATCHES = 7
"""Batches of each size; their median is the time, their ends the spread."""

_BATCH_S = 0.02
"""A batch repeats the transfer for about this long, so that one reading of the clock is nothing."""

_MOST = 200
_VALUE = 4
"""Bytes of the values sent (FP32: what a reduction of gradients adds)."""


@dataclass(frozen=True, slots=True)
class CommRow:
    """One transfer's time in seconds: median over batches, the fastest and the slowest batch.

    `bytes` are those of the message (`p2p`, half a round trip; `p2p_both`, both directions at
    once), of each rank's whole buffer (`all_reduce`), or of all that a rank sends, its own part
    included (`all_to_all`).
    """

    backend: str
    kind: str
    procs: int
    bytes: int
    seconds: float
    low_s: float
    high_s: float
    repeats: int


def measure_p2p(
    backend: Backend = "gloo", sizes: Sequence[int] = SIZES, timeout_s: float = 120.0
) -> list[CommRow]:
    """Sends between two processes (`nccl`: two GPUs): one way, and both ways at once.

    `WorkerError` if a process fails or the time is over; no process is left running.
    """
    return _measure(backend, ("p2p", "p2p_both"), sizes, 2, timeout_s)


def measure_collectives(
    backend: Backend = "gloo",
    kinds: Sequence[Collective] = COLLECTIVES,
    sizes: Sequence[int] = SIZES,
    procs: int = 2,
    timeout_s: float = 120.0,
) -> list[CommRow]:
    """Collectives of `procs` processes, one after the other without a pause; see `measure_p2p`."""
    return _measure(backend, tuple(kinds), sizes, procs, timeout_s)


def _measure(
    backend: Backend, kinds: Sequence[str], sizes: Sequence[int], procs: int, timeout_s: float
) -> list[CommRow]:
    arguments = (backend, tuple(kinds), tuple(sizes))
    by_rank: list[list[CommRow]] = run_workers(_work, arguments, procs, backend, timeout_s)
    # All ranks have the same rows; a collective is over when its slowest rank is.
    return [max(rows, key=lambda row: row.seconds) for rows in zip(*by_rank, strict=True)]


def _work(rank: int, n: int, backend: str, kinds: Sequence[str], sizes: Sequence[int]) -> Any:
    return [_time(rank, n, backend, kind, size) for kind in kinds for size in sizes]


def _time(rank: int, n: int, backend: str, kind: str, size: int) -> CommRow:
    import torch
    import torch.distributed as dist

    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    wait = torch.cuda.synchronize if backend == "nccl" else _nothing
    once = _transfer(rank, n, kind, size, device)
    repeats = _agree(_batch(once, 3, wait), device)
    seconds = []
    for _ in range(BATCHES):
        dist.barrier()
        seconds.append(_batch(once, repeats, wait) / repeats)
    low, high = min(seconds), max(seconds)
    middle = statistics.median(seconds)
    return CommRow(backend, kind, n, size, middle, low, high, BATCHES * repeats)


def _nothing() -> None:
    pass


def _batch(once: Callable[[], None], repeats: int, wait: Callable[[], None]) -> float:
    """Seconds of some transfers, each a round trip counted half where it is one."""
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        once()
    wait()
    return time.perf_counter() - start


def _agree(three_s: float, device: torch.device) -> int:
    """As many repeats on every rank as fill a batch on the slowest."""
    import torch
    import torch.distributed as dist

    slowest = torch.tensor([three_s / 3], dtype=torch.float64, device=device)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    return max(2, min(_MOST, int(_BATCH_S / max(float(slowest), 1e-7)))) // 2 * 2


def _transfer(rank: int, n: int, kind: str, size: int, device: torch.device) -> Callable[[], None]:
    """One transfer as a call; `p2p` alternates its direction, so that a pair is a round trip."""
    import torch
    import torch.distributed as dist

    values = torch.rand(max(1, size // _VALUE), device=device)
    if kind == "all_reduce":
        return lambda: dist.all_reduce(values)
    if kind == "all_to_all":
        share = torch.rand(max(1, size // _VALUE // n) * n, device=device)
        received = torch.empty_like(share)
        return lambda: dist.all_to_all_single(received, share)
    received = torch.empty_like(values)
    other = 1 - rank
    if kind == "p2p_both":
        return lambda: _exchange(values, received, other)
    calls = [(lambda: dist.send(values, other)), (lambda: dist.recv(received, other))]
    turn = [rank]

    def alternate() -> None:
        calls[turn[0]]()
        turn[0] = 1 - turn[0]

    return alternate


def _exchange(values: torch.Tensor, received: torch.Tensor, other: int) -> None:
    import torch.distributed as dist

    both = [dist.P2POp(dist.isend, values, other), dist.P2POp(dist.irecv, received, other)]
    for request in dist.batch_isend_irecv(both):
        request.wait()
