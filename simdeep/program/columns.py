"""The columnar program: what will be done, one row a task, without hardware and without time.

Tasks of one (rank, stream) run in row order: that is the stream's FIFO. Every dependency of a row
may point at any other row (also a later one, on another stream); a cycle is a deadlock and the
engine names it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


class Kind(IntEnum):
    """What sort of work a task is."""

    COMPUTE = 0
    TRANSFER = 1
    SYNC = 2


class Action(IntEnum):
    """Part of the training step a task belongs to (`I` input gradient, `W` weight gradient)."""

    F = 0
    I = 1  # noqa: E741 - the field's letter
    W = 2
    P2P = 3
    GRAD_SYNC = 4
    OPTIMIZER = 5
    PARAM_SYNC = 6


@dataclass(frozen=True, eq=False)
class Program:
    """Tasks as columns, all of length n.

    `work` indexes `works`, the distinct pieces of work (kernels or traffic) that cost prices once
    each; `case` picks the entry of that work's price where it has several (routing draws), else 0.
    `group` is -1 or the id of a rendezvous: its members start together. Dependencies are in CSR
    form: task i waits for `dep_idx[dep_ptr[i]:dep_ptr[i+1]]`.
    """

    n_ranks: int
    streams: tuple[str, ...]
    components: tuple[str, ...]
    works: tuple[Any, ...]
    rank: I32
    stream: I8
    kind: I8
    action: I8
    component: I32
    stage: I32
    layer: I32
    microbatch: I32
    block: I32
    work: I32
    case: I32
    peer: I32
    group: I32
    dep_ptr: I64
    dep_idx: I64
    mem_take: I64
    mem_free: I64
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of tasks."""
        return len(self.rank)

    def dependencies(self, task: int) -> I64:
        """Rows that must have ended before `task` starts."""
        return self.dep_idx[self.dep_ptr[task] : self.dep_ptr[task + 1]]

    def describe(self, task: int) -> str:
        """One line for people: where the task runs and what it is."""
        parts = [Action(int(self.action[task])).name, self.components[self.component[task]]]
        for name in ("stage", "layer", "microbatch"):
            value = int(getattr(self, name)[task])
            if value >= 0:
                parts.append(f"{name} {value}")
        where = f"rank {self.rank[task]} {self.streams[self.stream[task]]}"
        return f"{where}: task {task} ({' '.join(parts)})"


@dataclass(frozen=True, eq=False)
class Priced:
    """A program with what each task costs alone: nanoseconds as float64 columns of length n.

    Compute: `sm_ns` is FLOP-bound time on `sm_want` SMs, `mem_ns` memory-bound time with the HBM to
    itself, `fixed_ns` launch gaps and latencies; `sm_drag` and `mem_drag` are the fractions by
    which the first two grow beside one transfer that draws on HBM and L2 (measured).
    Transfer: `port` (n, 4) holds port ids (-1: none), `port_ns` (n, 4) the time the bytes take on
    that port alone, `floor_ns` the time the copying SMs need, `latency_ns` the part that moves no
    bytes, `sms` the SMs held while running, `draw_milli` how strongly it drags on compute
    beside it, in thousandths of one measured all-to-all transfer (an integer, so that sums have no
    order).
    `hardware_sms` and `comm_sms` are those of a GPU; `static_split` reserves the latter always.
    """

    program: Program
    sm_ns: F64
    mem_ns: F64
    fixed_ns: F64
    sm_want: I32
    sm_drag: F64
    mem_drag: F64
    port: I32
    port_ns: F64
    floor_ns: F64
    latency_ns: F64
    sms: I32
    draw_milli: I32
    n_ports: int
    hardware_sms: int
    comm_sms: int
    static_split: bool

    @property
    def alone_ns(self) -> F64:
        """Duration of each task with its GPU and ports to itself; 0 for a sync."""
        used = np.where(self.port >= 0, self.port_ns, 0.0)
        bytes_ns = np.maximum(self.floor_ns, used.max(axis=1, initial=0.0))
        alone = self.sm_ns + self.mem_ns + self.fixed_ns + self.latency_ns + bytes_ns
        return np.where(self.program.kind == Kind.SYNC, 0.0, alone)
