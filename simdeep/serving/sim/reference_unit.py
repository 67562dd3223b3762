"""Units of the SimPy engine (`reference` has the rules)."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

from simdeep.serving.sim import formulas
from simdeep.serving.sim.fleet import Event, Role, State, UnitKind
from simdeep.serving.sim.outcome import UNIT, UNIT_SECONDS
from simdeep.serving.sim.parts import At, Job, Rank, ns_per_token

if TYPE_CHECKING:
    from simdeep.serving.sim.reference import Simulation


class Unit:
    """GPUs that run an iteration together."""

    def __init__(self, sim: Simulation, number: int, kind: UnitKind, kind_index: int, node0: int):
        self.sim, self.number, self.kind, self.kind_index = sim, number, kind, kind_index
        self.ranks = [Rank(node0 + i * kind.nodes // kind.ranks) for i in range(kind.ranks)]
        self.waiting: deque[Job] = deque()
        self.queue: deque[Job] = deque()  # for a place as a row
        self.plan: list[tuple[Job, Rank, int]] = []
        self.pending = 0  # prompt tokens to process
        self.queued_kv = 0
        self.queued_rows = 0
        self.link_free = [0, 0]
        self.on, self.down, self.live = True, False, 0
        self.powered, self.powered_at = False, 0
        self.busy, self.busy_at, self.ends_at = False, 0, 0
        self.ns_per_token = ns_per_token(kind)
        self.placements = 0
        self.sums: dict[str, int] = dict.fromkeys(UNIT, 0)
        self.times: dict[str, float] = dict.fromkeys(UNIT_SECONDS, 0.0)
        self.mine = dict(self.times)  # of the running iteration
        self.idle = False
        self.called = sim.env.event()
        self.process = sim.env.process(self.run())

    @property
    def accepts(self) -> bool:
        """Whether new requests may come."""
        return self.on and not self.down

    @property
    def kv(self) -> int:
        """KV tokens held or reserved."""
        return sum(rank.kv for rank in self.ranks)

    @property
    def step(self) -> int:
        """Most tokens a row gets in an iteration."""
        return 1 + self.kind.draft_tokens

    def run(self) -> Generator[simpy.Event, Any, None]:
        """The life of a unit: iterations, and rest while there is nothing to do."""
        while True:
            try:
                yield At(self.sim.env, 0, Event.START, self.number)
                duration = self.begin()
                if duration == 0:
                    yield from self.rest()
                    continue
                yield At(self.sim.env, duration, Event.ITERATION, self.number)
                self.end()
            except simpy.Interrupt:
                yield from self.rest()

    def rest(self) -> Generator[simpy.Event, Any, None]:
        """Wait to be called."""
        self.idle, self.called = True, self.sim.env.event()
        yield self.called

    def wake(self) -> None:
        """Let a unit that rests look for work at the end of this instant."""
        if self.idle and not self.down:
            self.idle = False
            self.called.succeed()

    # An iteration

    def begin(self) -> int:
        """Choose what the next iteration does; returns its nanoseconds, 0 if there is nothing."""
        if self.down:
            return 0
        for rank in self.ranks:
            while rank.rows and rank.kv + len(rank.rows) * self.step > self.kind.kv_tokens:
                self.preempt(rank)
        if self.kind.role is Role.MIXED:
            self.admit()
        self.choose_prompts()
        for rank in self.ranks:
            rank.active = list(rank.rows)
        seconds = self.seconds()
        if seconds < 0:
            return 0
        sim, now = self.sim, self.sim.env.now
        stall = 0
        placements = (now + sim.fleet.phase_ns) // sim.fleet.rebalance_ns
        if placements > self.placements:
            stall = sim.fleet.pause_ns
        self.placements = placements
        self.sums["stalled_ns"] += stall
        duration = stall + formulas.nanoseconds(seconds)
        self.busy, self.busy_at, self.ends_at = True, now, now + duration
        return duration

    def choose_prompts(self) -> None:
        """Fill the chunks of the ranks: prompts begun before, then the queue."""
        kind, now = self.kind, self.sim.env.now
        for rank in self.ranks:
            rank.new, rank.attended, rank.begun = 0, 0, 0
            rank.work = float(len(rank.rows) * self.step)
            if rank.carried is not None:
                job, rank.carried = rank.carried, None
                self.take(job, rank)
        while self.waiting:
            job = self.waiting[0]
            need = job.length + 1
            fitting = [rank for rank in self.ranks if self.budget(rank) >= 1.0]
            fitting = [rank for rank in fitting if self.begins(rank) and self.room(rank, need)]
            if not fitting:
                break
            rank = min(fitting, key=lambda r: r.work)
            self.waiting.popleft()
            rank.kv += need
            rank.reserved += kind.role is Role.MIXED
            rank.begun += 1
            job.kv, job.rank = need, rank
            job.to(State.PREFILLING, now)
            if job.begun < 0:
                job.begun = now
            self.take(job, rank)

    def budget(self, rank: Rank) -> float:
        """Work that the chunk of a rank has room for."""
        return self.kind.chunk_tokens - rank.work

    def begins(self, rank: Rank) -> bool:
        """Whether a rank may begin one more prompt."""
        limit = self.kind.max_prompts
        return limit == 0 or rank.begun < limit

    def room(self, rank: Rank, need: int) -> bool:
        """Whether a rank takes one more request of so many tokens."""
        if self.kind.role is Role.PREFILL:
            return rank.kv + need <= self.kind.kv_tokens
        taken = len(rank.rows) + rank.reserved
        if taken >= self.kind.max_rows:
            return False
        free = self.kind.kv_tokens - int(self.kind.kv_tokens * self.sim.fleet.watermark)
        return rank.kv == 0 or rank.kv + need + (taken + 1) * self.step <= free

    def take(self, job: Job, rank: Rank) -> None:
        """Plan as much of a prompt as the chunk has room for."""
        seen, budget, equal = job.length - job.todo, self.budget(rank), self.kind.equal_context
        tokens = 0
        if budget >= 1.0:
            tokens = min(job.todo, formulas.tokens_within(budget, seen, equal))
        rank.new += tokens
        rank.work += formulas.work_of(tokens, seen, equal)
        if tokens < job.todo:  # one prompt at most is left unfinished on a rank
            rank.work = max(rank.work, float(self.kind.chunk_tokens))
        rank.attended += tokens * seen + tokens * (tokens + 1) // 2
        self.plan.append((job, rank, tokens))

    def seconds(self) -> float:
        """Seconds of the slowest rank, below zero if none has anything to do."""
        now, fleet = self.sim.env.now, self.sim.fleet
        stale = formulas.stale_at(now + fleet.phase_ns, fleet.rebalance_ns, fleet.drift)

        def at(new: int, rows: int, attended: int) -> float:
            point = (stale, float(new), float(rows), attended / max(new + rows, 1))
            return float(formulas.seconds_at(self.sim.grids[self.kind_index], 0, *point))

        slowest, worst, total = -1.0, self.ranks[0], 0.0
        for rank in self.ranks:
            if rank.new + len(rank.active):
                mine = at(rank.new, len(rank.active), rank.attended + rank.context)
                total += mine
                if mine > slowest:
                    slowest, worst = mine, rank
        if slowest >= 0:
            self.mine["balance_ns"] = total / len(self.ranks) * 1e9
            share = float(worst.new > 0)
            if worst.new and worst.active:
                alone = at(worst.new, 0, worst.attended)
                rows = at(0, len(worst.active), worst.context)
                share = alone / (alone + rows) if alone + rows > 0 else 0.5
            self.mine["prompt_ns"] = slowest * share * 1e9
            for name, value in self.mine.items():
                self.times[name] += value
        return slowest

    def end(self) -> None:
        """Rows and finished prompts get their tokens."""
        now, sim = self.sim.env.now, self.sim
        self.busy = False
        self.sums["busy_ns"] += now - self.busy_at
        self.sums["iterations"] += 1
        for rank in self.ranks:
            for job in rank.active:
                self.decode(job, rank)
        plan, self.plan = self.plan, []
        for job, rank, tokens in plan:
            job.todo -= tokens
            self.pending -= tokens
            sim.counters["new_tokens"] += tokens
            if job.todo:
                rank.carried = job
            else:
                self.answer(job, rank)
        if self.kind.role is not Role.PREFILL:
            self.admit()

    def decode(self, job: Job, rank: Rank) -> None:
        """A row gets a token, and the drafted ones that are accepted."""
        left = job.output - job.done
        tokens = 1
        if self.kind.draft_tokens:
            chance, drafted = self.kind.acceptance, self.kind.draft_tokens
            tokens += formulas.accepted(self.sim.fleet.seed, job.number, left, chance, drafted)
        tokens = min(tokens, left)
        self.sim.deliver(job, tokens)
        rank.kv += tokens
        job.kv += tokens
        if job.done == job.output:
            rank.kv -= job.kv
            rank.rows.remove(job)
            self.sim.finish(job)

    def answer(self, job: Job, rank: Rank) -> None:
        """A prompt is done: its request gets a token."""
        sim = self.sim
        if job.done == 0:
            sim.counters["prompt_tokens"] += job.input
        sim.cache.insert(job)
        sim.deliver(job, 1)
        mixed = self.kind.role is Role.MIXED
        if mixed:
            rank.reserved -= 1
        if job.done == job.output:
            rank.kv -= job.kv
            sim.finish(job)
        elif mixed:
            job.move_to(self)
            job.leave_home()
            job.place = rank
            job.to(State.ROW, sim.env.now)
            rank.rows.append(job)
        else:
            sim.hand_over(job)

    # Rows come and go

    def load(self) -> int:
        """What balancing goes by: rows or KV tokens, those to come too."""
        if self.sim.fleet.by_rows:
            return self.queued_rows + sum(len(r.rows) + r.reserved for r in self.ranks)
        return self.queued_kv + self.kv

    def wait_ns(self) -> float:
        """What routing of prompts goes by: about how long until all that is here has begun.

        What is left of the running iteration, then the prompt tokens that are not part of it. Of a
        mixed unit, whose iterations are short, tokens: those of prompts and of KV.
        """
        if self.kind.role is Role.MIXED:
            return float(self.pending + self.kv)
        planned = sum(tokens for _, _, tokens in self.plan)
        running = self.ends_at - self.sim.env.now if self.busy else 0
        return running + (self.pending - planned) * self.ns_per_token

    def enqueue(self, job: Job, front: bool = False) -> None:
        """Let a request wait for a place as a row."""
        (self.queue.appendleft if front else self.queue.append)(job)
        self.queued_kv += job.length
        self.queued_rows += 1

    def admit(self) -> None:
        """Give places to requests that wait for one, in order, while there are any."""
        sim, now = self.sim, self.sim.env.now
        while self.queue and not self.down:
            job = self.queue[0]
            fitting = [rank for rank in self.ranks if self.room(rank, job.length)]
            if not fitting:
                break
            if sim.fleet.by_rows:
                rank = min(fitting, key=lambda r: len(r.rows) + r.reserved)
            else:
                rank = min(fitting, key=lambda r: r.kv)
            self.queue.popleft()
            self.queued_kv -= job.length
            self.queued_rows -= 1
            rank.kv += job.length
            rank.reserved += 1
            job.place, job.place_kv = rank, job.length
            if job.state is State.SWAPPED:
                job.to(State.FETCHED, now)
                size = (job.length - 1) * sim.fleet.kv_bytes
                wait = max(now, job.out_at) - now
                back = formulas.moving_ns(size, self.kind.swap_bytes_per_s)
                sim.ready(job, wait + back, self.join)
            elif job.home is None:
                self.join(job)
            else:
                job.to(State.MOVING, now)
                sim.network.start(job, (job.length - 1) * sim.fleet.kv_bytes)

    def join(self, job: Job) -> None:
        """Become a row of the place that was reserved."""
        rank = job.place
        assert rank is not None
        rank.reserved -= 1
        if job.home is not None:
            source = job.home
            assert job.rank is not None
            self.sim.counters["moved_tokens"] += job.length - 1
            job.rank.kv -= job.kv
            job.leave_home()
            source.wake()
        job.kv = job.place_kv
        rank.rows.append(job)
        job.to(State.ROW, self.sim.env.now)
        self.wake()

    def preempt(self, rank: Rank) -> None:
        """The last row of a rank makes room."""
        sim, now = self.sim, self.sim.env.now
        job = rank.rows.pop()
        rank.kv -= job.kv
        job.preempted += 1
        if sim.fleet.swap:
            size = (job.length - 1) * sim.fleet.kv_bytes
            job.out_at = now + formulas.moving_ns(size, self.kind.swap_bytes_per_s)
            job.to(State.SWAPPED, now)
            self.enqueue(job, front=True)
        elif self.kind.role is Role.MIXED:
            job.leave_unit()
            sim.enter(job, self)
            job.to(State.WAITING, now)
            self.waiting.appendleft(job)
        else:
            job.leave_unit()
            sim.route(job)

    # Power and failure

    def power(self) -> None:
        """Keep account of the time the unit is paid for: on, or still at work."""
        now, wanted = self.sim.env.now, self.on or self.live > 0
        if wanted and not self.powered:
            self.powered_at = now
        if self.powered and not wanted:
            self.sums["powered_ns"] += now - self.powered_at
        self.powered = wanted

    def stop(self, now: int) -> None:
        """Account for an iteration that goes no further."""
        if not self.busy:
            return
        self.sums["busy_ns"] += now - self.busy_at
        left = (self.ends_at - now) / (self.ends_at - self.busy_at)
        for name, value in self.mine.items():
            self.times[name] -= left * value

    def clear(self) -> None:
        """Lose everything in the unit."""
        self.stop(self.sim.env.now)
        self.busy = False
        for rank in self.ranks:
            rank.clear()
        self.waiting.clear()
        self.queue.clear()
        self.plan.clear()
        self.pending = self.queued_kv = self.queued_rows = 0
        self.link_free = [self.sim.env.now] * 2
