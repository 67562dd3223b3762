"""Search for pipeline orders and stage partitions, with lower bounds."""

from simdeep.program.search.bound import Bound, lower_bound
from simdeep.program.search.known import known_tables
from simdeep.program.search.partition import Layers, Partition, partition_layers
from simdeep.program.search.probe import probe_table
from simdeep.program.search.problem import Activations, Goal, Placement, Task
from simdeep.program.search.schedule import NAME, Found, goal_value, search_schedule

__all__ = [
    "NAME",
    "Activations",
    "Bound",
    "Found",
    "Goal",
    "Layers",
    "Partition",
    "Placement",
    "Task",
    "goal_value",
    "known_tables",
    "lower_bound",
    "partition_layers",
    "probe_table",
    "search_schedule",
]
