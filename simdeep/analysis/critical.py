"""The critical path: blame followed back from the end of the step.

Each task on it began the moment the one before it ended, so the path's parts add up to the
makespan. A part's time says where a faster resource could shorten the step, not by how much:
another path may be nearly as long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.analysis.blame import Blame, Part, find_blame, part_codes
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I64

WAIT = Part("wait")


@dataclass(frozen=True, eq=False)
class CriticalPath:
    """Tasks from the first to the last of the step (`rows`), and the path's time by part.

    `ns` sums to the makespan. `wait` is time in which no task of the path ran: zero in a timeline
    whose first task starts at 0 and whose tasks start when they can.
    """

    rows: I64
    ns: dict[Part, int]

    def by_group(self) -> dict[str, int]:
        """Nanoseconds of the path by group (`computing`, `exposed_comm`, ...)."""
        sums: dict[str, int] = {}
        for part, ns in self.ns.items():
            sums[part.group] = sums.get(part.group, 0) + ns
        return sums


def critical_path(timeline: Timeline, blame: Blame | None = None) -> CriticalPath:
    """Follow blame back from the task that ends last (the first such row) to the start.

    Args:
        timeline: what ran when.
        blame: `find_blame(timeline)`, if already at hand.
    """
    program = timeline.program
    if not program.n:
        return CriticalPath(np.zeros(0, np.int64), {})
    cause = (blame or find_blame(timeline)).cause
    found = [int(timeline.end_ns.argmax())]
    while (at := cause.item(found[-1])) >= 0:
        found.append(at)
    rows = np.array(found[::-1], np.int64)

    codes = part_codes(program)
    begun, ended = timeline.start_ns[rows], timeline.end_ns[rows]
    idle = int(begun[0] + (begun[1:] - ended[:-1]).sum())
    sums = np.zeros(len(codes.parts), np.int64)
    np.add.at(sums, codes.code[rows], ended - begun)
    ns = {part: total for part, total in zip(codes.parts, sums.tolist(), strict=True) if total}
    ns = dict(sorted(ns.items(), key=lambda item: (-item[1], item[0])))
    if idle:
        ns[WAIT] = idle
    return CriticalPath(rows, ns)
