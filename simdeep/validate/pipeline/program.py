"""Lowers what the ranks' runtimes do to a program of the engine, priced with measured times.

Each rank has a stream with its actions, the runtime's own time between them and its waits, and each
way that messages go one for what moves them: the sender's threads once both ends are open, the time
on the way, the receiver's threads. What takes a core's time is a compute task; those of one core
share it, whether it is a rank's own or, emulated, all ranks have a few together. A wait that stands
for computing runs on a stream of its own beside what its stand-in computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from simdeep.engine.timeline import Timeline
from simdeep.program.columns import Action, Kind, Priced, Program
from simdeep.program.schedule import Act, Table
from simdeep.program.schedule.actions import Kind as ActKind
from simdeep.validate.messages import Message
from simdeep.validate.pipeline.calibration import CopyCosts
from simdeep.validate.pipeline.runtimes import Op, operations
from simdeep.validate.timing import Span

_COMPONENTS = ("action", "runtime", "message", "wait", "start", "copies", "end")
_ACTIONS = {"F": Action.F, "I": Action.I, "W": Action.W, "B": Action.I}

_CORE = 1000
"""The engine shares out whole SMs: a core is so many of them."""


@dataclass(frozen=True)
class Times:
    """Seconds: of an action on a rank, between two actions, of a message and its ends, of the rest.

    A message takes its sender's threads `sender_s`, then one of `passing_s`, then its receiver's
    `receiver_s`. `copies` are added up after a rank's last action, together with the rank that has
    them too; `end_s` by rank comes last. With `stand_ins` an action is a wait, of which its
    stand-in computes these seconds by kind, and of an end `idle_end_s` are one.
    """

    action: Callable[[int, Act], float]
    between_s: float
    passing_s: Callable[[], float]
    sender_s: float
    receiver_s: float
    send_s: float
    recv_s: float
    start_s: float
    copies: Mapping[int, CopyCosts]
    end_s: tuple[float, ...]
    idle_end_s: tuple[float, ...]
    stand_ins: Mapping[ActKind, float] | None
    shared_cores: int


@dataclass
class _Draft:
    """Tasks as they are written down; `deps` are rows."""

    streams: list[str]
    shared_cores: int
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
        stream: str = "",
        act: Act | None = None,
        group: int = -1,
    ) -> int:
        """Append a task to the rank's own stream, or to another one; returns its row.

        To the engine, ranks that share cores are one.
        """
        stream = stream or _own(rank)
        if stream not in self.streams:
            self.streams.append(stream)
        self.rank.append(0 if self.shared_cores else rank)
        self.stream.append(self.streams.index(stream))
        self.kind.append(kind)
        self.component.append(_COMPONENTS.index(component))
        self.act.append(act)
        self.seconds.append(seconds)
        self.group.append(group)
        self.deps.append([])
        return len(self.rank) - 1


class _Placed(NamedTuple):
    """An action of a rank: its first and last row, and that of what the rank did before it."""

    act: Act
    before: int
    first: int
    last: int


@dataclass(frozen=True)
class Lowered:
    """A priced program, and where the actions of each rank are in it, in order."""

    priced: Priced
    placed: tuple[tuple[_Placed, ...], ...]

    def rested(self, timeline: Timeline, seconds: float) -> frozenset[tuple[int, Act]]:
        """Actions, with their ranks, before which the rank has waited for so long."""
        start, end = timeline.start_ns, timeline.end_ns
        return frozenset(
            (rank, one.act)
            for rank, placed in enumerate(self.placed)
            for one in placed
            if start[one.first] - end[one.before] >= seconds * 1e9
        )

    def spans(self, timeline: Timeline) -> list[list[Span]]:
        """When each rank's actions ran, in seconds from the start of the step."""
        start, end = timeline.start_ns / 1e9, timeline.end_ns / 1e9
        return [
            [Span(one.act, start[one.first], end[one.last]) for one in placed]
            for placed in self.placed
        ]


def _own(rank: int) -> str:
    """A rank's own stream."""
    return f"rank {rank}"


class _Transfer(NamedTuple):
    """The rows of a message that its ends wait for: it leaves, and it has arrived."""

    leaves: int
    arrived: int


