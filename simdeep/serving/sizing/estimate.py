"""What a design can take, from a few simulated iterations and queueing theory.

With s requests to be begun an iteration on a rank, an iteration has p = s * (new tokens) prompt
tokens and N = s * (output tokens - 1) / (tokens a step) rows, by Little's law; it takes T(p, N), so
a rank takes s / T requests a second. A deployment has headroom for what varies:

- rows in flight vary as those of a system with as many servers as come (M/G/inf): Poisson with the
  mean N of all ranks. What rows may number, and TPOT, are judged at the SLO's share of that law,
  N + z sqrt(N) (z: the normal quantile of the share), for all ranks together;
- prompts wait as in M/G/1 (Kingman's mean wait) for the ranks of all units as one server, with an
  exponential tail, then for the iteration that runs, and for their own.

Nothing here is fitted; the request simulation has the last word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.serving.iteration import IterationTable, iteration
from simdeep.serving.memory import DEFAULT_ROWS
from simdeep.serving.sizing.candidates import Design

if TYPE_CHECKING:
    from simdeep.serving.deployment import Unit
    from simdeep.serving.sizing.demand import Demand
    from simdeep.serving.sizing.goal import Goal

F64 = npt.NDArray[np.float64]

STEPS = 192
"""Loads that a design is judged at."""
ROWS = (1.0, 16.0, 64.0, 128.0, 256.0, 512.0)
"""Rows at which a decode iteration is simulated."""
MIXED_ROWS = (0.0, 64.0, 512.0)
FAR = 16384.0
"""A long context, for what attention adds."""
MOST_RHO = 0.999


@dataclass(frozen=True, eq=False)
class Priced:
    """A design with its iterations priced.

    Attributes:
        design: the unit.
        table: seconds of iterations at the mean context.
        chunk: prompt tokens of a full iteration, cut for the attention of long contexts.
        demand: of a request.
        goal: what is asked.
    """

    design: Design
    table: IterationTable
    chunk: float
    demand: Demand
    goal: Goal

    @cached_property
    def loads(self) -> Loads:
        """The loads a rank can take."""
        return _loads(self)

    @property
    def ranks(self) -> int:
        """DP ranks of a unit."""
        return self.design.unit.dp

    def seconds(self, prompt: npt.ArrayLike, rows: npt.ArrayLike) -> F64:
        """Seconds of iterations; below the grid its first point counts."""
        axes = self.table.axes
        return self.table.at(
            np.clip(prompt, axes[0][0], axes[0][-1]), np.clip(rows, axes[1][0], axes[1][-1]), 0.0
        )

    @cached_property
    def _known(self) -> dict[int, float]:
        return {}

    @cached_property
    def _latencies(self) -> dict[tuple[int, float], tuple[float, float]]:
        return {}

    def most_of(self, units: int) -> float:
        """Most requests a second that so many units take within the goal; 0: none."""
        if units not in self._known:
            self._known[units] = self._most(units)
        return self._known[units]

    def _most(self, units: int) -> float:
        loads = self.loads
        within = np.logical_and.accumulate(self._within(units))
        if not within[0]:
            return 0.0
        return units * self.ranks * float(loads.rate[int(within.sum()) - 1])

    def fewest(self, rate: float, most: int) -> int | None:
        """Fewest units, `most` at most, that take a rate within the goal."""
        if most < 1 or self.most_of(most) < rate:
            return None
        low, high = 1, most
        while low < high:
            middle = (low + high) // 2
            if self.most_of(middle) >= rate:
                high = middle
            else:
                low = middle + 1
        return low

    def latencies(self, units: int, rate: float) -> tuple[float, float]:
        """TTFT and TPOT (s) at the SLO's share; TTFT 0 of decode units, TPOT 0 of prefill units."""
        key = (units, rate)
        if key not in self._latencies:
            each = rate / (units * self.ranks)
            ttft, tpot = (
                float(np.interp(each, self.loads.rate, values))
                for values in (self._ttft(units), self._tpot(units))
            )
            self._latencies[key] = ttft, tpot
        return self._latencies[key]

    def best_tpot(self) -> float:
        """TPOT (s) of a rank with a single row, the least there is."""
        return float(self.seconds(0.0, 1.0)) / self.design.unit.accepted_tokens

    def best_ttft(self) -> float:
        """TTFT (s) of a prompt at the SLO's share that finds everything idle."""
        return float(self._own(0.0))

    def _within(self, units: int) -> npt.NDArray[np.bool_]:
        loads, goal, found = self.loads, self.goal, np.ones(STEPS, bool)
        if self.design.role != "prefill":
            found &= self._rows_at_share(units) <= self.design.rows
            if goal.tpot_s is not None:
                found &= self._tpot(units) <= goal.tpot_s
        if self.design.role != "decode":
            found &= loads.rho < MOST_RHO
            if goal.ttft_s is not None:
                found &= self._ttft(units) <= goal.ttft_s
        return found

    def _rows_at_share(self, units: int) -> F64:
        z = NormalDist().inv_cdf(self.goal.share)
        rows: F64 = self.loads.rows + z * np.sqrt(self.loads.rows / (units * self.ranks))
        return rows

    def _tpot(self, units: int) -> F64:
        if self.design.role == "prefill":
            return np.zeros(STEPS)
        seconds = self.seconds(self.loads.prompt, np.maximum(self._rows_at_share(units), 1.0))
        return seconds / self.design.unit.accepted_tokens

    def _ttft(self, units: int) -> F64:
        if self.design.role == "decode":
            return np.zeros(STEPS)
        loads, demand, share = self.loads, self.demand, self.goal.share
        rho = np.minimum(loads.rho, MOST_RHO)
        service = demand.new_tokens / (units * self.ranks * loads.prompt_rate)
        scv = (demand.arrival_scv + demand.prompt_scv) / 2
        mean_wait = rho / (1 - rho) * scv * service
        tail = np.log(np.maximum(rho / (1 - share), 1.0))
        wait = mean_wait / np.maximum(rho, 1e-9) * tail
        found: F64 = wait + share * loads.seconds + self._own(loads.rows)
        return found

    def _own(self, rows: npt.ArrayLike) -> F64:
        """Seconds of the iterations of a prompt at the SLO's share, beside rows that decode."""
        room = np.maximum(self.chunk - np.asarray(rows, float), 1.0)
        long = self.demand.long_new_tokens
        chunks = np.ceil(long / room)
        found: F64 = chunks * self.seconds(np.minimum(room, long), rows)
        return found


