"""The compiled engine: the same rules as `reference`, the same timeline, over flat arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from simdeep.engine import compiled_halves as cut
from simdeep.engine.compiled_tasks import PORT, Records, Tasks, arrange
from simdeep.engine.deadlock import explain
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I32, I64, Priced, Program


def run(priced: Priced) -> Timeline:
    """Run a priced program to its end.

    Raises:
        DeadlockError: if tasks remain that wait for each other.
    """
    warm_up()
    began = time.perf_counter()
    tasks = arrange(priced)
    start, end = _simulate(priced, tasks)
    if (end < 0).any():
        _explain(priced, tasks, end)
    wall_s = time.perf_counter() - began
    return Timeline(priced=priced, start_ns=start, end_ns=end, engine="compiled", wall_s=wall_s)


def _simulate(priced: Priced, tasks: Tasks) -> tuple[I64, I64]:
    """Start and end of every row; -1 for those that never ran."""
    world = _World(priced, tasks)
    second = cut.halves(tasks) if (os.cpu_count() or 1) > 1 else None
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
        n_streams = len(tasks.streams)
        self.tasks = tasks
        self.ports: Records = np.zeros(tasks.n_ports, PORT)
        self.after = np.full(n_streams * 4, -1, np.int64)
        self.before = np.full(n_streams * 4, -1, np.int64)
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
    crossing: cut.Bool
    due: I64
    who: I32
    todo: I32
    fresh: I32
    touched_ranks: I32
    touched_ports: I32
    counters: I64

    @classmethod
    def new(cls, world: _World, todo: I32, missing: I32, crossing: cut.Bool) -> _Part:
        """All of these streams at time 0."""
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
        """Run on; see `compiled_loop.advance`."""
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


def _in_halves(world: _World, second: cut.Bool) -> None:
    """Each half on a thread until both have met the other, then both together."""
    from simdeep.engine import compiled_loop as loop

    tasks = world.tasks
    missing = cut.members_by_half(tasks, second)
    crossing = (missing > 0).all(axis=0)
    here = second[tasks.streams["rank"]]
    parts = [
        _Part.new(world, np.flatnonzero(here == half).astype(np.int32), missing[half], crossing)
        for half in (0, 1)
    ]
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: part.advance(loop.UNTIL_CROSSING), parts))
    met = [bool(part.counters[loop.MET]) for part in parts]
    if not all(met):
        # A half without a crossing group that could start has run out of work; the other may go on.
        for part in parts:
            part.advance(np.iinfo(np.int64).max)
        return
    meeting = max(int(part.counters[loop.NOW]) for part in parts)
    for part in parts:
        if part.counters[loop.NOW] < meeting:
            part.advance(meeting)
    _joined(world, parts, meeting).advance()


def _joined(world: _World, parts: Sequence[_Part], now: int) -> _Part:
    """Both halves as one part, in the middle of the instant of their meeting."""
    from simdeep.engine import compiled_loop as loop

    tasks = world.tasks
    missing = np.sum([part.missing for part in parts], axis=0, dtype=np.int32)
    ready = np.flatnonzero(parts[0].crossing & (missing == 0))
    one_of_each = tasks.members["stream"][tasks.member_ptr[ready]]
    none = np.zeros(len(missing), np.bool_)
    whole = _Part.new(world, np.unique(one_of_each).astype(np.int32), missing, none)
    pairs = (
        ("fresh", loop.N_FRESH),
        ("touched_ranks", loop.N_RANKS),
        ("touched_ports", loop.N_PORTS),
        ("due", loop.SIZE),
        ("who", loop.SIZE),
    )
    for name, counter in pairs:
        found = np.concatenate([getattr(p, name)[: p.counters[counter]] for p in parts])
        getattr(whole, name)[: len(found)] = found
        whole.counters[counter] = len(found)
    # What is sorted is a heap.
    size = int(whole.counters[loop.SIZE])
    order = np.argsort(whole.due[:size], kind="stable")
    whole.due[:size], whole.who[:size] = whole.due[order], whole.who[order]
    world.place[whole.who[:size]] = np.arange(size, dtype=np.int32)
    whole.counters[loop.NOW] = now
    return whole


def _explain(priced: Priced, tasks: Tasks, end: npt.NDArray[np.int64]) -> None:
    program = priced.program
    heads: dict[tuple[int, int], int] = {}
    for stream in tasks.streams[tasks.streams["head"] < tasks.streams["stop"]]:
        task = int(tasks.queue[stream["head"]])
        heads[int(program.rank[task]), int(program.stream[task])] = task
    raise explain(program, end >= 0, heads)


@cache
def warm_up() -> float:
    """Compile (or load from the cache on disk) and return the seconds it took; once a process."""
    began = time.perf_counter()
    nothing = _one_task()
    _simulate(nothing, arrange(nothing))
    return time.perf_counter() - began


def _one_task() -> Priced:
    """The smallest program that goes through all compiled code."""
    zeros = np.zeros(1, np.int32)
    narrow = np.zeros(1, np.int8)
    program = Program(
        n_ranks=1,
        streams=("compute",),
        components=("attn",),
        works=(),
        dep_ptr=np.zeros(2, np.int64),
        dep_idx=np.zeros(0, np.int64),
        mem_take=np.zeros(1, np.int64),
        mem_free=np.zeros(1, np.int64),
        **dict.fromkeys(("stream", "kind", "action"), narrow),
        **dict.fromkeys(("rank", "component", "stage", "layer", "microbatch", "block"), zeros),
        **dict.fromkeys(("work", "case", "peer", "group"), zeros),
    )
    free = np.zeros(1)
    return Priced(
        program=program,
        port=np.full((1, 4), -1, np.int32),
        port_ns=np.zeros((1, 4)),
        n_ports=0,
        hardware_sms=1,
        comm_sms=0,
        static_split=True,
        **dict.fromkeys(("sm_ns", "mem_ns", "fixed_ns", "sm_drag", "mem_drag"), free),
        **dict.fromkeys(("floor_ns", "latency_ns"), free),
        **dict.fromkeys(("sm_want", "sms", "draw_milli"), zeros),
    )
