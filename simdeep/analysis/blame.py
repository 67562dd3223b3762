"""Whom each task waited for, and under which name its time is booked.

Everything that asks "why was it idle" or "what set the step time" starts here: blame is computed
once for a timeline and handed to attribution and the critical path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I64, Action, Kind, Program

Bool = npt.NDArray[np.bool_]

COMPUTE_STREAM = "compute"
COMPUTING = "computing"
EXPOSED = "exposed_comm"
DATA_PARALLEL = "data_parallel"
BUBBLE = "bubble"
LAUNCH_GAP = "launch_gap"
#: Every moment of a rank's compute stream is under one of these, in the order reports show them.
GROUPS = (COMPUTING, EXPOSED, DATA_PARALLEL, LAUNCH_GAP, BUBBLE)

P2P = "p2p"
_FAMILIES = ("tp", "cp", "fsdp")
_DATA_PARALLEL_ACTIONS = {
    Action.GRAD_SYNC: "grad_sync",
    Action.OPTIMIZER: "optimizer",
    Action.PARAM_SYNC: "param_sync",
}


def transfer_kind(component: str) -> str:
    """The name a transfer is reported under: `tp_gather` and `tp_scatter` are both `tp`, etc."""
    if component == "redispatch":
        return "dispatch"
    family = component.split("_")[0]
    return family if family in _FAMILIES else component


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A name time is booked under: one of `GROUPS`, and what exactly (empty for the last two).

    `detail` is `F.attn` (action and component) for computing, a transfer kind for exposed
    communication, `grad_sync`, `optimizer` or `param_sync` for data parallelism.
    """

    group: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.group}.{self.detail}" if self.detail else self.group


@dataclass(frozen=True, eq=False)
class PartCodes:
    """The part each task's own running time belongs to: `parts[code[task]]`."""

    parts: tuple[Part, ...]
    code: I64
    bubble: int
    launch_gap: int


@dataclass(frozen=True, eq=False)
class Blame:
    """For each task (arrays of length n) what ended last before it could start.

    `cause` is the row of that task: a dependency, the task before it in its stream, or, for a
    member of a group, whatever the last member to be ready waited for; -1 if nothing. Of causes
    that ended together the stream's own comes first, then the dependency listed last.
    `peer_wait` is true where the cause belongs to another member of the task's group that runs the
    same stage: the task waited for a slower peer of its collective, not for the pipeline.
    """

    cause: I64
    peer_wait: Bool


def stream_rows(program: Program, rows: I64 | None = None) -> tuple[I64, Bool]:
    """Rows sorted by rank and stream, in FIFO order, and where a new stream begins.

    Args:
        program: the tasks.
        rows: ascending rows to take (default: all).
    """
    rank, stream = program.rank, program.stream
    if rows is not None:
        rank, stream = rank[rows], stream[rows]
    key = rank.astype(np.int64) * len(program.streams) + stream
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.ones(len(key), np.bool_)
    first[1:] = key[1:] != key[:-1]
    return (order if rows is None else rows[order]), first


def stream_id(program: Program, name: str = COMPUTE_STREAM) -> int:
    """Index of a stream by name, -1 if the program has none of that name."""
    return program.streams.index(name) if name in program.streams else -1


def is_data_parallel(program: Program) -> Bool:
    """Tasks of gradient reduction, optimizer step and parameter gathering (length n)."""
    return np.isin(program.action, [int(a) for a in _DATA_PARALLEL_ACTIONS])


def find_blame(timeline: Timeline) -> Blame:
    """Find for every task what it waited for last (see `Blame`)."""
    program, end = timeline.program, timeline.end_ns
    cause = _last_dependency(program, end)
    rows, first = stream_rows(program)
    before = np.full(program.n, -1, np.int64)
    before[rows[1:]] = np.where(first[1:], -1, rows[:-1])
    use_before = _end_of(before, end) >= _end_of(cause, end)
    cause = np.where(use_before, before, cause)
    return Blame(*_through_groups(program, cause, end))


def _end_of(rows: I64, end_ns: I64) -> I64:
    """End of each row, -1 where there is none."""
    if not len(end_ns):
        return rows
    return np.where(rows >= 0, end_ns[rows], -1)


def _last_dependency(program: Program, end_ns: I64) -> I64:
    cause = np.full(program.n, -1, np.int64)
    counts = np.diff(program.dep_ptr)
    filled = np.flatnonzero(counts)
    if not len(filled):
        return cause
    ends = end_ns[program.dep_idx]
    latest = np.maximum.reduceat(ends, program.dep_ptr[filled])
    owner = np.repeat(filled, counts[filled])
    hit = ends == np.repeat(latest, counts[filled])
    # Of repeated indices numpy keeps the last value assigned: the dependency listed last.
    cause[owner[hit]] = program.dep_idx[hit]
    return cause


def _through_groups(program: Program, cause: I64, end_ns: I64) -> tuple[I64, Bool]:
    """Members of a group start when the last of them is ready: they share its cause."""
    peer_wait = np.zeros(program.n, np.bool_)
    members = np.flatnonzero(program.group >= 0)
    if not len(members):
        return cause, peer_wait
    ready = _end_of(cause, end_ns)
    members = members[np.lexsort((ready[members], program.group[members]))]
    group = program.group[members]
    is_last = np.append(group[1:] != group[:-1], True)
    last = members[is_last][np.cumsum(is_last) - is_last]
    late = ready[members] < ready[last]
    waits, on = members[late], last[late]
    cause[waits] = cause[on]
    peer_wait[waits] = (program.stage[waits] == program.stage[on]) & (
        program.rank[waits] != program.rank[on]
    )
    return cause, peer_wait


def part_codes(program: Program) -> PartCodes:
    """Book every task under a part: what its own running time counts as."""
    n_actions, n_components = len(Action), len(program.components)
    parts: list[Part] = []
    index: dict[Part, int] = {}
    table = np.zeros((len(Kind), n_actions, n_components), np.int64)
    bubble, gap = Part(BUBBLE), Part(LAUNCH_GAP)
    for kind in Kind:
        for action in Action:
            for c, component in enumerate(program.components):
                part = _part(kind, action, component)
                if part not in index:
                    index[part] = len(parts)
                    parts.append(part)
                table[kind, action, c] = index[part]
    for part in (gap, bubble):
        if part not in index:
            index[part] = len(parts)
            parts.append(part)
    code = table[program.kind, program.action, program.component]
    return PartCodes(tuple(parts), code, index[bubble], index[gap])


def _part(kind: Kind, action: Action, component: str) -> Part:
    if action in _DATA_PARALLEL_ACTIONS:
        return Part(DATA_PARALLEL, _DATA_PARALLEL_ACTIONS[action])
    if kind == Kind.COMPUTE:
        return Part(COMPUTING, f"{action.name}.{component}")
    return Part(EXPOSED, transfer_kind(component))
