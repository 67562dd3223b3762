"""Naming the cycle of a program that cannot finish (both engines give the same text)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from simdeep.errors import DeadlockError
from simdeep.program.columns import Program


def explain(
    program: Program, done: npt.NDArray[np.bool_], heads: Mapping[tuple[int, int], int]
) -> DeadlockError:
    """The error for a run that stopped early.

    `done` marks the tasks that ended; `heads` gives the next task of each unfinished
    (rank, stream). From the lowest stream on, each head is followed to the first thing it waits
    for until a stream comes up twice: that is the cycle.
    """
    members: dict[int, list[int]] = {}
    for member in np.flatnonzero((program.group >= 0) & ~done).tolist():
        members.setdefault(int(program.group[member]), []).append(member)

    def waits_for(task: int) -> int:
        for dep in program.dependencies(task).tolist():
            if not done[dep]:
                return int(dep)
        for member in members.get(int(program.group[task]), []):
            where = (int(program.rank[member]), int(program.stream[member]))
            ready = heads.get(where) == member and bool(done[program.dependencies(member)].all())
            if member != task and not ready:
                return member
        raise AssertionError(f"task {task} waits for nothing")

    where = min(heads)
    seen: dict[tuple[int, int], int] = {}
    lines: list[str] = []
    while where not in seen:
        seen[where] = len(lines)
        task = heads[where]
        target = waits_for(task)
        lines.append(f"  {program.describe(task)} waits for {program.describe(target)}")
        where = (int(program.rank[target]), int(program.stream[target]))
    cycle = "\n".join(lines[seen[where] :])
    return DeadlockError(
        f"the program cannot finish: {int((~done).sum())} of {program.n} tasks never ran; cycle:\n"
        f"{cycle}"
    )
