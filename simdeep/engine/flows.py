"""Flows that share links: max-min fair rates, computed anew whenever a flow begins or ends.

A flow is bytes that cross a set of links at one rate: a send over its route, or several sends that
are pipelined (two hops of a dispatch, a whole ring), whose slowest link sets the pace of all. It
may begin when its start time has come and the flows it comes after have ended; then passes
`overhead` (set-up of the message, no link held), then its bytes move, then passes `latency` until
the last byte is there and the flow has ended.

Rates are max-min fair (Bertsekas and Gallager, Data Networks, sec 6.5.2): no link carries more
than its bandwidth, and each flow runs at its cap or has a bottleneck, a full link over which no
flow is faster. `count` equal flows over the same links may be given as one.

Time is whole nanoseconds: a flow moves its bytes until the first whole nanosecond at which all are
gone, and its share passes on then. At one moment, ends come first, then begins, then rates; flows
and links tie by a key of their content, so that the order in which flows are given changes
nothing but the order of the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from simdeep.engine.flows_input import (
    F64,
    I64,
    NS,
    Columns,
    PathLike,
    check,
    cycle,
    successors,
)
from simdeep.errors import DeadlockError


@dataclass(frozen=True, slots=True, eq=False)
class Csr:
    """Lists of links (a `PathLike`): those of row i are `links[ptr[i]:ptr[i + 1]]`."""

    ptr: I64
    links: I64

    @classmethod
    def of(cls, rows: list[list[int]]) -> Csr:
        """From one list a row."""
        ptr = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        return cls(ptr, np.array([x for row in rows for x in row], dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class FlowResult:
    """When each flow ran and what each link carried.

    `start_ns` is when a flow may begin, `sent_ns` when its last byte has left, `end_ns` when that
    has arrived. `bottleneck` is the link that limited a flow when it ended (-1: its cap, or it had
    nothing to send). `link_bytes` and `link_busy_ns` are bytes over each link and time with
    anything on it; `fills` counts the times rates were computed.
    """

    start_ns: I64
    sent_ns: I64
    end_ns: I64
    bottleneck: I64
    link_bytes: F64
    link_busy_ns: I64
    link_bandwidth: F64
    fills: int

    @property
    def start(self) -> F64:
        """Seconds at which each flow may begin."""
        return self.start_ns / NS

    @property
    def end(self) -> F64:
        """Seconds at which each flow has arrived."""
        return self.end_ns / NS

    @property
    def makespan_s(self) -> float:
        """Seconds until the last flow has arrived."""
        return float(self.end_ns.max(initial=0)) / NS

    @property
    def utilisation(self) -> F64:
        """Share of each link's bandwidth used until the last flow has arrived."""
        span = self.makespan_s
        return self.link_bytes / self.link_bandwidth / span if span else 0.0 * self.link_bytes