@dataclass(frozen=True, eq=False)
class Loads:
    """Loads of a rank, [STEPS] each, ascending: requests a second, prompt tokens and rows of an
    iteration, its seconds, the share of its prompt capacity in use, and that capacity (tokens/s).
    """

    rate: F64
    prompt: F64
    rows: F64
    seconds: F64
    rho: F64
    prompt_rate: F64


def _loads(priced: Priced) -> Loads:
    design, demand = priced.design, priced.demand
    prompts, decodes = design.role != "decode", design.role != "prefill"
    new = demand.new_tokens if prompts else 0.0
    steps = (demand.output_tokens - 1) / design.unit.accepted_tokens if decodes else 0.0
    ends = []
    if prompts:
        ends.append(priced.chunk / (new + steps))
    if decodes:
        ends.append(design.rows / max(steps, 1e-9))
    begun = np.linspace(0.0, min(ends), STEPS + 1)[1:]
    prompt, rows = begun * new, begun * steps
    seconds = priced.seconds(prompt, np.maximum(rows, 1.0) if not prompts else rows)
    room = np.maximum(priced.chunk - rows, 1.0) if prompts else np.ones(STEPS)
    full = priced.seconds(room, rows) if prompts else np.ones(STEPS)
    rate = begun / seconds
    prompt_rate = room / full
    return Loads(
        rate=np.maximum.accumulate(rate),
        prompt=prompt,
        rows=rows,
        seconds=seconds,
        rho=np.minimum(rate * new / prompt_rate, 1.0),
        prompt_rate=prompt_rate,
    )


class Pricer:
    """Prices designs; those that differ in batch limits alone are priced once.

    One routing draw stands for all of them, and popularity that drifts counts at its mean age: the
    simulation that verifies has them all.
    """

    def __init__(self, demand: Demand, goal: Goal):
        self.demand = demand
        self.goal = goal
        self.iterations = 0
        self._tables: dict[Unit, tuple[IterationTable, float]] = {}

    def price(self, design: Design) -> Priced:
        """Simulate a few iterations of a design, unless done."""
        scenario, unit = design.scenario, design.unit
        # Popularity moves as a random walk from one placement to the next: sqrt(age), mean 2/3.
        stale = unit.stale + 2 / 3 * scenario.rebalance.drift
        space = scenario.fields.size
        widest = unit.chunk_tokens
        if unit.role == "mixed":
            widest = max(widest, *space.chunk_tokens)
        key = replace(unit, max_rows=None, chunk_tokens=widest, draws=1, stale=stale)
        if key not in self._tables:
            most = max((*space.max_rows, unit.max_rows or DEFAULT_ROWS))
            self._tables[key] = self._table(key, float(most))
        table, each = self._tables[key]
        return Priced(design, table, unit.chunk_tokens / each, self.demand, self.goal)

    def _table(self, unit: Unit, most: float) -> tuple[IterationTable, float]:
        """Iterations of a unit, and the work of a prompt token in tokens without any context.

        Chunks are cut so that attention to long contexts takes no more than the rest spares.
        """
        demand = self.demand
        none, chunk = np.zeros(1), float(unit.chunk_tokens)
        if unit.role == "decode":
            rows = np.array([*(r for r in ROWS if r < most), most])
            return self._grid(unit, none, rows), 1.0
        near, far = (self._seconds(unit, chunk, 0.0, at) for at in (1.0, FAR))
        slope = max(0.0, far - near) / (FAR - 1.0)
        each = 1.0 + demand.prompt_context * slope / near
        prompts = chunk / each * np.array([1 / 16, 1 / 4, 1.0])
        if unit.role == "prefill":
            return self._grid(unit, prompts, none), each
        rows = np.array([*(r for r in MIXED_ROWS if r < most), most])
        table = self._grid(unit, np.array([0.0, *prompts[1:]]), rows)
        # A unit with nothing to do does not iterate: with next to nothing it takes as with one row.
        table.seconds[0, 0, 0] = self._seconds(unit, 0.0, 1.0, demand.row_context)
        return table, each

    def _grid(self, unit: Unit, prompts: F64, rows: F64) -> IterationTable:
        seconds = np.zeros((len(prompts), len(rows), 1))
        for i, prompt in enumerate(prompts):
            for j, row in enumerate(rows):
                tokens = prompt + row
                if tokens:
                    attended = prompt * self.demand.prompt_context + row * self.demand.row_context
                    seconds[i, j, 0] = self._seconds(
                        unit, float(prompt), float(row), float(attended / tokens)
                    )
        return IterationTable(prompts, rows, np.zeros(1), seconds)

    def _seconds(self, unit: Unit, prompt: float, rows: float, context: float) -> float:
        self.iterations += 1
        return iteration(unit, prompt, rows, context).seconds


def units_that_fit(gpus: int, design: Design) -> int:
    """Most units of a design among so many GPUs."""
    return math.floor(gpus / design.gpus)
