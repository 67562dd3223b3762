"""Parts of a compiled run that can pause, run side by side on threads and be joined."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.engine.compiled_halves import Bool, halves, members_by_half
from simdeep.engine.compiled_tasks import PORT, Records, Tasks
from simdeep.program.columns import I32, I64, Priced


def simulate(priced: Priced, tasks: Tasks) -> tuple[I64, I64]:
    """Start and end of every row; -1 for those that never ran. Uses `tasks` up."""
    world = _World(priced, tasks)
    second = halves(tasks) if (os.cpu_count() or 1) > 1 else None
    if second is None:
        _whole(world).advance()
    else:
        _in_halves(world, second)
    start, end = np.empty_like(world.start), np.empty_like(world.end)
    start[tasks.queue], end[tasks.queue] = world.start, world.end
    return start, end


class _World:
    """What all parts of a run share; parts on two threads touch different entries."""

    def __init__(self, priced: Priced, tasks: Tasks):
        from simdeep.engine import compiled_loop as loop

        n_streams = len(tasks.streams)
        self.tasks = tasks
        self.ports: Records = np.zeros(tasks.n_ports, PORT)
        self.after = np.full(n_streams * loop.USES, -1, np.int64)
        self.before = np.full(n_streams * loop.USES, -1, np.int64)
        self.place = np.full(n_streams, -1, np.int32)
        self.start = np.full(tasks.n, -1, np.int64)
        self.end = np.full(tasks.n, -1, np.int64)
        held = priced.comm_sms if priced.static_split else 0
        self.hardware = (priced.hardware_sms - held, priced.static_split)


@dataclass(frozen=True, eq=False)
class _Part:
    """The paused simulation of some streams: what `compiled_loop.advance` goes on from."""

    world: _World
    missing: I32
    crossing: Bool
    due: I64
    who: I32
    todo: I32
    fresh: I32
    touched_ranks: I32
    touched_ports: I32
    counters: I64

    @classmethod
    def new(cls, world: _World, todo: I32, missing: I32, crossing: Bool) -> _Part:
        """Nothing running, at time 0, and these streams to be looked at."""
        from simdeep.engine import compiled_loop as loop

        n_streams = len(world.place)
        counters = np.zeros(loop.COUNTERS, np.int64)
        counters[loop.N_TODO] = len(todo)
        world.tasks.streams["queued"][todo] = 1
        room = {name: np.zeros(n_streams, np.int32) for name in ("who", "todo", "fresh")}
        room["todo"][: len(todo)] = todo
        return cls(
            world=world,
            missing=missing,
            crossing=crossing,
            due=np.zeros(n_streams, np.int64),
            touched_ranks=np.zeros(len(world.tasks.ranks), np.int32),
            touched_ports=np.zeros(len(world.ports), np.int32),
            counters=counters,
            **room,
        )

    def advance(self, goal: int = -1) -> None:
        """Run on to the end or to a goal; see `compiled_loop.advance`."""
        from simdeep.engine import compiled_loop as loop

        world, tasks = self.world, self.world.tasks
        loop.advance(
            tasks.tasks,
            tasks.next_of,
            tasks.uses,
            tasks.members,
            tasks.member_ptr,
            tasks.streams,
            tasks.ranks,
            world.ports,
            world.after,
            world.before,
            world.place,
            world.start,
            world.end,
            self.missing,
            self.crossing,
            self.due,
            self.who,
            self.todo,
            self.fresh,
            self.touched_ranks,
            self.touched_ports,
            self.counters,
            *world.hardware,
            goal,
        )


def _whole(world: _World) -> _Part:
    """All streams as one part."""
    tasks = world.tasks
    missing = np.diff(tasks.member_ptr).astype(np.int32)
    streams = np.arange(len(tasks.streams), dtype=np.int32)
    return _Part.new(world, streams, missing, np.zeros(len(missing), np.bool_))


def _in_halves(world: _World, second: Bool) -> None:
    """Each half on a thread until both could meet the other, then both together."""
    from simdeep.engine import compiled_loop as loop

    tasks = world.tasks
    missing = members_by_half(tasks, second)
    crossing: Bool = np.all(missing > 0, axis=0)
    here: npt.NDArray[np.bool_] = second[tasks.streams["rank"]]
    parts = [
        _Part.new(world, np.flatnonzero(mine).astype(np.int32), missing[half], crossing)
        for half, mine in enumerate((~here, here))
    ]
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: part.advance(loop.UNTIL_CROSSING), parts))
    if not all(part.counters[loop.MET] for part in parts):
        # A half without a crossing group that could start has run out of work; the other goes on.
        for part in parts:
            part.advance(np.iinfo(np.int64).max)
        return
    meeting = max(int(part.counters[loop.NOW]) for part in parts)
    for part in parts:
        if part.counters[loop.NOW] < meeting:
            part.advance(meeting)
    _joined(world, parts, meeting).advance()


def _joined(world: _World, parts: Sequence[_Part], now: int) -> _Part:
    """All parts as one, in the middle of the instant of their meeting."""
    from simdeep.engine import compiled_loop as loop

    tasks = world.tasks
    missing: I32 = np.stack([part.missing for part in parts]).sum(axis=0, dtype=np.int32)
    ready = np.flatnonzero(parts[0].crossing & (missing == 0))
    # One member of a group that is ready starts all of them.
    streams: list[int] = tasks.members["stream"][tasks.member_ptr[ready]].tolist()
    todo: I32 = np.array(sorted(set(streams)), np.int32)
    whole = _Part.new(world, todo, missing, np.zeros(len(missing), np.bool_))
    whole.counters[loop.NOW] = now
    for name, counter in (
        ("fresh", loop.N_FRESH),
        ("touched_ranks", loop.N_RANKS),
        ("touched_ports", loop.N_PORTS),
        ("due", loop.SIZE),
        ("who", loop.SIZE),
    ):
        found = np.concatenate([getattr(p, name)[: p.counters[counter]] for p in parts])
        getattr(whole, name)[: len(found)] = found
        whole.counters[counter] = len(found)
    # What is sorted is a heap.
    size = int(whole.counters[loop.SIZE])
    order = np.argsort(whole.due[:size], kind="stable")
    whole.due[:size], whole.who[:size] = whole.due[order], whole.who[order]
    world.place[whole.who[:size]] = np.arange(size, dtype=np.int32)
    return whole
