"""Pieces of the SimPy engine: events with a fixed order, requests, ranks, the prefix cache."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from simdeep.serving.sim.fleet import F64, I64, Cache, Event, Grid, Requests, State, UnitKind

if TYPE_CHECKING:
    from simdeep.serving.sim.reference_unit import Unit


class At(simpy.Event):
    """An event after a delay; those of an instant come by kind, then by number."""

    def __init__(self, env: Any, delay: int, kind: Event, number: int):
        super().__init__(env)
        self._ok, self._value = True, None
        env.schedule(self, priority=(int(kind) << 40) + number, delay=delay)


def packed(grid: Grid) -> F64:
    """A grid as `formulas.seconds_at` takes it: lengths of the axes, the axes, seconds."""
    sizes = np.array([len(axis) for axis in grid.axes], float)
    return np.concatenate([sizes, *grid.axes, np.asarray(grid.seconds, float).ravel()])


def ns_per_token(kind: UnitKind) -> float:
    """Nanoseconds for each prompt token of a unit whose chunks are full of short prompts."""
    if kind.chunk_tokens == 0:
        return 0.0
    from simdeep.serving.sim.formulas import seconds_at

    seconds = seconds_at(packed(kind.grid), 0, 0.0, float(kind.chunk_tokens), 0.0, 0.0)
    return float(seconds) / (kind.chunk_tokens * kind.ranks) * 1e9


@dataclass(eq=False)
class Rank:
    """A DP rank: its KV tokens (reserved ones too), rows, and part in the running iteration."""

    node: int
    kv: int = 0
    rows: list[Job] = field(default_factory=list)
    active: list[Job] = field(default_factory=list)  # rows of the running iteration
    reserved: int = 0  # rows to come
    carried: Job | None = None  # a prompt begun and not done
    new: int = 0
    attended: int = 0
    begun: int = 0
    work: float = 0.0  # of rows and new tokens

    @property
    def context(self) -> int:
        """KV tokens the rows attend to."""
        return sum(job.length for job in self.rows)

    def clear(self) -> None:
        """Forget everything."""
        self.kv = self.reserved = self.new = self.attended = self.begun = 0
        self.rows, self.active, self.carried = [], [], None


@dataclass(eq=False)
class Job:
    """A request on its way. `home` holds its prompt, `unit` its row (or the queue for one)."""

    number: int
    arrival: int
    input: int
    output: int
    cached: int
    prefix: int
    prefix_tokens: int
    done: int
    state: State = State.AWAY
    since: int = 0
    stayed: I64 = field(default_factory=lambda: np.zeros(len(State), np.int64))
    begun: int = -1
    first: int = -1
    last: int = -1
    finish: int = -1
    hit: int = -1
    preempted: int = 0
    redone: int = 0
    todo: int = 0
    home: Unit | None = None
    rank: Rank | None = None
    kv: int = 0
    unit: Unit | None = None
    place: Rank | None = None
    place_kv: int = 0
    out_at: int = 0
    version: int = 0

    @classmethod
    def of(cls, i: int, given: Requests) -> Job:
        """Request `i`."""
        return cls(
            number=i,
            arrival=int(given.arrival_ns[i]),
            input=int(given.input_tokens[i]),
            output=int(given.output_tokens[i]),
            cached=int(given.cached_tokens[i]),
            prefix=int(given.prefix[i]),
            prefix_tokens=int(given.prefix_tokens[i]),
            done=int(given.delivered[i]),
        )

    @property
    def length(self) -> int:
        """Tokens of prompt and answer so far."""
        return self.input + self.done

    def to(self, state: State, now: int) -> None:
        """Change state."""
        self.stayed[self.state] += now - self.since
        self.state, self.since = state, now

    def move_to(self, unit: Unit) -> None:
        """Count as the row (to be) of a unit."""
        self.unit = unit
        unit.live += 1

    def leave_home(self) -> None:
        """No longer hold a prompt anywhere."""
        home, self.home = self.home, None
        _left(home)

    def leave_unit(self) -> None:
        """No longer be a row, nor wait to be one, anywhere."""
        unit, self.unit = self.unit, None
        _left(unit)


def _left(unit: Unit | None) -> None:
    if unit is not None:
        unit.live -= 1
        unit.power()


class PrefixCache:
    """Prefixes in host memory and on disk, least recently used first out."""

    def __init__(self, given: Cache):
        self.given = given
        self.tiers: tuple[OrderedDict[int, int], OrderedDict[int, int]]
        self.tiers = (OrderedDict(), OrderedDict())

    def hit(self, job: Job) -> int:
        """Tokens of a prompt that are here; touches its prefix."""
        if not self.given.by_prefix:
            return min(job.cached, job.length - 1)
        for tier in self.tiers:
            if job.prefix in tier:
                tier.move_to_end(job.prefix)
                found = min(tier[job.prefix], job.prefix_tokens, job.length - 1)
                return found // self.given.block_tokens * self.given.block_tokens
        return 0

    def tier(self, job: Job) -> int:
        """Where a prefix that is here lies."""
        if not self.given.by_prefix:
            return self.given.tier
        return 0 if job.prefix in self.tiers[0] else 1

    def insert(self, job: Job) -> None:
        """Keep the prefix of a prompt that was processed."""
        if not self.given.by_prefix or job.prefix < 0:
            return
        size = job.prefix_tokens
        for tier in self.tiers:
            size = max(size, tier.pop(job.prefix, 0))
        ram, ssd = self.tiers
        ram[job.prefix] = size
        while sum(ram.values()) > self.given.ram_tokens:
            prefix, size = ram.popitem(last=False)
            ssd[prefix] = size
        while sum(ssd.values()) > self.given.ssd_tokens:
            ssd.popitem(last=False)
