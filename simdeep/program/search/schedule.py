"""Schedule search: an order with a small makespan, and how far from the best it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from simdeep.errors import InputError, Problem
from simdeep.program.schedule.check import check
from simdeep.program.schedule.replay import Spans, replay
from simdeep.program.schedule.table import Table
from simdeep.program.search.bound import Bound, lower_bound
from simdeep.program.search.flat import Rows, decode, encode, flatten
from simdeep.program.search.known import known_tables, serial_table
from simdeep.program.search.problem import Placement, Task
from simdeep.program.search.rules import Rules

NAME = "auto"
"""Name of a table that a search made."""

_NODES = {36: 4_000_000, 48: 200_000}
"""Partial orders that branch and bound looks at, for so many actions: seconds at most."""

_KEPT = 3
"""Best rows that local search starts from."""

_MADE = 24_000_000
_TRIES = 300
_QUICK = 3_000_000
"""Cells that list scheduling makes at most (seconds), rules it tries at most; more of them, up to
500, where they make no more cells than the last number (half a second)."""

_CELLS = 9_000_000
"""Cells that local search replays: about a quarter of a second."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    Attributes:
        table: the order, checked and within memory.
        spans: its replay under the task's costs.
        value: of the goal, in the unit of the costs.
        bound: no order of this placement within this memory is below it.
        optimal: whether it is proven that none is better (of orders that start cells as soon as
            they can).
        source: the name of the published or given table it is, or `auto`.
        known: the goal's value of each published table of this placement; None if it does not fit.
    """

    task: Task
    table: Table
    spans: Spans
    value: float
    bound: Bound
    optimal: bool
    source: str
    known: dict[str, float | None]

    @property
    def gap(self) -> float:
        """How far above the bound, as a share of it."""
        return self.value / self.bound.value - 1 if self.bound.value else 0.0


def goal_value(spans: Spans, task: Task) -> float:
    """The task's goal of a replayed table."""
    return spans.makespan if task.goal == "makespan" else spans.longest_rank_span


def search_schedule(
    task: Task, *, effort: float = 1.0, seed: int = 0, starts: Sequence[Table] = ()
) -> Found:
    """Look for the best order of a placement within memory.

    Published tables that fit, list scheduling under many rules, local search from the best of
    them, and for tiny tasks branch and bound. Never worse than the published tables of the
    placement and `starts` that fit. The same arguments give the same table.

    Args:
        task: placement, costs, memory, goal.
        effort: factor on the number of rules and of local search's rounds.
        seed: of the random choices.
        starts: further tables of this placement to begin with.
    """
    bound = lower_bound(task)
    published = known_tables(task.placement)
    known_names = {table.name for table in published}
    named = {table.name: table for table in published}
    for number, table in enumerate(starts):
        if Placement.of(table).stage_ranks != task.placement.stage_ranks:
            message = f"{table.name} has its stages on other ranks than {task.placement.name}"
            raise InputError([Problem("", f"starts[{number}]", message)])
        named[f"start {number}" if table.name in known_names else table.name] = table
    fits = {name: task.activations.fits(table) for name, table in named.items()}
    spans = {name: replay(table, task.costs) for name, table in named.items() if fits[name]}
    known = {t.name: goal_value(spans[t.name], task) if fits[t.name] else None for t in published}
    best = min(spans, key=lambda name: goal_value(spans[name], task), default=None)
    best_value = inf if best is None else goal_value(spans[best], task)
    optimal = best_value <= bound.value * (1 + 1e-9)
    chosen = None if best is None else named[best]
    if not optimal or chosen is None:
        searcher = _Searcher(task, bound, effort, seed)
        made, optimal = searcher.run([named[name] for name in spans])
        made_spans = replay(check(made), task.costs)
        if chosen is None or goal_value(made_spans, task) < best_value:
            chosen, best, best_value = made, NAME, goal_value(made_spans, task)
            spans[NAME] = made_spans
    assert best is not None
    assert chosen is not None
    return Found(task, chosen, spans[best], best_value, bound, optimal, best, known)


class _Searcher:
    """The compiled part: rows in, better rows out."""

    def __init__(self, task: Task, bound: Bound, effort: float, seed: int):
        self.task, self.bound, self.effort, self.seed = task, bound, effort, seed
        self.flat = flatten(task)
        self.spans = task.goal == "rank_span"
        self.cells = 3 * self.flat.microbatches * len(self.flat.rank)
        self.pool: list[tuple[float, float, Rows]] = []

    def run(self, tables: Sequence[Table]) -> tuple[Table, bool]:
        """The best table found, and whether none can be better."""
        for table in tables:
            self._add(encode(table, self.flat))
        self._dispatch()
        if not self.pool:
            self._add(encode(serial_table(self.task.placement), self.flat))
        if not self._done:
            self._improve()
        proven = self._done
        nodes = next((most for cells, most in _NODES.items() if self.cells <= cells), 0)
        if not proven and nodes and not self.spans:
            proven = self._exact(nodes)
        rows = self.pool[0][2]
        return decode(rows, self.task, self.flat, NAME), proven

    @property
    def _done(self) -> bool:
        return bool(self.pool) and self.pool[0][0] <= self.bound.value * (1 + 1e-9)

    def _add(self, rows: Rows) -> tuple[float, float] | None:
        """Put rows into the pool; returns their goal's value and the finer one, None if stuck."""
        from simdeep.program.search.replay_kernel import goal_of, run_rows

        flat = self.flat
        start = np.zeros(rows.code.shape)
        ends = [np.zeros((len(flat.rank), flat.microbatches)) for _ in range(2)]
        if not run_rows(flat, rows.code, rows.length, start, *ends):
            return None
        value, fine, _ = goal_of(flat, rows.code, rows.length, start, self.spans)
        self.pool.append((value, fine, rows))
        self.pool.sort(key=lambda entry: entry[:2])
        del self.pool[_KEPT:]
        return value, fine

    def _dispatch(self) -> None:
        """List scheduling: rules varied one at a time from the best so far."""
        tries = int(np.clip(_MADE / self.cells, 60, _TRIES) * self.effort)
        tries = max(tries, int(min(_QUICK / self.cells, 500) * self.effort), 20)
        rules = Rules(self.flat, self.spans)
        least = (inf, inf)
        for rule in rules.walk(tries):
            rows = rules.made(rule)
            value = None if rows is None else self._add(rows)
            if value is not None and value < least:
                least, rules.best = value, rule
            if self._done:
                break

    def _improve(self) -> None:
        from simdeep.program.search.improve_kernel import improve

        rounds = int(max(300, _CELLS * self.effort / self.cells))
        limit = self.bound.value
        chosen = tuple(self.pool)
        for number, (_, _, rows) in enumerate(chosen):
            code = rows.code.copy()
            share = rounds // 2 if number == 0 else rounds // 4
            improve(self.flat, code, rows.length, self.spans, limit, share, self.seed + number)
            self._add(Rows(code, rows.length))
            if self._done:
                break

    def _exact(self, nodes: int) -> bool:
        from simdeep.program.search.bound import remainders
        from simdeep.program.search.exact_kernel import branch

        flat = self.flat
        code = np.full((flat.n_ranks, self.cells), -1, np.int32)
        length = np.zeros(flat.n_ranks, np.int64)
        upper = self.pool[0][0]
        value, proven = branch(
            flat, *remainders(self.task, flat), upper, self.bound.value, nodes, code, length
        )
        if value < upper:
            self._add(Rows(code, length))
        return bool(proven)
