"""A priced program as the compiled loop reads it: records in queue order.

A step of a big cluster is bound by memory latency: ten thousand streams advance side by side, each
somewhere else in the program. So what the loop needs of a task lies in one cache line, in the order
in which its stream runs it: task `q` is followed on its stream by `q + 1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simdeep.errors import SimdeepError
from simdeep.program.columns import I32, I64, Priced

Records = npt.NDArray[Any]

_LINE = 64  # bytes of a cache line

_COMPUTE = {"sm": 0, "mem": 8, "fixed": 16, "sm_drag": 24, "mem_drag": 32}
_TRANSFER = {"latency": 0, "floor": 8}
_TRANSFER_INTS = {"use_ptr": 16, "n_uses": 20, "sms": 24, "draw": 28}
_BOTH = {"next_ptr": 40, "n_next": 44, "blocked_by": 48, "group": 52, "want": 56}
_FLAGS = {"kind": 60, "works": 61}
_FIELDS = _COMPUTE | _TRANSFER | _TRANSFER_INTS | _BOTH | _FLAGS

TASK = np.dtype(
    {
        "names": list(_FIELDS),
        "formats": ["f8"] * 7 + ["i4"] * 9 + ["i1"] * 2,
        "offsets": list(_FIELDS.values()),
        "itemsize": _LINE,
    }
)
"""One task. Costs of compute and of transfers share their bytes, as a task has only one of them.

`works` is 0 for what takes no time; `blocked_by` counts dependencies that have not ended (-1: the
task has told its group that it is ready).
"""

LINK = np.dtype([("task", "i4"), ("stream", "i4")])
"""A task and its stream: a dependant, or a member of a group."""

USE = np.dtype([("ns", "f8"), ("port", "i8")])
"""A port that a transfer uses, and the time its bytes take there alone."""

STREAM = np.dtype(
    {
        "names": ["left", "duration", "rated_at", "head", "stop", "rank", "running", "queued"],
        "formats": ["f8", "f8", "i8", "i8", "i8", "i4", "i1", "i1"],
        "offsets": [0, 8, 16, 24, 32, 40, 44, 45],
        "itemsize": _LINE,
    }
)
"""A stream: its next task `head` of those before `stop`, and how far a running one is.

`running` is 0 or 1 + the kind of what runs; `duration` is below zero before the first speed.
"""

RANK = np.dtype(
    [(name, "i4") for name in ("computing", "draw", "sms_held", "first", "stop", "touched")]
)
"""What runs on a rank, and its streams `first`..`stop`."""

PORT = np.dtype([(name, "i4") for name in ("users", "first", "touched")])
"""Users of a port: how many, and the first of their list."""

_MOST = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Tasks:
    """A program in queue order: arrays of the record types above.

    `queue[q]` is the row of task q. `next_of` holds dependants, `uses` ports, and `members` those
    of group g at `member_ptr[g]`..`member_ptr[g + 1]`. A run writes into `tasks` and `streams`.
    """

    tasks: Records
    queue: I32
    next_of: Records
    uses: Records
    members: Records
    member_ptr: I64
    streams: Records
    ranks: Records
    n_ports: int

    @property
    def n(self) -> int:
        """Number of tasks."""
        return len(self.tasks)


def arrange(priced: Priced) -> Tasks:
    """Bring a priced program into queue order.

    Raises:
        SimdeepError: if it has more tasks or dependencies than 32-bit places can number.
    """
    from simdeep.engine import compiled_build as build

    program = priced.program
    n, n_streams = program.n, len(program.streams)
    if max(4 * n, len(program.dep_idx)) > _MOST:
        raise SimdeepError(f"{n} tasks are more than the compiled engine can number")
    sizes = build.stream_sizes(program.rank, program.stream, n_streams, program.n_ranks)
    keys = np.flatnonzero(sizes)
    stream_at = np.cumsum(sizes > 0, dtype=np.int32) - 1
    stops = np.cumsum(sizes[keys])
    streams = np.zeros(len(keys), STREAM)
    streams["stop"], streams["head"] = stops, stops - sizes[keys]
    streams["rank"] = keys // n_streams
    queue = build.queues(
        program.rank, program.stream, n_streams, stream_at, streams["head"].copy(), n
    )
    ranks = np.zeros(program.n_ranks, RANK)
    bounds = np.searchsorted(keys, np.arange(program.n_ranks + 1) * n_streams)
    ranks["first"], ranks["stop"] = bounds[:-1], bounds[1:]

    group, group_sizes = _numbered(program.group)
    tasks = _lined_up(n)
    uses = np.empty(build.count_uses(program.kind, priced.port, priced.port_ns), USE)
    columns = (
        program.kind,
        group,
        priced.sm_ns,
        priced.mem_ns,
        priced.fixed_ns,
        priced.sm_drag,
        priced.mem_drag,
        priced.sm_want,
        priced.latency_ns,
        priced.floor_ns,
        priced.sms,
        priced.draw_milli,
        priced.port,
        priced.port_ns,
    )
    build.fill_tasks(tasks, uses, queue, *columns)
    place = np.empty(n, np.int32)
    place[queue] = np.arange(n, dtype=np.int32)
    stream_of = np.repeat(np.arange(len(keys), dtype=np.int32), sizes[keys])
    next_of = np.empty(
        build.count_dependants(tasks, place, stream_of, program.dep_ptr, program.dep_idx), LINK
    )
    build.fill_dependants(tasks, next_of, place, stream_of, program.dep_ptr, program.dep_idx)
    member_ptr = np.append(0, np.cumsum(group_sizes)).astype(np.int64)
    members = np.empty(int(member_ptr[-1]), LINK)
    build.fill_members(members, member_ptr[:-1].copy(), tasks, stream_of)
    return Tasks(
        tasks=tasks,
        queue=queue,
        next_of=next_of,
        uses=uses,
        members=members,
        member_ptr=member_ptr,
        streams=streams,
        ranks=ranks,
        n_ports=priced.n_ports,
    )


def _numbered(group: I32) -> tuple[I32, I64]:
    """Groups numbered from 0 without gaps (-1: none), and their sizes."""
    from simdeep.engine import compiled_build as build

    most = int(group.max(initial=-1))
    if most >= 4 * len(group) + 1024:  # too sparse for a table
        inside = np.flatnonzero(group >= 0)
        group = group.copy()
        group[inside] = np.unique(group[inside], return_inverse=True)[1]
        most = int(group.max(initial=-1))
    found, sizes = build.number_groups(group, most)
    return found, sizes


def _lined_up(n: int) -> Records:
    """Zeroed task records, each in a cache line of its own."""
    raw = np.zeros(n * _LINE + _LINE, np.uint8)
    skip = -raw.ctypes.data % _LINE
    return raw[skip : skip + n * _LINE].view(TASK)
