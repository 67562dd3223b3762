"""How many of a rank's SMs compute and how many copy, over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.engine.timeline import Timeline
from simdeep.program.columns import F64, I64, Kind


@dataclass(frozen=True, eq=False)
class SmUse:
    """Steps: from `at_ns[i]` on, `computing[i]` SMs compute and transfers hold `copying[i]`."""

    at_ns: I64
    computing: F64
    copying: F64


def sm_use(timeline: Timeline, rows: I64) -> SmUse:
    """SMs in use by the tasks `rows` of one rank.

    Args:
        timeline: what ran when.
        rows: tasks of one rank that took time.
    """
    program, priced = timeline.program, timeline.priced
    start, end = timeline.start_ns[rows], timeline.end_ns[rows]
    compute = program.kind[rows] == Kind.COMPUTE
    edges, copying = steps(start, end, np.where(compute, 0, priced.sms[rows]).astype(np.float64))
    free = priced.hardware_sms - (priced.comm_sms if priced.static_split else copying)
    # A memory-bound kernel wants no SMs of its own in particular: it spreads over all it may use.
    want = np.where(priced.sm_want[rows] > 0, priced.sm_want[rows], priced.hardware_sms)
    _, wanted = steps(start, end, np.where(compute, want, 0).astype(np.float64))
    return SmUse(edges, np.minimum(wanted, free), copying)


def steps(start: I64, end: I64, amount: F64) -> tuple[I64, F64]:
    """Sum of the amounts of intervals over time: from edges[i] on it is level[i]."""
    edges, index = np.unique(np.concatenate((start, end)), return_inverse=True)
    change = np.zeros(len(edges))
    np.add.at(change, index, np.concatenate((amount, -amount)))
    # What is left of a sum of floats after all were taken away again is nothing.
    level: F64 = np.cumsum(change).round(9)
    return edges, level
