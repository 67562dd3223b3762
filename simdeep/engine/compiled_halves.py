"""Two halves of a cluster that meet late, on two threads.

Expert-parallel groups of different replicas do nothing together until they reduce gradients. A
program is cut by ranks into two halves that share no dependency and no port, only some groups, the
*crossing* ones. No crossing group can start before both halves have one whose members here are all
ready; up to that moment each half is simulated by itself, from then on both as one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simdeep.engine.compiled_tasks import Tasks
from simdeep.program.columns import I64

Bool = npt.NDArray[np.bool_]

WORTHWHILE = 100_000
"""Tasks from which on a second thread saves more than it costs."""

_SMALLEST = 0.2  # of all tasks, that a half must have to be worth a thread
_MOST_CROSSING = 0.02  # of all tasks, in crossing groups: with more of them halves meet early


def halves(tasks: Tasks) -> Bool | None:
    """For each rank whether it belongs to the second half; None where a cut is not worthwhile."""
    if tasks.n < WORTHWHILE or len(tasks.ranks) < 2:
        return None
    root = components(tasks)
    names, part = np.unique(root, return_inverse=True)
    if len(names) < 2:
        return None
    sizes = np.bincount(part, weights=_tasks_of_ranks(tasks), minlength=len(names))
    second = np.zeros(len(names), np.bool_)
    loads = [0.0, 0.0]
    for piece in np.argsort(-sizes, kind="stable").tolist():
        lighter = int(loads[1] < loads[0])
        loads[lighter] += sizes[piece]
        second[piece] = bool(lighter)
    cut = second[part]
    missing = members_by_half(tasks, cut)
    crossing = missing[:, (missing > 0).all(axis=0)].sum()
    worthwhile = min(loads) >= _SMALLEST * tasks.n and crossing <= _MOST_CROSSING * tasks.n
    return cut if worthwhile else None


def members_by_half(tasks: Tasks, second: Bool) -> npt.NDArray[np.int32]:
    """Members of each group in each half, [halves, groups]."""
    there = second[tasks.streams["rank"][tasks.members["stream"]]]
    group = np.repeat(np.arange(len(tasks.member_ptr) - 1), np.diff(tasks.member_ptr))
    n = len(tasks.member_ptr) - 1
    sizes = [np.bincount(group[there == half], minlength=n) for half in (False, True)]
    return np.stack(sizes).astype(np.int32)


def _tasks_of_ranks(tasks: Tasks) -> I64:
    counts = tasks.streams["stop"] - tasks.streams["head"]
    weights = np.bincount(tasks.streams["rank"], weights=counts, minlength=len(tasks.ranks))
    return weights.astype(np.int64)


def components(tasks: Tasks) -> I64:
    """Ranks joined by dependencies, ports and groups, the widest groups left out.

    Groups are taken in by size, smallest first, for as long as ranks remain that nothing joins.
    """
    from simdeep.engine import compiled_build as build

    rank_of = tasks.streams["rank"].copy()
    root = np.arange(len(tasks.ranks))
    build.join_dependants(root, tasks.streams, tasks.tasks, tasks.next_of)
    build.join_ports(root, tasks.streams, tasks.tasks, tasks.uses, tasks.n_ports)
    sizes = np.diff(tasks.member_ptr)
    for size in np.unique(sizes).tolist():
        joined = root.copy()
        groups = np.flatnonzero(sizes == size)
        build.join_groups(joined, rank_of, tasks.members, tasks.member_ptr, groups)
        if len(np.unique(build.roots(joined))) < 2:
            break
        root = joined
    found: I64 = build.roots(root)
    return found
