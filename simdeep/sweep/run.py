"""A whole sweep: what the store has is taken from it, the rest is computed and kept."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from simdeep.sweep.backends import Workers, compute
from simdeep.sweep.evaluate import Row, Status, make_row
from simdeep.sweep.plan import Plan, Point, unique
from simdeep.sweep.store import Store

_TELL_S = 0.25


@dataclass(frozen=True)
class Swept:
    """Rows in the order of the points. `computed` counts those that were not in the store."""

    plan: Plan
    points: tuple[Point, ...]
    rows: tuple[Row, ...]
    computed: int


def sweep(
    plan: Plan,
    points: Sequence[Point],
    store: Store,
    workers: Workers,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Swept:
    """Compute what the store lacks of these points.

    Another sweep may work on the same store: its rows are used as they come. A failed point is in
    the answer but not in the store, so that the next sweep tries it again.

    Args:
        plan: the sweep.
        points: those of it that are asked for.
        store: open.
        workers: checked.
        tell: told now and then how many points are done, of how many that are to be computed.
    """
    wanted = unique(points)
    missing = [point for point in wanted if point.key not in store.rows]
    illegal = [point for point in missing if point.reason]
    store.append(make_row(p.key, p.values, Status.ILLEGAL, p.reason) for p in illegal)
    todo = [point for point in missing if not point.reason]
    failed: dict[str, Row] = {}
    computed = _compute(plan, todo, store, workers, failed, tell) if todo else 0
    rows = [store.rows.get(point.key) or failed[point.key] for point in points]
    return Swept(plan, tuple(points), tuple(rows), computed)


def _compute(
    plan: Plan,
    todo: list[Point],
    store: Store,
    workers: Workers,
    failed: dict[str, Row],
    tell: Callable[[int, int], None],
) -> int:
    # Two sweeps on one store start at different places and skip what the other has done.
    start = random.Random().randrange(len(todo))
    turned = todo[start:] + todo[:start]

    def still_missing() -> Iterator[Point]:
        return (point for point in turned if point.key not in store.rows)

    computed = 0
    told = -math.inf
    for row in compute(plan, still_missing(), workers):
        computed += 1
        if row["status"] == Status.FAILED:
            failed[row["key"]] = row
        else:
            store.append([row])
        if time.monotonic() - told >= _TELL_S:
            told = time.monotonic()
            done = sum(point.key in store.rows for point in todo)
            tell(done + len(failed), len(todo))
    return computed
