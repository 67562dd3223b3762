"""Best first: bounds judge every candidate, the engine those that could still be among the best.

A candidate is simulated only if its bound is below the step time of the last plan of the ranking;
when none is left, the ranking is proved. Every candidate that is not simulated is booked under the
bound that ruled it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep import api
from simdeep.planner.bounds import bound_times
from simdeep.planner.candidates import Candidates
from simdeep.planner.groups import PriceTable, combinations, groups
from simdeep.planner.holdings import bound_memory, holdings
from simdeep.planner.judge import (
    Choice,
    Judged,
    Refusal,
    judge_many,
    packed,
    scenario_of,
    table_of,
)
from simdeep.planner.kinds import Kinds, kinds_of
from simdeep.planner.objective import Objective
from simdeep.planner.prices import NAMES, UnitPrices, drawn_prices, rough_prices
from simdeep.planner.replay import replay_bound
from simdeep.planner.step_end import bound_step_end
from simdeep.program.lower.draws import Key, latest
from simdeep.spec.params import params

if TYPE_CHECKING:
    from simdeep.program.routing.loads import Loads
    from simdeep.spec.scenario import Scenario

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Report = Callable[[int, int], None]
"""Told how many simulations are done, and how many it will take as far as one knows."""

GIB = 2**30
MEMORY, COMPUTE, BUBBLE, COMMUNICATION = "memory", "compute", "bubble", "communication"


@dataclass(eq=False)
class Bounds:
    """Bounds of all candidates: [candidates] seconds and bytes, raised as more becomes known."""

    compute: F64
    bubble: F64
    total: F64
    memory: F64

    def update(self, rows: I64, other: Bounds) -> None:
        """Take better figures for some candidates; none ever falls."""
        for name in ("compute", "bubble", "total", "memory"):
            mine = getattr(self, name)
            mine[rows] = np.maximum(mine[rows], getattr(other, name))


@dataclass(eq=False)
class Found:
    """What a search saw: simulations, refusals, and what was pruned by which bound.

    `proved`: no unsimulated candidate can enter the ranking. Else `open_bound` is the least value
    one of them may have.
    """

    judged: list[Judged] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    pruned: Counter[str] = field(default_factory=Counter)
    proved: bool = False
    open_bound: float = np.inf
    bounds: Bounds | None = None


def price_table(
    scenarios: Sequence[Scenario],
    candidates: Candidates,
    price: Callable[[Scenario, Kinds], UnitPrices] = rough_prices,
) -> PriceTable:
    """Unit prices of every combination that the candidates have."""
    first, of = combinations(candidates)
    kinds = _kinds(scenarios)
    found = []
    for at in first.tolist():
        choice = Choice.of(candidates, at)
        found.append(price(scenario_of(scenarios[choice.cluster], choice), kinds))
    return PriceTable.join(found, of)


def _kinds(scenarios: Sequence[Scenario]) -> Kinds:
    return kinds_of(scenarios[0].model, scenarios[0].train.mtp)


def bound_all(scenarios: Sequence[Scenario], candidates: Candidates, table: PriceTable) -> Bounds:
    """Bounds of every candidate."""
    kinds, count = _kinds(scenarios), params(scenarios[0].model)
    n = candidates.n
    found = Bounds(*(np.zeros(n) for _ in range(4)))
    for group in groups(scenarios, candidates, kinds):
        held = holdings(group, candidates, table, kinds, count)
        end = bound_step_end(group, candidates, held, api.machine_of(group.scenario))
        times = bound_times(group, candidates, table, end)
        rows = group.rows
        found.compute[rows], found.bubble[rows] = times.compute, times.bubble
        found.total[rows] = times.total
        found.memory[rows] = bound_memory(group, candidates, table, held)
    return found


class Search:
    """One search: `run` it once."""

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        candidates: Candidates,
        objective: Objective,
        jobs: int = 1,
        report: Report | None = None,
    ):
        self.scenarios = tuple(scenarios)
        self.candidates = candidates
        self.objective = objective
        self.jobs = jobs
        self.report = report
        space = candidates.space
        self.keep, self.most = space.keep, space.simulations
        self.capacity = np.array(
            [s.topology.gpu.hbm_bytes - space.headroom_gib * GIB for s in scenarios]
        )[candidates["cluster"]]
        self.found = Found()
        self.ranking: list[float] = []
        self.drawn: dict[int, tuple[Key, Loads]] = {}
        self.blob = packed(self.scenarios)

    def prepare(self) -> None:
        """Bound every candidate in closed form."""
        table = price_table(self.scenarios, self.candidates)
        self.combo = table.of
        self.bounds = bound_all(self.scenarios, self.candidates, table)
        self.found.bounds = self.bounds
        self.exact = np.zeros(len(table.columns["attn_f"]), bool)
        self.average: dict[int, UnitPrices] = {}
        self.replayed = np.zeros(self.candidates.n, bool)
        self.open = self.bounds.memory <= self.capacity
        self.done = np.zeros(self.candidates.n, bool)

    def run(self) -> Found:
        """Search until the ranking is proved or the simulations are used up."""
        self.prepare()
        start = self._start()
        if len(start):
            self._simulate(start)
        while len(self.found.judged) + len(self.found.refused) < self.most:
            batch = self._next()
            if not len(batch):
                self.found.proved = True
                break
            self._simulate(batch)
        self._close()
        return self.found

    def _start(self) -> I64:
        """Candidates like the scenario's own layout: what they reach rules out many others."""
        first, c = self.scenarios[0], self.candidates
        layout, train, values = first.layout, first.train, c.space.values
        like = self.open & (c["cluster"] == 0)
        for key, own in (("tp", layout.tp), ("cp", layout.cp), ("ep", layout.ep)):
            like &= c[key] == own
        like &= (c["mbs"] == train.mbs) & (c["comm_sms"] == train.comm_sms)
        for key, word in (("recompute", train.recompute), ("precision", train.precision)):
            like &= c[key] == (values[key].index(word) if word in values[key] else -1)
        rows = np.flatnonzero(like)
        if not len(rows):
            return rows
        self.sharpen(rows)
        rows = rows[self.open[rows]]
        value = self._value(self.bounds.total[rows], rows)
        rows, value = rows[np.isfinite(value)], value[np.isfinite(value)]
        size = min(2 * self.keep, self.most)
        return rows[np.argsort(value, kind="stable")][:size]

    def sharpen(self, rows: I64) -> None:
        """Draw routing and replay schedules for some candidates."""
        rough = np.unique(self.combo[rows][~self.exact[self.combo[rows]]])
        if len(rough):
            self._draw(rough)
        vague = np.unique(rows[~self.replayed[rows]])
        if len(vague):
            self._replay(vague)

    @property
    def limit(self) -> float:
        """What a candidate must beat to enter the ranking."""
        return self.ranking[self.keep - 1] if len(self.ranking) >= self.keep else np.inf

    def _value(self, seconds: F64, rows: I64 | None = None) -> F64:
        cluster = self.candidates["cluster"]
        return self.objective.value(seconds, cluster if rows is None else cluster[rows])

    def _waiting(self) -> tuple[I64, F64]:
        """Candidates that may still enter the ranking, best bound first."""
        rows = np.flatnonzero(self.open & ~self.done)
        value = self._value(self.bounds.total[rows], rows)
        rows, value = rows[value < self.limit], value[value < self.limit]
        order = np.argsort(value, kind="stable")
        return rows[order], value[order]

    def _next(self) -> I64:
        """The candidates to simulate next: the best bounds, once routing is drawn for them."""
        size = 8 * self.jobs
        while True:
            rows, _ = self._waiting()
            head = rows[:size]
            rough = np.unique(self.combo[head][~self.exact[self.combo[head]]])
            if len(rough):
                self._draw(rough)
                continue
            vague = head[~self.replayed[head]]
            if not len(vague):
                return head
            self._replay(vague)

    def _draw(self, combos: I64) -> None:
        """Raise the bounds of all candidates of some combinations by drawing their routing."""
        rows = np.flatnonzero(np.isin(self.combo, combos) & self.open & ~self.done)
        part = self.candidates.rows(rows)
        first, of = combinations(part)
        least = []
        for at in first.tolist():
            choice = Choice.of(part, at)
            scenario = scenario_of(self.scenarios[choice.cluster], choice)
            prices = drawn_prices(scenario, _kinds(self.scenarios))
            last = latest()
            if last is not None:
                self.drawn[self._routing(scenario)] = last
            least.append(prices[0])
            self.average[int(self.combo[rows[at]])] = prices[1]
        table = PriceTable.join(least, of)
        self.bounds.update(rows, bound_all(self.scenarios, part, table))
        self.open &= self.bounds.memory <= self.capacity
        self.exact[combos] = True

    def _replay(self, rows: I64) -> None:
        """Raise the bounds of some candidates by replaying their schedules."""
        part = self.candidates.rows(rows)
        average = [self.average[int(combo)] for combo in self.combo[rows]]
        table = PriceTable.join(average, np.arange(len(rows)))
        kinds, count = _kinds(self.scenarios), params(self.scenarios[0].model)
        for group in groups(self.scenarios, part, kinds):
            if group.pipeline.share is None:
                continue
            held = holdings(group, part, table, kinds, count)
            end = bound_step_end(group, part, held, api.machine_of(group.scenario))
            for place, row in enumerate(group.rows.tolist()):
                scenario = scenario_of(group.scenario, Choice.of(part, row))
                unit = {name: table.columns[name][row] for name in NAMES}
                ends = end.reduce[place], float(end.after[place])
                seconds = replay_bound(scenario, table_of(scenario), group, unit, ends)
                self.bounds.total[rows[row]] = max(self.bounds.total[rows[row]], seconds)
        self.replayed[rows] = True

    def _routing(self, scenario: Scenario) -> int:
        layout, train = scenario.layout, scenario.train
        return hash((layout.ep, layout.cp * layout.tp, train.mbs, scenario.topology.name))

    def _simulate(self, rows: I64) -> None:
        choices = [Choice.of(self.candidates, int(row)) for row in rows]
        for result in self._judged(choices):
            if isinstance(result, Refusal):
                self.found.refused.append(result)
            else:
                self.found.judged.append(result)
                if result.memory_peak_gib * GIB <= self.capacity_of(result):
                    self.ranking.append(self.objective.of_judged(result))
        self.done[rows] = True
        self.ranking.sort()
        if self.report is not None:
            done = len(self.found.judged) + len(self.found.refused)
            self.report(done, min(self.most, done + len(self._waiting()[0])))

    def nearly(self, room: float, best: float, tries: int) -> list[Judged]:
        """Simulate some candidates that `room` times the memory might hold, better than `best`."""
        over = (self.bounds.memory > self.capacity) & (self.bounds.memory <= room * self.capacity)
        rows = np.flatnonzero(over & ~self.done & self.exact[self.combo])
        value = self._value(self.bounds.total[rows], rows)
        rows = rows[np.argsort(value, kind="stable")][: int((value < best).sum())]
        choices = [Choice.of(self.candidates, int(row)) for row in rows[:tries]]
        return [r for r in self._judged(choices) if isinstance(r, Judged)]

    def capacity_of(self, judged: Judged) -> float:
        """Bytes a plan may use on its cluster."""
        gpu = self.scenarios[judged.choice.cluster].topology.gpu
        return gpu.hbm_bytes - self.candidates.space.headroom_gib * GIB

    def _judged(self, choices: list[Choice]) -> Iterator[Judged | Refusal]:
        """Results in the order of the choices, which are shared out to processes."""
        if self.jobs == 1:
            yield from judge_many(self.blob, tuple(choices), ())
            return
        from joblib import Parallel, delayed

        size = max(1, -(-len(choices) // (2 * self.jobs)))
        parts = [tuple(choices[i : i + size]) for i in range(0, len(choices), size)]
        tasks = (delayed(judge_many)(self.blob, part, self._draws_of(part)) for part in parts)
        for results in Parallel(n_jobs=self.jobs, backend="loky")(tasks):
            yield from results

    def _draws_of(self, choices: tuple[Choice, ...]) -> tuple[tuple[Key, Loads], ...]:
        keys = {self._routing(scenario_of(self.scenarios[c.cluster], c)) for c in choices}
        return tuple(self.drawn[key] for key in sorted(keys) if key in self.drawn)

    def _close(self) -> None:
        """Book every candidate that was not simulated under the bound that ruled it out."""
        found, bounds = self.found, self.bounds
        rest = ~self.done
        over = rest & (bounds.memory > self.capacity)
        found.pruned[MEMORY] = int(over.sum())
        rest &= ~over
        limit = self.limit
        for name, seconds in (
            (COMPUTE, bounds.compute),
            (BUBBLE, bounds.bubble),
            (COMMUNICATION, bounds.total),
        ):
            out = rest & (self._value(seconds) >= limit)
            found.pruned[name] = int(out.sum())
            rest &= ~out
        if rest.any():
            found.open_bound = float(self._value(bounds.total)[rest].min())
