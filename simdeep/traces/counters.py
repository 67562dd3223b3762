"""Quantities over time that a trace shows as counters: memory, SMs in use, load of links."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.cost.unequal import IB_IN, IB_OUT, NVL_IN, NVL_OUT, PORTS
from simdeep.program.columns import I64, Kind

if TYPE_CHECKING:
    from simdeep.analysis.memory import Memory
    from simdeep.engine.timeline import Timeline

GIB = 2**30
_LINKS = {IB_OUT: "NIC out", IB_IN: "NIC in", NVL_OUT: "NVLink out", NVL_IN: "NVLink in"}


@dataclass(frozen=True, eq=False)
class Counter:
    """A quantity of one rank that changes in steps: `values[i]` holds from `at_ns[i]` on."""

    rank: int
    name: str
    at_ns: I64
    values: dict[str, npt.NDArray[np.float64]]


def counters(timeline: Timeline, memory: Memory) -> Iterator[Counter]:
    """Counters of every rank: HBM in GiB, SMs in use, load of the links in percent.

    A link's load is the share of its bandwidth that the transfers running on it need on average
    over their own spans; a transfer's setup moves no bytes but counts in its span.
    """
    program = timeline.program
    order = np.argsort(program.rank, kind="stable")
    bounds = np.searchsorted(program.rank[order], np.arange(program.n_ranks + 1))
    owner, amount = _port_use(timeline)
    for rank in range(program.n_ranks):
        at, used = memory.timeline(rank)
        yield Counter(rank, "HBM (GiB)", at, {"used": used / GIB})
        rows = order[bounds[rank] : bounds[rank + 1]]
        yield _sms(timeline, rank, rows[timeline.end_ns[rows] > timeline.start_ns[rows]])
        for port, name in _LINKS.items():
            on = np.flatnonzero(owner[:, port] == rank)
            if len(on):
                edges, level = _steps(timeline.start_ns[on], timeline.end_ns[on], amount[on, port])
                yield Counter(rank, f"{name} load (%)", edges, {"load": 100 * level})


def _port_use(timeline: Timeline) -> tuple[I64, npt.NDArray[np.float64]]:
    """Rank whose port a task uses (-1: none) and the share of it over the span, both [tasks, 4]."""
    port = timeline.priced.port.astype(np.int64)
    lasted = np.maximum(timeline.end_ns - timeline.start_ns, 1)[:, None]
    owner: I64 = np.where(port >= 0, port // PORTS, -1)
    return owner, np.where(port >= 0, timeline.priced.port_ns / lasted, 0.0)


def _sms(timeline: Timeline, rank: int, rows: I64) -> Counter:
    """SMs of one rank that transfers hold and that its compute stream's task may use."""
    program, priced = timeline.program, timeline.priced
    start, end = timeline.start_ns[rows], timeline.end_ns[rows]
    held = np.where(program.kind[rows] == Kind.TRANSFER, priced.sms[rows], 0).astype(np.float64)
    compute = program.kind[rows] == Kind.COMPUTE
    edges = np.unique(np.concatenate((start, end)))
    copying = _at(edges, *_steps(start, end, held))
    free = priced.hardware_sms - (priced.comm_sms if priced.static_split else copying)
    # A memory-bound kernel wants no SMs of its own in particular: it spreads over all it may use.
    want = np.where(priced.sm_want[rows] > 0, priced.sm_want[rows], priced.hardware_sms)
    wanted = _at(edges, *_steps(start[compute], end[compute], want[compute].astype(np.float64)))
    values = {"computing": np.minimum(wanted, free), "copying": copying}
    return Counter(rank, "SMs in use", edges, values)


def _steps(
    start: I64, end: I64, amount: npt.NDArray[np.float64]
) -> tuple[I64, npt.NDArray[np.float64]]:
    """Sum of the amounts of intervals over time: from edges[i] on it is level[i]."""
    edges, index = np.unique(np.concatenate((start, end)), return_inverse=True)
    change = np.zeros(len(edges))
    np.add.at(change, index, np.concatenate((amount, -amount)))
    # What is left of a sum of floats after all were taken away again is not a load.
    level: npt.NDArray[np.float64] = np.cumsum(change).round(9)
    return edges, level


def _at(moments: I64, edges: I64, level: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A step function's values at some moments, 0 before its first edge."""
    index = np.searchsorted(edges, moments, side="right")
    return np.concatenate(([0.0], level))[index]
