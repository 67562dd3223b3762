"""The compiled engine: the same rules as `reference`, the same timeline, over flat arrays.

A stream runs at most one task, so everything that runs is kept by stream: an indexed heap of end
times, and for each port a linked list of the streams that use it. An instant is worked off in two
steps, as in the reference: first everything that ends and starts, then new speeds for whoever
shares a resource that someone entered or left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from simdeep.engine.deadlock import explain
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import Priced


def run(priced: Priced) -> Timeline:
    """Run a priced program to its end.

    Raises:
        DeadlockError: if tasks remain that wait for each other.
    """
    kernel = _kernel()
    arrays = _arrays(priced)
    began = time.perf_counter()
    start, end, head = kernel(*arrays.arguments)
    wall_s = time.perf_counter() - began
    if (end < 0).any():
        _explain(priced, arrays, end, head)
    return Timeline(priced=priced, start_ns=start, end_ns=end, engine="compiled", wall_s=wall_s)


class _Arrays:
    """What the compiled loop reads, and the keys of its streams."""

    def __init__(self, priced: Priced):
        p, program = priced, priced.program
        n = program.n
        n_streams = len(program.streams)
        key = program.rank.astype(np.int64) * n_streams + program.stream
        order = np.argsort(key, kind="stable")
        self.keys, counts = np.unique(key, return_counts=True)
        self.queue = order.astype(np.int64)
        self.queue_ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        stream_of = np.searchsorted(self.keys, key).astype(np.int32)

        waiting = np.diff(program.dep_ptr).astype(np.int32)
        owner = np.repeat(np.arange(n, dtype=np.int64), waiting)
        by_dep = np.argsort(program.dep_idx, kind="stable")
        next_ptr = np.concatenate([[0], np.cumsum(np.bincount(program.dep_idx, minlength=n))])

        in_group = np.flatnonzero(program.group >= 0)
        groups, group_of_member = np.unique(program.group[in_group], return_inverse=True)
        group = np.full(n, -1, np.int32)
        group[in_group] = group_of_member
        member_order = np.argsort(group_of_member, kind="stable")
        member_ptr = np.concatenate([[0], np.cumsum(np.bincount(group_of_member))])

        self.arguments = (
            self.queue,
            self.queue_ptr,
            stream_of,
            program.rank,
            program.kind,
            waiting,
            owner[by_dep],
            next_ptr.astype(np.int64),
            group,
            in_group[member_order].astype(np.int64),
            member_ptr.astype(np.int64),
            len(groups),
            p.alone_ns,
            p.sm_ns,
            p.mem_ns,
            p.fixed_ns,
            p.sm_want,
            p.sm_drag,
            p.mem_drag,
            p.latency_ns,
            p.floor_ns,
            p.port,
            np.where(p.port_ns > 0, p.port_ns, 0.0),
            p.sms,
            p.draw_milli,
            program.n_ranks,
            p.n_ports,
            p.hardware_sms - p.comm_sms if p.static_split else p.hardware_sms,
            p.static_split,
            # Streams of a rank are neighbours in `keys`.
            np.searchsorted(self.keys, np.arange(program.n_ranks + 1) * n_streams),
        )


def _arrays(priced: Priced) -> _Arrays:
    return _Arrays(priced)


def _explain(
    priced: Priced, arrays: _Arrays, end: npt.NDArray[np.int64], head: npt.NDArray[np.int64]
) -> None:
    program = priced.program
    heads = {}
    for stream in np.flatnonzero(head < arrays.queue_ptr[1:]):
        task = int(arrays.queue[head[stream]])
        heads[int(program.rank[task]), int(program.stream[task])] = task
    raise explain(program, end >= 0, heads)


def warm_up() -> float:
    """Compile (or load from the cache on disk) and return the seconds it took."""
    began = time.perf_counter()
    _kernel()
    return time.perf_counter() - began


@cache
def _kernel() -> Callable[..., Any]:
    """The event loop, compiled. Numba is imported here, as it takes longer than most commands."""
    from simdeep.engine import compiled_loop

    return compiled_loop.run_loop
