"""Quantities over time that a trace shows as counters: memory, SMs in use, load of links."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.analysis.sm_use import sm_use, steps
from simdeep.cost.unequal import IB_IN, IB_OUT, NVL_IN, NVL_OUT, PORTS
from simdeep.program.columns import I64

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


def counters(timeline: Timeline, memory: Memory, ranks: Sequence[int]) -> Iterator[Counter]:
    """Counters of some ranks: HBM in GiB, SMs in use, load of the links in percent.

    A link's load is the share of its bandwidth that the transfers running on it need on average
    over their own spans; a transfer's setup moves no bytes but counts in its span.
    """
    program = timeline.program
    order = np.argsort(program.rank, kind="stable")
    bounds = np.searchsorted(program.rank[order], np.arange(program.n_ranks + 1))
    owner, amount = _port_use(timeline)
    for rank in sorted({*ranks} & {*range(program.n_ranks)}):
        at, used = memory.timeline(rank)
        yield Counter(rank, "HBM (GiB)", at, {"used": used / GIB})
        rows = order[bounds[rank] : bounds[rank + 1]]
        use = sm_use(timeline, rows[timeline.end_ns[rows] > timeline.start_ns[rows]])
        values = {"computing": use.computing, "copying": use.copying}
        yield Counter(rank, "SMs in use", use.at_ns, values)
        for port, name in _LINKS.items():
            on = np.flatnonzero(owner[:, port] == rank)
            if len(on):
                edges, level = steps(timeline.start_ns[on], timeline.end_ns[on], amount[on, port])
                yield Counter(rank, f"{name} load (%)", edges, {"load": 100 * level})


def _port_use(timeline: Timeline) -> tuple[I64, npt.NDArray[np.float64]]:
    """Rank whose port a task uses (-1: none) and the share of it over the span, both [tasks, 4]."""
    port = timeline.priced.port.astype(np.int64)
    lasted = np.maximum(timeline.end_ns - timeline.start_ns, 1)[:, None]
    owner: I64 = np.where(port >= 0, port // PORTS, -1)
    return owner, np.where(port >= 0, timeline.priced.port_ns / lasted, 0.0)
