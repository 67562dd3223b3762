"""Pipeline schedules as tables: built by name, checked, written as text, replayed with costs."""

from simdeep.program.schedule.actions import Act, Cell, Overlap, acts_of
from simdeep.program.schedule.check import TableError, check
from simdeep.program.schedule.closed import ClosedForm, Size, Uniform, p2p_messages
from simdeep.program.schedule.costs import Costs
from simdeep.program.schedule.grid import render_grid
from simdeep.program.schedule.registry import (
    Schedule,
    build_table,
    find_schedule,
    schedule_names,
    schedule_problems,
)
from simdeep.program.schedule.replay import Spans, StuckError, replay
from simdeep.program.schedule.table import Table, p2p_sends, peak_activations
from simdeep.program.schedule.text import from_csv, parse_cell, to_csv

__all__ = [
    "Act",
    "Cell",
    "ClosedForm",
    "Costs",
    "Overlap",
    "Schedule",
    "Size",
    "Spans",
    "StuckError",
    "Table",
    "TableError",
    "Uniform",
    "acts_of",
    "build_table",
    "check",
    "find_schedule",
    "from_csv",
    "p2p_messages",
    "p2p_sends",
    "parse_cell",
    "peak_activations",
    "render_grid",
    "replay",
    "schedule_names",
    "schedule_problems",
    "to_csv",
]
