"""What each algorithm of a collective sends to whom, as messages between GPUs.

A message is bytes that cross several hops (GPU to GPU) at one rate: its hops are pipelined in
chunks far smaller than itself, so the slowest sets the pace. A whole ring, a tree up and down
again, a multicast by the switch are one message each. Sizes are those of nccl-tests: S is what one
rank holds for all-reduce and all-to-all, the gathered whole for all-gather and reduce-scatter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

Operation = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"]
Algorithm = Literal["ring", "tree", "hierarchical", "nvls", "direct"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)

SWITCH = -1
"""Stands for the switch of the node at one end of a hop: only the GPU's own NVLink is crossed."""
NVLS_SHARE = 0.85
"""Share of a GPU's NVLink that collectives in the switch reach (NVIDIA/nccl src/graph/tuning.cc,
`nvlsEfficiency` of Hopper). Measured: issue 1455 there, 307 to 310 GB/s a port on 5 to 8 H100s
whose rings reach 365."""


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """Messages as columns.

    Message m crosses the hops `ptr[m]..ptr[m+1]-1`, hop h going from GPU `src[h]` to `dst[h]`, and
    moves `nbytes[m]` over each. Its latency is the sum of its hops' latencies, each times
    `latency_weight[h]`. It may use at most `share[m]` of its slowest link (inf: all it can get),
    and starts when those it comes `after` (CSR `after_ptr`, `after`) have ended.
    """

    ptr: I64
    src: I64
    dst: I64
    latency_weight: F64
    nbytes: F64
    share: F64
    after_ptr: I64
    after: I64

    @property
    def n(self) -> int:
        """Number of messages."""
        return len(self.nbytes)


@dataclass(slots=True)
class Plan:
    """Messages in the making."""

    hops: list[int] = field(default_factory=lambda: [0])
    src: list[I64] = field(default_factory=list)
    dst: list[I64] = field(default_factory=list)
    weight: list[F64] = field(default_factory=list)
    nbytes: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    after: list[list[int]] = field(default_factory=list)

    def add(
        self,
        src: npt.ArrayLike,
        dst: npt.ArrayLike,
        nbytes: float,
        weight: npt.ArrayLike = 1.0,
        *,
        share: float = np.inf,
        after: list[int] | None = None,
    ) -> int:
        """One message over the hops src[i] -> dst[i]; returns its number."""
        a, b = (np.atleast_1d(np.asarray(x, np.int64)) for x in (src, dst))
        a, b = np.broadcast_arrays(a, b)
        self.hops.append(self.hops[-1] + len(a))
        self.src.append(a)
        self.dst.append(b)
        self.weight.append(np.broadcast_to(np.asarray(weight, np.float64), a.shape))
        self.nbytes.append(float(nbytes))
        self.share.append(share)
        self.after.append(after or [])
        return len(self.nbytes) - 1

    def done(self) -> Messages:
        """The messages as columns."""
        empty = np.empty(0)
        return Messages(
            ptr=np.array(self.hops, np.int64),
            src=np.concatenate([*self.src, empty]).astype(np.int64),
            dst=np.concatenate([*self.dst, empty]).astype(np.int64),
            latency_weight=np.concatenate([*self.weight, empty]),
            nbytes=np.array(self.nbytes),
            share=np.array(self.share),
            after_ptr=np.cumsum([0, *map(len, self.after)], dtype=np.int64),
            after=np.array([m for before in self.after for m in before], dtype=np.int64),
        )


def direct(operation: Operation, ranks: I64, nbytes: float) -> Messages:
    """Every rank to every other at once (all-to-all, S/N each), or one send from first to last."""
    n = len(ranks)
    if operation == "send":
        src, dst, size = ranks[:1], ranks[-1:], nbytes
    else:
        src, dst = np.repeat(ranks, n), np.tile(ranks, n)
        src, dst, size = src[src != dst], dst[src != dst], nbytes / n
    m = len(src)
    return Messages(
        ptr=np.arange(m + 1),
        src=src,
        dst=dst,
        latency_weight=np.ones(m),
        nbytes=np.full(m, size),
        share=np.full(m, np.inf),
        after_ptr=np.zeros(m + 1, np.int64),
        after=np.empty(0, np.int64),
    )
