"""The published tables that a placement admits: where a search starts, and what it must beat."""

from __future__ import annotations

from simdeep.errors import InputError
from simdeep.program.schedule.registry import build_table, schedule_names
from simdeep.program.schedule.table import Table
from simdeep.program.search.problem import Placement


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
