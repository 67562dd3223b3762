"""The SimPy engine: requests through units, as the rules read.

1. A request goes to the prefill unit that is first done with all it has (or to the mixed unit with
   the least tokens). Its cached prefix is read over the unit's cache link, one after the other;
   then it queues.
2. A unit runs one iteration after the other, all its ranks together, as its all-to-all ties them:
   it lasts as long as its slowest rank. Rows that joined before it starts decode a token (and
   drafted ones that are accepted); prompts get what the chunk leaves, those begun before first,
   then the queue in order, each to the rank with the least work that has room for its KV.
3. A finished prompt gives a token. Its KV then moves to the decode unit with the least load, to the
   rank with the least load that has room: a rank reserves room before the transfer, and the prefill
   rank keeps the KV until its end. Transfers share the bandwidth of both nodes equally.
4. Where rows could outgrow a rank's KV cache in the next iteration, the last to join leaves: its
   prompt, with what it has generated, is done again, or its KV goes to host memory and returns.
5. A unit that fails loses all KV and work in it; its requests are done again from the prompt,
   except those whose KV still lies at the prefill unit. Tokens delivered stay delivered.
6. At an instant events happen in the order of `Event`, then by number of unit or request; units
   start iterations when nothing else happens any more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import simpy

from simdeep.serving.sim import formulas
from simdeep.serving.sim.fleet import Event, Fleet, Requests, Role, State, Timed
from simdeep.serving.sim.network import Network
from simdeep.serving.sim.outcome import COUNTERS, RECORD, UNIT, UNIT_SECONDS, Outcome
from simdeep.serving.sim.parts import At, Job, PrefixCache, packed
from simdeep.serving.sim.reference_unit import Unit


class Simulation:
    """One run: the clock, all units and requests, and the ways between them."""

    def __init__(self, fleet: Fleet, requests: Requests):
        self.fleet = fleet
        self.env: Any = simpy.Environment(initial_time=0)
        self.grids = [packed(kind.grid) for kind in fleet.kinds]
        self.jobs = [Job.of(i, requests) for i in range(requests.n)]
        self.cache = PrefixCache(fleet.cache)
        self.network = Network(self)
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.gaps = np.zeros(formulas.GAP_BINS, np.int64)
        self.backlog: deque[Job] = deque()
        self.homeless: deque[Job] = deque()  # prompts done, no unit to decode in
        self.finished = 0
        self.samples: list[list[int]] = []
        self.units: list[Unit] = []
        node = 0
        for index, kind in enumerate(fleet.kinds):
            for i in range(kind.units):
                unit = Unit(self, len(self.units), kind, index, node)
                unit.on = kind.first_on is None or i < kind.first_on
                unit.power()
                self.units.append(unit)
                node += kind.nodes

    def run(self) -> int:
        """Run to the end; returns its time."""
        for job in self.jobs:
            self.at(job.arrival, Event.ARRIVAL, job.number, partial(self.arrive, job))
        for i, entry in enumerate(self.fleet.timed):
            self.at(entry.at_ns, entry.event, i, partial(self.timed, entry))
        env, end = self.env, self.fleet.end_ns
        while self.finished < len(self.jobs) and env.peek() <= end:
            self.take_samples(env.peek())
            env.step()
        last = int(env.now) if self.finished == len(self.jobs) or env.peek() > 2**63 else end
        self.take_samples(last)
        self.sample(last)
        return last

    def at(self, delay: int, kind: Event, number: int, do: Callable[[], None]) -> At:
        """Do something after a delay."""
        event = At(self.env, delay, kind, number)
        event.callbacks.append(lambda _: do())
        return event

    def ready(self, job: Job, delay: int, do: Callable[[Job], None]) -> None:
        """Do something with a request later, unless something happens to it before."""
        job.version += 1
        version = job.version

        def fire() -> None:
            if job.version == version:
                do(job)

        self.at(delay, Event.READY, job.number, fire)

    # The way of a request

    def arrive(self, job: Job) -> None:
        """A request comes, or is there as a row when the simulation begins."""
        if job.done:
            self.hand_over(job)
        else:
            self.route(job)

    def route(self, job: Job) -> None:
        """Send a prompt to a unit."""
        units = [u for u in self.units if u.kind.role is not Role.DECODE and u.accepts]
        if not units:
            job.to(State.BACKLOG, self.env.now)
            self.backlog.append(job)
            return
        unit = min(units, key=Unit.wait_ns)
        hit = self.enter(job, unit)
        if hit == 0:
            job.to(State.WAITING, self.env.now)
            self.queue_prompt(job)
            return
        job.to(State.LOADING, self.env.now)
        tier = self.cache.tier(job)
        rates = (unit.kind.ram_bytes_per_s, unit.kind.ssd_bytes_per_s)
        took = formulas.moving_ns(hit * self.fleet.kv_bytes, rates[tier])
        unit.link_free[tier] = max(self.env.now, unit.link_free[tier]) + took
        done = unit.link_free[tier] + self.fleet.cache.latency_ns
        self.ready(job, done - self.env.now, lambda job: self.loaded(job, hit))

    def loaded(self, job: Job, hit: int) -> None:
        """A cached prefix has arrived."""
        self.counters["loaded_tokens"] += hit
        self.queue_prompt(job)

    def enter(self, job: Job, unit: Unit) -> int:
        """Count a prompt as a unit's; returns the cached tokens it finds."""
        hit = self.cache.hit(job)
        if job.hit < 0:
            job.hit = hit
        job.todo = job.length - hit
        job.home, job.rank = unit, None
        unit.live += 1
        unit.pending += job.todo
        return hit

    def queue_prompt(self, job: Job) -> None:
        """Let a prompt wait for its turn."""
        assert job.home is not None
        job.to(State.WAITING, self.env.now)
        job.home.waiting.append(job)
        job.home.wake()

    def hand_over(self, job: Job) -> None:
        """Send a request whose prompt is done to a unit that decodes."""
        units = [u for u in self.units if u.kind.role is not Role.PREFILL and u.accepts]
        job.to(State.HELD, self.env.now)
        if not units:
            self.homeless.append(job)
            return
        unit = min(units, key=Unit.load)
        job.move_to(unit)
        unit.enqueue(job)
        unit.admit()

    def deliver(self, job: Job, tokens: int) -> None:
        """A request gets tokens."""
        now = self.env.now
        low, high = self.fleet.measure_ns
        if job.last >= 0 and low <= now < high:
            self.gaps[formulas.gap_bin(now - job.last)] += 1
        if job.first < 0:
            job.first = now
        job.last = now
        job.done += tokens
        self.counters["output_tokens"] += tokens

    def finish(self, job: Job) -> None:
        """A request has its last token."""
        job.to(State.DONE, self.env.now)
        job.finish = self.env.now
        job.leave_home()
        job.leave_unit()
        self.finished += 1

    # The timetable

    def timed(self, entry: Timed) -> None:
        """What the timetable says for this moment."""
        unit = self.units[entry.unit]
        if entry.event is Event.FAIL:
            if not unit.down:
                self.fail(unit)
            return
        if entry.event is Event.REPAIR:
            unit.down = False
        else:
            unit.on = entry.on
            unit.power()
        if unit.accepts:
            for _ in range(len(self.backlog)):
                self.route(self.backlog.popleft())
            for _ in range(len(self.homeless)):
                self.hand_over(self.homeless.popleft())
        unit.wake()

    def fail(self, unit: Unit) -> None:
        """A unit loses everything; its requests start again elsewhere."""
        unit.down = True
        unit.sums["failures"] += 1
        lost = [job for job in self.jobs if job.home is unit or job.unit is unit]
        unit.clear()
        unit.process.interrupt()
        for job in lost:
            job.version += 1
            self.network.cancel(job)
            if job.home is not unit and job.state in (State.HELD, State.MOVING):
                job.leave_unit()
                self.hand_over(job)  # its KV still lies at the prefill unit
                continue
            self.withdraw(job)
            job.redone += 1
            self.route(job)

    def withdraw(self, job: Job) -> None:
        """Take a request that lost its KV from where its place was queued for or reserved."""
        unit, other = job.unit, job.unit is not None and job.unit is not job.home
        if unit is not None and other and not unit.down:
            if job.state is State.HELD:
                unit.queue.remove(job)
                unit.queued_kv -= job.length
                unit.queued_rows -= 1
            elif job.state is State.MOVING:
                assert job.place is not None
                job.place.kv -= job.place_kv
                job.place.reserved -= 1
        if job in self.homeless:
            self.homeless.remove(job)
        job.leave_home()
        job.leave_unit()
        if unit is not None and not unit.down:
            unit.admit()

    # What is kept

    def take_samples(self, until: float) -> None:
        """Samples that are due before what happens at `until`."""
        while len(self.samples) * self.fleet.sample_ns <= until:
            self.sample(len(self.samples) * self.fleet.sample_ns)

    def sample(self, at: int) -> None:
        """Note the state."""
        counts = [0] * len(State)
        for job in self.jobs:
            counts[job.state] += 1
        row = [at, *counts, *self.counters.values()]
        for index in range(len(self.fleet.kinds)):
            units = [u for u in self.units if u.kind_index == index]
            busy = sum(u.sums["busy_ns"] + (at - u.busy_at) * u.busy for u in units)
            paid = sum(u.sums["powered_ns"] + (at - u.powered_at) * u.powered for u in units)
            done = sum(u.sums["iterations"] for u in units)
            row += [sum(u.kv for u in units), sum(u.powered for u in units), busy, paid, done]
        self.samples.append(row)


def run(fleet: Fleet, requests: Requests) -> Outcome:
    """Run requests through a fleet."""
    began = time.perf_counter()
    sim = Simulation(fleet, requests)
    end = sim.run()
    for unit in sim.units:
        unit.stop(end)
        unit.sums["powered_ns"] += (end - unit.powered_at) * unit.powered
    area = np.zeros(len(State), np.int64)
    for job in sim.jobs:
        job.to(job.state, end)
        area += job.stayed
    names = [name.removesuffix("_ns").removesuffix("_tokens") for name in RECORD]
    names = ["done" if name == "delivered" else name for name in names]
    records = [[getattr(job, name) for name in names] for job in sim.jobs]
    return Outcome(
        fleet=fleet,
        requests=requests,
        end_ns=end,
        records=np.array(records, np.int64).reshape(requests.n, len(RECORD)),
        samples=np.array(sim.samples, np.int64),
        units=np.array([[u.sums[name] for name in UNIT] for u in sim.units], np.int64),
        unit_ns=np.array([[u.times[name] for name in UNIT_SECONDS] for u in sim.units], float),
        area_ns=area,
        gaps=sim.gaps,
        engine="reference",
        wall_s=time.perf_counter() - began,
    )