def simulate(
    paths: PathLike,
    nbytes: npt.ArrayLike,
    start_s: npt.ArrayLike,
    latency_s: npt.ArrayLike,
    link_bandwidth: npt.ArrayLike,
    *,
    overhead_s: npt.ArrayLike = 0.0,
    rate_cap: npt.ArrayLike = np.inf,
    count: npt.ArrayLike = 1,
    after: PathLike | None = None,
    resolution: float = 0.0,
) -> FlowResult:
    """Run flows to their end.

    Args:
        paths: links each flow crosses.
        nbytes: bytes of one flow (of each of the `count`).
        start_s: earliest start of each flow.
        latency_s: seconds from the last byte sent to its arrival.
        link_bandwidth: B/s of each link, shape [links]; a link that is used must have some.
        overhead_s: seconds a message takes before its first byte.
        rate_cap: B/s one flow may reach at most (what its SMs copy).
        count: how many equal flows each stands for, all with a fair share of their own.
        after: flows that each flow waits for (their ends), as lists of flow numbers.
        resolution: rates are computed at most every `resolution` x (time the busiest link needs
            for its bytes); until then bandwidth that is given back stays unused. 0: at once.
            For tens of thousands of flows of unequal size, 0.005 bounds the work.

    Raises:
        InputError: a used link without bandwidth, a negative size, links that do not exist.
        DeadlockError: flows that wait for each other.
    """
    f = check(paths, nbytes, start_s, latency_s, link_bandwidth, overhead_s, rate_cap, count)
    kernel = _kernels()
    next_ptr, next_idx, waiting = successors(after, f.n)
    tied = waiting > 0
    tied[np.flatnonzero(np.diff(next_ptr))] = True
    order, first = kernel.group(f, tied)
    leads = order[first]
    group_of = np.empty(f.n, np.int64)
    group_of[order] = np.cumsum(first) - 1
    total = np.bincount(group_of, weights=f.count, minlength=len(leads))
    ptr, links = kernel.take(f.ptr, f.links, leads)
    keep = kernel.binding(ptr, links, f.capacity)
    bind_ptr, bind_links = kernel.keep(ptr, links, keep)
    # Dependent flows are their group's only member, so successors carry over one to one.
    lead_next_ptr, lead_next = kernel.take(next_ptr, next_idx, leads)

    sizes = f.nbytes[leads]
    link_bytes: F64 = np.bincount(
        links, weights=np.repeat(sizes * total, np.diff(ptr)), minlength=len(f.capacity)
    ).astype(np.float64)
    ideal_ns = float((link_bytes / np.where(link_bytes > 0, f.capacity, 1.0)).max(initial=0.0))
    n, n_links = len(leads), len(f.capacity)
    ready, sent, end = (np.zeros(n, np.int64) for _ in range(3))
    bottleneck, busy = np.full(n, -1, np.int64), np.zeros(n_links, np.int64)
    fills = kernel.run_loop(
        bind_ptr,
        bind_links,
        ptr,
        links,
        sizes,
        f.start[leads],
        f.overhead[leads],
        f.latency[leads],
        f.cap[leads],
        total,
        waiting[leads],
        lead_next_ptr,
        group_of[lead_next],
        f.capacity,
        max(1, int(resolution * ideal_ns)),
        ready,
        sent,
        end,
        bottleneck,
        busy,
    )
    if (end < 0).any():
        raise DeadlockError(cycle(np.flatnonzero(end[group_of] < 0), after))
    return FlowResult(
        start_ns=ready[group_of],
        sent_ns=sent[group_of],
        end_ns=end[group_of],
        bottleneck=bottleneck[group_of],
        link_bytes=link_bytes,
        link_busy_ns=busy,
        link_bandwidth=f.capacity * NS,
        fills=int(fills),
    )


def fair_rates(
    paths: PathLike,
    link_bandwidth: npt.ArrayLike,
    *,
    rate_cap: npt.ArrayLike = np.inf,
    count: npt.ArrayLike = 1,
) -> tuple[F64, I64]:
    """Max-min fair rates (B/s) of flows that all run, and each one's bottleneck (-1: its cap)."""
    f = check(paths, 0.0, 0.0, 0.0, link_bandwidth, 0.0, rate_cap, count)
    rate, bottleneck = np.full(f.n, np.inf), np.full(f.n, -1, np.int64)
    _kernels().rates(f.ptr, f.links, f.count, f.cap, f.capacity, rate, bottleneck)
    return rate * NS, bottleneck


def warm_up() -> None:
    """Compile, or load what was compiled before."""
    simulate(Csr.of([[0], [0]]), 1.0, 0.0, 0.0, [1.0], after=Csr.of([[], [0]]))
    fair_rates(Csr.of([[0]]), [1.0])


class _Kernels:
    """The compiled functions. Numba is imported here, as it takes longer than most commands."""

    def __init__(self) -> None:
        from simdeep.engine import flows_fill, flows_group, flows_loop

        self.run_loop: Callable[..., int] = flows_loop.run_loop
        self.rates: Callable[..., None] = flows_fill.rates
        self.binding: Callable[[I64, I64, F64], npt.NDArray[np.bool_]] = flows_fill.binding
        self.take: Callable[[I64, I64, I64], tuple[I64, I64]] = flows_group.take
        self.keep: Callable[[I64, I64, npt.NDArray[np.bool_]], tuple[I64, I64]] = flows_group.keep
        self._keys: Callable[..., None] = flows_group.keys
        self._first: Callable[..., npt.NDArray[np.bool_]] = flows_group.first_of_group

    def group(self, f: Columns, tied: npt.NDArray[np.bool_]) -> tuple[I64, npt.NDArray[np.bool_]]:
        """An order of the flows that their content gives, and where in it each group begins.

        `tied` flows, those with predecessors or successors, stay alone.
        """
        key = np.empty(f.n, np.uint64)
        as_bits = (f.nbytes.view(np.int64), f.start, f.overhead, f.latency, f.cap.view(np.int64))
        self._keys(f.ptr, f.links, *as_bits, key)
        order = np.argsort(key, kind="stable")
        first = self._first(f.ptr, f.links, *as_bits, key, order, tied)
        return order, first


@cache
def _kernels() -> _Kernels:
    return _Kernels()
