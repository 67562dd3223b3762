"""The published tables that a placement admits: where a search starts, and what it must beat."""

from __future__ import annotations

from simdeep.errors import InputError
from simdeep.program.schedule.actions import Act, Cell
from simdeep.program.schedule.registry import build_table, schedule_names
from simdeep.program.schedule.table import Table
from simdeep.program.search.problem import Placement


def serial_table(placement: Placement) -> Table:
    """One micro-batch after the other: the order that needs the least memory."""
    n, count = placement.n_stages, placement.microbatches
    rows: list[list[Cell]] = [[] for _ in range(placement.n_ranks)]
    for mb in range(count):
        ranks = placement.stage_ranks[mb * len(placement.stage_ranks) // count]
        for stage in range(n):
            rows[ranks[stage]].append(Act("F", stage, mb))
        for stage in reversed(range(n)):
            rows[ranks[stage]].append(Act("B", stage, mb))
    return Table("serial", tuple(map(tuple, rows)), n, count, placement.stage_ranks)


def known_tables(placement: Placement) -> tuple[Table, ...]:
    """The registry's tables with these stages on these ranks."""
    pp, m = placement.n_ranks, placement.microbatches
    found = []
    for name in schedule_names():
        vpp, rest = divmod(placement.n_stages, pp)
        if rest:
            continue
        try:
            table = build_table(name, pp, m, vpp)
        except InputError:
            continue  # the schedule does not take this size
        if table.stage_ranks == placement.stage_ranks and not table.window:
            found.append(table)
    return tuple(found)