def lower(table: Table, times: Times) -> Lowered:
    """The program of a table in the runtime that executes it."""
    draft = _Draft([_own(rank) for rank in range(table.n_ranks)], times.shared_cores)
    ops = operations(table)
    sent = [op.message for row in ops for op in row if op.what == "send" and op.message]
    transfers = {message: _transfer(draft, message, times) for message in sent}
    placed = tuple(_rank(draft, rank, row, transfers, times) for rank, row in enumerate(ops))
    for rank in range(table.n_ranks):
        _end(draft, rank, table.n_ranks, times)
    return Lowered(_priced(draft, table.n_ranks, times.shared_cores), placed)


def _transfer(draft: _Draft, message: Message, times: Times) -> _Transfer:
    """Append a message; its ends are not open yet."""
    source, target, way = message.source, message.target, str(message.way)
    leaves = draft.add(source, Kind.COMPUTE, "message", times.sender_s, stream=way)
    passes = draft.add(source, Kind.TRANSFER, "message", times.passing_s(), stream=way)
    arrived = draft.add(target, Kind.COMPUTE, "message", times.receiver_s, stream=way)
    draft.deps[arrived].append(passes)
    return _Transfer(leaves, arrived)


def _rank(
    draft: _Draft,
    rank: int,
    ops: tuple[Op, ...],
    transfers: dict[Message, _Transfer],
    times: Times,
) -> tuple[_Placed, ...]:
    """Append what one rank does; returns where its actions are."""
    placed = []
    last = draft.add(rank, Kind.COMPUTE, "start", times.start_s)
    for op in ops:
        if op.act is not None:
            placed.append(_action(draft, rank, op.act, last, times))
            last = draft.add(rank, Kind.COMPUTE, "runtime", times.between_s)
        elif op.message is not None:
            transfer = transfers[op.message]
            if op.what == "wait":
                draft.deps[draft.add(rank, Kind.SYNC, "wait")].append(transfer.arrived)
            else:
                took = times.send_s if op.what == "send" else times.recv_s
                last = draft.add(rank, Kind.COMPUTE, "runtime", took)
                draft.deps[transfer.leaves].append(last)
    return tuple(placed)


def _action(draft: _Draft, rank: int, act: Act, before: int, times: Times) -> _Placed:
    """Append an action: computing, or a wait beside what its stand-in computes."""
    seconds = times.action(rank, act)
    if times.stand_ins is None:
        row = draft.add(rank, Kind.COMPUTE, "action", seconds, act=act)
        return _Placed(act, before, row, row)
    starts = draft.add(rank, Kind.SYNC, "action")
    draft.add(rank, Kind.COMPUTE, "action", times.stand_ins[act.kind], act=act)
    waits = draft.add(rank, Kind.TRANSFER, "action", seconds, stream=f"{_own(rank)} waits", act=act)
    draft.deps[waits].append(starts)
    over = draft.add(rank, Kind.SYNC, "action")
    draft.deps[over].append(waits)
    return _Placed(act, before, starts, over)


def _end(draft: _Draft, rank: int, n_ranks: int, times: Times) -> None:
    """Append what comes after a rank's last action."""
    if rank in times.copies:
        busy, idle = times.copies[rank]
        draft.add(rank, Kind.SYNC, "copies", group=min(rank, n_ranks - 1 - rank))
        draft.add(rank, Kind.COMPUTE, "copies", busy)
        draft.add(rank, Kind.TRANSFER, "copies", idle)
    draft.add(rank, Kind.COMPUTE, "end", times.end_s[rank])
    draft.add(rank, Kind.TRANSFER, "end", times.idle_end_s[rank])


def _priced(draft: _Draft, n_ranks: int, shared_cores: int) -> Priced:
    n = len(draft.rank)
    kind = np.array(draft.kind, np.int8)
    computes = kind == Kind.COMPUTE
    program = Program(
        n_ranks=1 if shared_cores else n_ranks,
        streams=tuple(draft.streams),
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
        sm_ns=np.where(computes, ns, 0.0),
        mem_ns=zeros,
        fixed_ns=zeros,
        sm_want=np.where(computes, _CORE, 0).astype(np.int32),
        sm_drag=zeros,
        mem_drag=zeros,
        port=np.full((n, 4), -1, np.int32),
        port_ns=np.zeros((n, 4)),
        floor_ns=zeros,
        latency_ns=np.where(kind == Kind.TRANSFER, ns, 0.0),
        sms=none,
        draw_milli=none,
        n_ports=1,
        hardware_sms=_CORE * (shared_cores or 1),
        comm_sms=0,
        static_split=False,
    )
