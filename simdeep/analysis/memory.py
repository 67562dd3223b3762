"""GPU memory of each rank over the step: a static part and what tasks take and free.

A task takes its bytes when it starts and frees when it ends. At equal times frees come before
takes, so that a buffer handed from one task to the next is not counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I64

GIB = 2**30
ACTIVATIONS = "activations"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes alive for one stage's share of one micro-batch."""

    stage: int
    microbatch: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Memory:
    """Memory of every rank, in bytes.

    Attributes:
        static: part name to bytes by rank, e.g. `parameters`, `gradients`, `buffers`.
        rank, at_ns, live: steps of the activation bytes, sorted by rank and time: from `at_ns` on,
            `rank` holds `live` bytes of activations (equal times merged to the last value).
        peak_live: largest `live` of each rank; `peak_at_ns` the first time it is reached.
        chunks: what is alive on each rank at its peak, largest first.
        capacity_gib: what one GPU offers, GiB.
    """

    static: dict[str, I64]
    rank: I64
    at_ns: I64
    live: I64
    peak_live: I64
    peak_at_ns: I64
    chunks: tuple[tuple[Chunk, ...], ...]
    capacity_gib: float

    @property
    def breakdown(self) -> dict[str, I64]:
        """What makes up each rank's peak: the static parts, then activations."""
        return {**self.static, ACTIVATIONS: self.peak_live}

    @property
    def peak(self) -> I64:
        """Peak bytes of each rank."""
        total = self.peak_live.copy()
        for part in self.static.values():
            total += part
        return total

    @property
    def peak_gib(self) -> float:
        """Peak of the fullest rank, GiB."""
        return float(self.peak.max(initial=0)) / GIB

    @property
    def fits(self) -> bool:
        """Whether every rank stays within capacity."""
        return self.peak_gib <= self.capacity_gib

    def over_capacity(self) -> I64:
        """Ranks that need more than there is, ascending."""
        return np.flatnonzero(self.peak > self.capacity_gib * GIB)

    def timeline(self, rank: int) -> tuple[I64, I64]:
        """Times (ns) and total bytes, static part included, of one rank."""
        low, high = np.searchsorted(self.rank, (rank, rank + 1))
        base = sum(int(part[rank]) for part in self.static.values())
        return self.at_ns[low:high], self.live[low:high] + base


def memory(timeline: Timeline, static: Mapping[str, npt.ArrayLike], capacity_gib: float) -> Memory:
    """Memory of every rank from the timeline.

    Args:
        timeline: what ran when; its program says what each task takes and frees, in bytes.
        static: what is held all the time: name to bytes, an array over ranks or one number for all.
        capacity_gib: memory of one GPU, GiB.
    """
    program = timeline.program
    n_ranks = program.n_ranks
    takes, frees = np.flatnonzero(program.mem_take), np.flatnonzero(program.mem_free)
    rows = np.concatenate((frees, takes))
    at = np.concatenate((timeline.end_ns[frees], timeline.start_ns[takes]))
    delta = np.concatenate((-program.mem_free[frees], program.mem_take[takes]))
    rank = program.rank[rows].astype(np.int64)
    order = np.lexsort((delta > 0, at, rank))
    rows, at, delta, rank = rows[order], at[order], delta[order], rank[order]

    live = np.cumsum(delta)
    first = np.searchsorted(rank, np.arange(n_ranks))
    before = np.concatenate(([0], live))[first]
    live = live - before[rank]
    peak_live, peak_at = np.zeros((2, n_ranks), np.int64)
    chunks: list[tuple[Chunk, ...]] = []
    for r, (low, high) in enumerate(zip(first, np.append(first[1:], len(rank)), strict=True)):
        top = low + int(live[low:high].argmax()) if high > low else low
        if high > low and live[top] > 0:
            peak_live[r], peak_at[r] = live[top], at[top]
            held = rows[low : top + 1]
            found = _chunks(program.stage[held], program.microbatch[held], delta[low : top + 1])
        else:
            found = ()
        chunks.append(found)

    last = np.append((rank[1:] != rank[:-1]) | (at[1:] != at[:-1]), True)[: len(rank)]
    return Memory(
        static={
            name: np.broadcast_to(np.asarray(part, np.int64), n_ranks).copy()
            for name, part in static.items()
        },
        rank=rank[last],
        at_ns=at[last],
        live=live[last],
        peak_live=peak_live,
        peak_at_ns=peak_at,
        chunks=tuple(chunks),
        capacity_gib=capacity_gib,
    )


def _chunks(
    stage: npt.NDArray[np.int32], microbatch: npt.NDArray[np.int32], delta: I64
) -> tuple[Chunk, ...]:
    """Net bytes by (stage, micro-batch), largest first; chunks back at zero are left out."""
    pairs, index = np.unique(np.stack((stage, microbatch), axis=1), axis=0, return_inverse=True)
    held = np.zeros(len(pairs), np.int64)
    np.add.at(held, index.reshape(-1), delta)
    found = [Chunk(s, m, b) for (s, m), b in zip(pairs.tolist(), held.tolist(), strict=True) if b]
    return tuple(sorted(found, key=lambda c: (-c.bytes, c.stage, c.microbatch)))
