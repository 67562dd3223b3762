"""The reference engine: the rules of docs/design.md in SimPy, one process for each stream.

At an instant, tasks end, streams advance and new tasks start in any order; speeds change once, when
nothing more happens at that instant. The order of equal times therefore cannot be seen in the
result, which is what lets a compiled engine reproduce it span for span.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import numpy as np
import simpy
from simpy.events import Event

from simdeep.engine.deadlock import explain
from simdeep.engine.rates import compute_ns, delay_ns, transfer_ns
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import Kind, Priced

# SimPy orders equal times by priority; its own events use 0 and 1. Larger means 'when the instant
# is otherwise over'.
_END_OF_INSTANT = 2

Progress = Callable[[int, int], None]


def run(priced: Priced, progress: Progress | None = None) -> Timeline:
    """Run a priced program to its end.

    Args:
        priced: the program with its costs.
        progress: called as `progress(tasks done, tasks in all)` about a hundred times.

    Raises:
        DeadlockError: if tasks remain that wait for each other.
    """
    began = time.perf_counter()
    simulation = _Simulation(priced, progress)
    simulation.run()
    return Timeline(
        priced=priced,
        start_ns=simulation.start,
        end_ns=simulation.end,
        engine="reference",
        wall_s=time.perf_counter() - began,
    )


class _Simulation:
    def __init__(self, priced: Priced, progress: Progress | None):
        program = priced.program
        self.program = program
        self.env = simpy.Environment(initial_time=0)
        self.start = np.full(program.n, -1, np.int64)
        self.end = np.full(program.n, -1, np.int64)
        self.done = bytearray(program.n)
        self.ended: dict[int, Event] = {}
        self.heads: dict[tuple[int, int], int] = {}
        self.shares = _Shares(self.env, priced)
        self.waiting: dict[int, tuple[Event, int]] = _rendezvous(self.env, program.group)
        self.progress = progress
        self.count = 0
        self.report_every = max(1, program.n // 100)

    def run(self) -> None:
        program = self.program
        order = np.lexsort((np.arange(program.n), program.stream, program.rank))
        keys = list(zip(program.rank[order].tolist(), program.stream[order].tolist(), strict=True))
        queues: dict[tuple[int, int], list[int]] = {}
        for key, task in zip(keys, order.tolist(), strict=True):
            queues.setdefault(key, []).append(task)
        dep_ptr, dep_idx = program.dep_ptr.tolist(), program.dep_idx.tolist()
        group = program.group.tolist()
        for key, tasks in queues.items():
            self.env.process(self._stream(key, tasks, dep_ptr, dep_idx, group))
        self.env.run()
        if self.heads:
            raise explain(program, np.frombuffer(self.done, np.uint8).astype(bool), self.heads)

    def _stream(
        self,
        key: tuple[int, int],
        tasks: list[int],
        dep_ptr: list[int],
        dep_idx: list[int],
        group: list[int],
    ) -> Generator[Event, None, None]:
        """Rule 1: tasks in order, each after its dependencies and its group."""
        env, done, ended, shares = self.env, self.done, self.ended, self.shares
        for task in tasks:
            self.heads[key] = task
            for dep in dep_idx[dep_ptr[task] : dep_ptr[task + 1]]:
                if not done[dep]:
                    if dep not in ended:
                        ended[dep] = env.event()
                    yield ended[dep]
            if group[task] >= 0:
                yield self._meet(group[task])
            self.start[task] = env.now
            if shares.alone_ns[task] > 0:
                yield shares.begin(task)
            self.end[task] = env.now
            done[task] = 1
            if task in ended:
                ended.pop(task).succeed()
            self.count += 1
            if self.progress is not None and self.count % self.report_every == 0:
                self.progress(self.count, self.program.n)
        del self.heads[key]

    def _meet(self, group: int) -> Event:
        """Rule 1, groups: the event that comes when the last member is ready."""
        event, missing = self.waiting[group]
        self.waiting[group] = (event, missing - 1)
        if missing == 1:
            event.succeed()
        return event


def _rendezvous(env: simpy.Environment, group: np.ndarray) -> dict[int, tuple[Event, int]]:
    ids, sizes = np.unique(group[group >= 0], return_counts=True)
    pairs = zip(ids.tolist(), sizes.tolist(), strict=True)
    return {i: (env.event(), size) for i, size in pairs}


class _Shares:
    """Rules 2 and 3: who runs on which resource, how fast, and when each will therefore end."""

    def __init__(self, env: simpy.Environment, priced: Priced):
        self.env = env
        p, program = priced, priced.program
        self.rank = program.rank.tolist()
        self.is_compute = (program.kind == Kind.COMPUTE).tolist()
        self.is_transfer = (program.kind == Kind.TRANSFER).tolist()
        self.sm_ns, self.mem_ns, self.fixed_ns = (
            p.sm_ns.tolist(),
            p.mem_ns.tolist(),
            p.fixed_ns.tolist(),
        )
        self.sm_want, self.sm_drag = p.sm_want.tolist(), p.sm_drag.tolist()
        self.mem_drag = p.mem_drag.tolist()
        self.latency_ns, self.floor_ns = p.latency_ns.tolist(), p.floor_ns.tolist()
        self.sms, self.draw_milli = p.sms.tolist(), p.draw_milli.tolist()
        self.ports = [
            [(port, ns) for port, ns in zip(ports, times, strict=True) if port >= 0 and ns > 0]
            for ports, times in zip(p.port.tolist(), p.port_ns.tolist(), strict=True)
        ]
        self.alone_ns = p.alone_ns.tolist()

        self.sms_static = p.hardware_sms - p.comm_sms if p.static_split else p.hardware_sms
        self.static_split = p.static_split
        self.computing: list[list[int]] = [[] for _ in range(program.n_ranks)]
        self.rank_draw = [0] * program.n_ranks
        self.rank_sms_held = [0] * program.n_ranks
        self.on_port: list[list[int]] = [[] for _ in range(p.n_ports)]

        self.left: dict[int, float] = {}
        self.duration: dict[int, float] = {}
        self.rated_at: dict[int, int] = {}
        self.finish: dict[int, Event] = {}
        self.scheduled: dict[int, Event] = {}
        self.touched_ranks: set[int] = set()
        self.touched_ports: set[int] = set()
        self.rerate_due = False

    def begin(self, task: int) -> Event:
        """Put a task on its resources; the event comes when it has ended."""
        self.left[task] = 1.0
        self._move(task, 1)
        finish = self.env.event()
        self.finish[task] = finish
        return finish

    def _move(self, task: int, sign: int) -> None:
        """Enter (+1) or leave (-1) the task's resources and note which were touched."""
        rank = self.rank[task]
        if self.is_compute[task]:
            running = self.computing[rank]
            running.append(task) if sign > 0 else running.remove(task)
            self.touched_ranks.add(rank)
        elif self.is_transfer[task]:
            for port, _ in self.ports[task]:
                users = self.on_port[port]
                users.append(task) if sign > 0 else users.remove(task)
                self.touched_ports.add(port)
            if self.draw_milli[task] or self.sms[task]:
                self.rank_draw[rank] += sign * self.draw_milli[task]
                self.rank_sms_held[rank] += sign * self.sms[task]
                self.touched_ranks.add(rank)
            if sign > 0 and not self.ports[task]:
                self._rate(task)
        if not self.rerate_due:
            self.rerate_due = True
            event = self.env.event()
            event._ok, event._value = True, None
            event.callbacks.append(self._rerate)
            self.env.schedule(event, priority=_END_OF_INSTANT)  # type: ignore[arg-type]

    def _rerate(self, _: Event) -> None:
        """Give every task on a touched resource the speed of its new company."""
        self.rerate_due = False
        tasks = {t for rank in self.touched_ranks for t in self.computing[rank]}
        tasks.update(t for port in self.touched_ports for t in self.on_port[port])
        self.touched_ranks.clear()
        self.touched_ports.clear()
        for task in sorted(tasks):
            self._rate(task)

    def _rate(self, task: int) -> None:
        duration = self._duration(task)
        now = int(self.env.now)
        old = self.duration.get(task)
        if old == duration:
            return
        if old is not None:
            self.left[task] -= (now - self.rated_at[task]) / old
        self.duration[task] = duration
        self.rated_at[task] = now
        event = self.env.event()
        event._ok, event._value = True, task
        event.callbacks.append(self._finish)
        self.scheduled[task] = event
        self.env.schedule(event, delay=delay_ns(self.left[task], duration))

    def _duration(self, task: int) -> float:
        if self.is_compute[task]:
            rank = self.rank[task]
            held = 0 if self.static_split else self.rank_sms_held[rank]
            return compute_ns(
                self.sm_ns[task],
                self.mem_ns[task],
                self.fixed_ns[task],
                self.sm_want[task],
                self.sm_drag[task],
                self.mem_drag[task],
                self.sms_static - held,
                len(self.computing[rank]),
                self.rank_draw[rank],
            )
        slowest = max((ns * len(self.on_port[port]) for port, ns in self.ports[task]), default=0.0)
        return transfer_ns(self.latency_ns[task], self.floor_ns[task], slowest)

    def _finish(self, event: Event) -> None:
        task = int(event.value or 0)
        # A task whose speed changed since has a newer event; the old one means nothing.
        if self.scheduled.get(task) is not event:
            return
        self._move(task, -1)
        for table in (self.left, self.duration, self.rated_at, self.scheduled):
            table.pop(task, None)
        self.finish.pop(task).succeed()
