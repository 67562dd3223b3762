"""Rules of list scheduling, varied one at a time: what to run first, how deep to fill, when W."""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import chain, combinations, product
from math import inf
from typing import NamedTuple

import numpy as np

from simdeep.program.search.bound import round_trip
from simdeep.program.search.flat import F64, I64, Flat, Rows


class Rule(NamedTuple):
    """A choice of every field, each an index into the attribute of `Rules` of that name."""

    put_off: int = 0
    depth: int = 0
    mode: int = 0
    fill: int = 0
    tilt: int = 0
    first: int = 0
    wait: int = 0
    block: int = 0


class Rules:
    """The rules for a task, the likely choices first; `best` is moved by who judges them."""

    def __init__(self, flat: Flat, spans: bool):
        from simdeep.program.search.dispatch_kernel import F_FIRST, I_FIRST, IN_TURN

        self.flat = flat
        self.best = Rule()
        trips = self._round_trips()
        most = float(trips.max())
        # Weight gradients at once until the last micro-batches, whose input gradients should
        # come back fast; how many those are depends on how deep the pipeline is filled.
        late = tuple((b, x * most) for x in (1.5, 1.0, 2.0, 0.5, 3.0) for b in (0.0, 1.0))
        one_chunk = len(flat.rank) == flat.n_ranks
        self.put_off: tuple[tuple[float, float], ...] = ((inf, 0.0), *late)
        self.depth = tuple(self._depths(trips, (inf, 2.5) if spans else (2.0, inf)))
        turn = (IN_TURN, I_FIRST, F_FIRST)
        self.mode = (I_FIRST, IN_TURN, F_FIRST) if spans else turn
        self.fill = (0.0, 0.25, 0.5, 1.0, 0.75) if spans else (0.5, 1.0, 0.0, 0.25, 0.75)
        self.tilt = ((1.0, 1.0),) if one_chunk else tuple(product((1.0, -1.0), repeat=2))
        self.first = (1.0, 0.5, 0.0, 0.75) if spans else (0.0, 1.0, 0.5, 0.75)
        self.wait = (0.0, 0.25, 0.5, 1.0)
        self.block = (0.5, 0.0, 1.0) if flat.block.any() else (0.0,)

    def walk(self, most: int) -> Iterator[Rule]:
        """At most so many rules, each once: first one field of the best so far changed, as long
        as that leads to a better one, then two."""
        seen: set[Rule] = set()
        for rule in chain(self._singles(seen), self._pairs()):
            if rule not in seen:
                if len(seen) == most:
                    return
                seen.add(rule)
                yield rule

    def _singles(self, seen: Set[Rule]) -> Iterator[Rule]:
        fresh = True
        while fresh:
            before = len(seen)
            for name in Rule._fields:
                yield from self._changed(self.best, name)
            fresh = len(seen) > before

    def _pairs(self) -> Iterator[Rule]:
        for first, second in combinations(Rule._fields, 2):
            for rule in self._changed(self.best, first):
                yield from self._changed(rule, second)

    def _changed(self, rule: Rule, name: str) -> Iterator[Rule]:
        for index in range(len(getattr(self, name))):
            yield rule._replace(**{name: index})

    def made(self, rule: Rule) -> Rows | None:
        """The rows that a rule makes, None if it runs into a dead end."""
        from simdeep.program.search.dispatch_kernel import Knobs, dispatch

        flat = self.flat
        backlog, late = self.put_off[rule.put_off]
        deep_f, deep_i = self.tilt[rule.tilt]
        knobs = Knobs(
            mode=self.mode[rule.mode],
            deep_f=deep_f,
            deep_i=deep_i,
            fill=self.fill[rule.fill],
            wait_i=self.wait[rule.wait],
            wait_first=self.first[rule.first],
            wait_block=self.block[rule.block],
            backlog=backlog,
            late=late,
        )
        widest = 3 * flat.microbatches * int(np.diff(flat.held_ptr).max())
        code = np.full((flat.n_ranks, widest), -1, np.int32)
        length = np.zeros(flat.n_ranks, np.int64)
        if dispatch(flat, knobs, self.depth[rule.depth], code, length):
            return Rows(code, length)
        return None

    def _round_trips(self) -> F64:
        """Micro-batches that each chunk's rank works through while one goes on and comes back."""
        flat, chunks = self.flat, len(self.flat.rank)
        each = flat.took[: 3 * chunks].reshape(3, chunks).sum(axis=0)
        cycle = np.bincount(flat.rank, each, flat.n_ranks)[flat.rank]
        trips: F64 = round_trip(flat) / np.maximum(cycle, 1e-300)
        return trips

    def _depths(self, trips: F64, likely: tuple[float, ...]) -> Iterator[I64]:
        """Most micro-batches on their way, a chunk: as many as a round trip takes, more or less."""
        n, seen = self.flat.microbatches, set()
        for factor in (*likely, 2.0, 1.5, 1.0, 3.0, 1.25, 2.5):
            depth = np.full(len(trips), n) if factor == inf else np.ceil(trips * factor - 1e-9)
            whole: I64 = np.clip(depth, 1, n).astype(np.int64)
            if tuple(whole) not in seen:
                seen.add(tuple(whole))
                yield whole
