"""Lowers what the ranks' runtimes do to a program of the engine, priced with measured times.

Streams of a rank: `compute`, with its actions, the runtime's own time between them and its waits;
and one for each way its messages go. A message runs from when both its ends are open, as long as it
was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from simdeep.engine.timeline import Timeline
from simdeep.program.columns import Action, Kind, Priced, Program
from simdeep.program.schedule import Act, Table
from simdeep.validate.messages import Message
from simdeep.validate.pipeline.runtimes import Op, operations
from simdeep.validate.timing import Span

_COMPONENTS = ("action", "runtime", "message", "open", "wait", "start", "copies", "end")
_ACTIONS = {"F": Action.F, "I": Action.I, "W": Action.W, "B": Action.I}


@dataclass(frozen=True)
class Times:
    """Seconds: of an action on a rank, between two actions, of a message and its ends, of the rest.

    `end_s` by rank comes after the last action, `reduce_s` before it, together on all ranks.
    """

    action: Callable[[int, Act], float]
    between_s: float
    message_s: Callable[[], float]
    send_s: float
    recv_s: float
    start_s: float
    reduce_s: float
    end_s: tuple[float, ...]


@dataclass
class _Draft:
    """Tasks as they are written down; `deps` are rows."""

    rank: list[int] = field(default_factory=list)
    stream: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    component: list[int] = field(default_factory=list)
    act: list[Act | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    deps: list[list[int]] = field(default_factory=list)

    def add(
        self,
        rank: int,
        kind: Kind,
        component: str,
        seconds: float = 0.0,
        *,
        stream: int = 0,
        act: Act | None = None,
        group: int = -1,
    ) -> int:
        """Append a task; returns its row."""
        self.rank.append(rank)
        self.stream.append(stream)
        self.kind.append(kind)
        self.component.append(_COMPONENTS.index(component))
        self.act.append(act)
        self.seconds.append(seconds)
        self.group.append(group)
        self.deps.append([])
        return len(self.rank) - 1


@dataclass(frozen=True)
class Lowered:
    """A priced program, and the rows of the actions of each rank in order."""

    priced: Priced
    rows: tuple[tuple[int, ...], ...]
    acts: tuple[tuple[Act, ...], ...]

    def waited_s(self, timeline: Timeline) -> list[list[float]]:
        """How long each rank waited before each of its actions, seconds."""
        program = timeline.program
        computes = program.kind == Kind.COMPUTE
        found = []
        for rank, rows in enumerate(self.rows):
            own = np.flatnonzero(computes & (program.rank == rank))
            before = own[np.searchsorted(own, rows) - 1]  # the start of the step comes first
            found.append(((timeline.start_ns[list(rows)] - timeline.end_ns[before]) / 1e9).tolist())
        return found

    def spans(self, timeline: Timeline) -> list[list[Span]]:
        """When each rank's actions ran, in seconds from the start of the step."""
        start, end = timeline.start_ns / 1e9, timeline.end_ns / 1e9
        return [
            [Span(act, start[i], end[i]) for act, i in zip(acts, rows, strict=True)]
            for acts, rows in zip(self.acts, self.rows, strict=True)
        ]


class _Way(NamedTuple):
    """What messages take one after the other; those of other stages may overtake them."""

    source: int
    target: int
    gradient: bool
    stage: int


def _way(message: Message) -> _Way:
    return _Way(message.source, message.target, message.slot.gradient, message.slot.stage)


def lower(table: Table, times: Times) -> Lowered:
    """The program of a table in the runtime that executes it."""
    draft = _Draft()
    ops = operations(table)
    sent = [op.message for row in ops for op in row if op.what == "send" and op.message]
    ways = list(dict.fromkeys(map(_way, sent)))
    transfers = {
        message: draft.add(
            message.source,
            Kind.TRANSFER,
            "message",
            times.message_s(),
            stream=1 + ways.index(_way(message)),
        )
        for message in sent
    }
    rows = tuple(_rank(draft, rank, row, transfers, times) for rank, row in enumerate(ops))
    acts = tuple(tuple(op.act for op in row if op.act) for row in ops)
    for rank in range(table.n_ranks):
        if times.reduce_s:
            draft.add(rank, Kind.TRANSFER, "copies", times.reduce_s, group=0)
        draft.add(rank, Kind.COMPUTE, "end", times.end_s[rank])
    links = (f"{way.source} to {way.target}, stage {way.stage}" for way in ways)
    return Lowered(_priced(draft, ("compute", *links), table.n_ranks), rows, acts)


def _rank(
    draft: _Draft,
    rank: int,
    ops: tuple[Op, ...],
    transfers: dict[Message, int],
    times: Times,
) -> tuple[int, ...]:
    """Append what one rank does; returns the rows of its actions."""
    rows = []
    draft.add(rank, Kind.COMPUTE, "start", times.start_s)
    for op in ops:
        if op.act is not None:
            rows.append(
                draft.add(rank, Kind.COMPUTE, "action", times.action(rank, op.act), act=op.act)
            )
            draft.add(rank, Kind.COMPUTE, "runtime", times.between_s)
        elif op.message is not None:
            transfer = transfers[op.message]
            if op.what == "wait":
                draft.deps[draft.add(rank, Kind.SYNC, "wait")].append(transfer)
            else:
                # The message is on its way when its end is open; opening it takes this rank time.
                draft.deps[transfer].append(draft.add(rank, Kind.SYNC, "open"))
                took = times.send_s if op.what == "send" else times.recv_s
                draft.add(rank, Kind.COMPUTE, "runtime", took)
    return tuple(rows)


def _priced(draft: _Draft, streams: tuple[str, ...], n_ranks: int) -> Priced:
    n = len(draft.rank)
    kind = np.array(draft.kind, np.int8)
    program = Program(
        n_ranks=n_ranks,
        streams=streams,
        components=_COMPONENTS,
        works=(),
        rank=np.array(draft.rank, np.int32),
        stream=np.array(draft.stream, np.int8),
        kind=kind,
        action=np.array([_ACTIONS[a.kind] if a else Action.P2P for a in draft.act], np.int8),
        component=np.array(draft.component, np.int32),
        stage=np.array([a.stage if a else -1 for a in draft.act], np.int32),
        layer=np.full(n, -1, np.int32),
        microbatch=np.array([a.mb if a else -1 for a in draft.act], np.int32),
        block=np.full(n, -1, np.int32),
        work=np.zeros(n, np.int32),
        case=np.zeros(n, np.int32),
        peer=np.full(n, -1, np.int32),
        group=np.array(draft.group, np.int32),
        dep_ptr=np.concatenate([[0], np.cumsum([len(d) for d in draft.deps])]).astype(np.int64),
        dep_idx=np.array([row for deps in draft.deps for row in deps], np.int64),
        mem_take=np.zeros(n, np.int64),
        mem_free=np.zeros(n, np.int64),
    )
    ns = np.array(draft.seconds) * 1e9
    zeros, none = np.zeros(n), np.zeros(n, np.int32)
    return Priced(
        program=program,
        sm_ns=zeros,
        mem_ns=zeros,
        fixed_ns=np.where(kind == Kind.COMPUTE, ns, 0.0),
        sm_want=none,
        sm_drag=zeros,
        mem_drag=zeros,
        port=np.full((n, 4), -1, np.int32),
        port_ns=np.zeros((n, 4)),
        floor_ns=zeros,
        latency_ns=np.where(kind == Kind.TRANSFER, ns, 0.0),
        sms=none,
        draw_milli=none,
        n_ports=1,
        hardware_sms=1,
        comm_sms=0,
        static_split=False,
    )
