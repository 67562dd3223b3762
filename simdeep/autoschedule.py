"""A schedule made for a scenario: chunks timed by the engine, an order searched, and run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from simdeep.cost.memory import static_memory
from simdeep.cost.program import Jitter, Machine, price_program
from simdeep.errors import InputError, Problem
from simdeep.program.columns import I64, Action
from simdeep.program.lower.train import Effects, lower
from simdeep.program.schedule.actions import Act, Overlap
from simdeep.program.schedule.costs import F64, Costs
from simdeep.program.search.known import known_tables
from simdeep.program.search.probe import probe_table
from simdeep.program.search.problem import Activations, Placement, Task
from simdeep.program.search.schedule import Found, search_schedule

if TYPE_CHECKING:
    from simdeep.engine.timeline import Timeline
    from simdeep.program.schedule.table import Table
    from simdeep.spec.scenario import Scenario

GIB = 2**30


@dataclass(frozen=True, eq=False)
class ChunkCosts:
    """What a scenario's chunks cost under a placement.

    Attributes:
        costs: seconds of F, I, W and blocks by stage, and of the slowest transfer between ranks.
        after_f, after_i: bytes by stage that a chunk holds after its F, and after its I.
        static: bytes each rank holds all the time: parameters, gradients, optimizer, buffers.
        working: bytes by rank that a cell holds while it runs, more than at its start and end.
    """

    costs: Costs
    after_f: F64
    after_i: F64
    static: I64
    working: F64

    @property
    def fixed(self) -> F64:
        """Bytes of each rank that no order changes."""
        return self.static + self.working


@dataclass(frozen=True, eq=False)
class Option:
    """A placement with the order found for it, or the reason why there is none.

    Attributes:
        step_s: seconds of the whole step with that order, run by the engine.
        known_step_s: the same of the best published table that fits; None if none does.
        peak: bytes of each rank: the static part and the activations of the order.
    """

    placement: Placement
    chunks: ChunkCosts
    found: Found | None
    reason: str = ""
    table: Table | None = None
    step_s: float = inf
    known_name: str | None = None
    known_step_s: float | None = None
    peak: F64 | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """All placements tried for a scenario within a memory of `memory` bytes a GPU."""

    scenario: Scenario
    memory: float
    options: tuple[Option, ...]

    @property
    def best(self) -> Option | None:
        """The option with the shortest step; None if none fits."""
        fits = [option for option in self.options if option.table is not None]
        return min(fits, key=lambda option: option.step_s, default=None)


def placements(scenario: Scenario) -> Iterator[Placement]:
    """The placements that the layout's stages admit."""
    pp, vpp, microbatches = scenario.layout.pp, scenario.layout.vpp, scenario.microbatches
    if vpp > 1:
        yield Placement.interleaved(pp, vpp, microbatches)
    if vpp == 2:
        yield Placement.v_shape(pp, microbatches)
    if vpp == 1:
        yield Placement.one_stage(pp, microbatches)
        if pp > 1 and microbatches % 2 == 0:
            yield Placement.two_directions(pp, microbatches)


def plan_schedule(
    scenario: Scenario,
    machine: Machine,
    *,
    memory_bytes: float | None = None,
    effort: float = 1.0,
    jitter: Jitter | None = None,
    stage: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Search an order for every placement of the scenario's stages.

    The searched orders and the best published ones are then run by the engine, with everything the
    search leaves out: contention, different draws of routing, the end of the step.

    Args:
        scenario: a training step; its own schedule does not matter.
        machine: what to price it for.
        memory_bytes: limit of a GPU; its capacity if None.
        effort: see `search_schedule`.
        jitter: of the kernels in the final runs.
        stage: told what is being done.
    """
    if scenario.kind != "train":
        message = f"is {scenario.kind}; only training steps (kind: train) have a schedule"
        raise InputError([Problem("", "kind", message)])
    memory = machine.gpu.hbm_bytes if memory_bytes is None else memory_bytes
    options = []
    for placement in placements(scenario):
        stage(f"searching an order, {placement.name}")
        options.append(_option(scenario, machine, placement, memory, effort, jitter))
    return Plan(scenario, memory, tuple(options))


def auto_table(scenario: Scenario, machine: Machine, jitter: Jitter | None = None) -> Table:
    """The table of `schedule: auto`; raises InputError if no order fits the GPU."""
    plan = plan_schedule(scenario, machine, jitter=jitter)
    if plan.best is None or plan.best.table is None:
        reasons = "; ".join(f"{option.placement.name}: {option.reason}" for option in plan.options)
        raise InputError([Problem("", "train.schedule", f"is auto, but no order fits ({reasons})")])
    return plan.best.table


def _option(
    scenario: Scenario,
    machine: Machine,
    placement: Placement,
    memory: float,
    effort: float,
    jitter: Jitter | None,
) -> Option:
    chunks = chunk_costs(scenario, machine, placement)
    room = memory - chunks.fixed
    if (room <= 0).any():
        worst = float(chunks.fixed.max()) / GIB
        reason = (
            f"parameters, optimizer and buffers need {worst:.1f} GiB, there are {memory / GIB:.1f}"
        )
        return Option(placement, chunks, None, reason)
    activations = Activations(chunks.after_f, chunks.after_i, room)
    try:
        task = Task(placement, chunks.costs, activations)
    except InputError:
        reason = "not even one micro-batch's activations fit beside parameters and optimizer"
        return Option(placement, chunks, None, reason)
    found = search_schedule(task, effort=effort, seed=scenario.simulate.seed)
    step = _step_s(scenario, machine, found.table, jitter)
    fit = {name: value for name, value in found.known.items() if value is not None}
    known_name = min(fit, key=lambda name: fit[name], default=None)
    table, known_step = found.table, None
    if known_name == found.source:
        known_step = step
    elif known_name is not None:
        known = next(t for t in known_tables(placement) if t.name == known_name)
        known_step = _step_s(scenario, machine, known, jitter)
        if known_step < step:  # what the search leaves out can turn a small gain around
            table, step = known, known_step
    peak = chunks.fixed + activations.peaks(table)
    return Option(placement, chunks, found, "", table, step, known_name, known_step, peak)


def chunk_costs(scenario: Scenario, machine: Machine, placement: Placement) -> ChunkCosts:
    """Time every chunk, and every block a rank could run, alone on its rank; and their memory."""
    from simdeep.engine import compiled

    table = probe_table(placement)
    lowered = lower(_folded(scenario), table, Effects(step_end=False))
    program = lowered.program
    timeline = compiled.run(price_program(program, machine))
    sends = program.action == Action.P2P
    took = timeline.end_ns - timeline.start_ns
    own = ~sends
    cells = sum(map(len, table.rows))
    first = np.full(cells, np.iinfo(np.int64).max)
    last = np.zeros(cells, np.int64)
    np.minimum.at(first, program.block[own], timeline.start_ns[own])
    np.maximum.at(last, program.block[own], timeline.end_ns[own])
    freed = np.bincount(program.block, program.mem_free, cells)
    taken = np.bincount(program.block, program.mem_take, cells)

    n = placement.n_stages
    seconds: dict[tuple[object, ...], list[float]] = {}
    held: dict[tuple[str, int], float] = {}
    cells_of = [(rank, cell) for rank, row in enumerate(table.rows) for cell in row]
    for index, (_, cell) in enumerate(cells_of):
        key = (cell.f.stage, cell.b.stage) if isinstance(cell, Overlap) else (cell.kind, cell.stage)
        seconds.setdefault(key, []).append(float(last[index] - first[index]) / 1e9)
        if isinstance(cell, Act):
            held[cell.kind, cell.stage] = float(taken[index] if cell.kind == "F" else freed[index])
    f, i, w = (np.array([np.mean(seconds[kind, s]) for s in range(n)]) for kind in "FIW")
    pair = f[:, None] + (i + w)[None, :]
    for a, b in ((a, b) for a in range(n) for b in range(n) if (a, b) in seconds):
        pair[a, b] = min(pair[a, b], max(float(np.mean(seconds[a, b])), f[a], i[b] + w[b]))
    after_f, after_i = (np.array([held[kind, s] for s in range(n)]) for kind in "FW")
    working = np.zeros(placement.n_ranks)
    for index, (rank, cell) in enumerate(cells_of):
        here = np.flatnonzero(program.block == index)
        steps = _running(timeline, here)
        stage = cell.f.stage if isinstance(cell, Overlap) else cell.stage
        known = {"F": after_f[stage], "I": max(after_i[stage] - after_f[stage], 0.0)}
        counted = known["F"] if isinstance(cell, Overlap) else known.get(cell.kind, 0.0)
        working[rank] = max(working[rank], steps - counted)
    p2p = float(took[sends].max(initial=0)) / 1e9
    static = static_memory(_folded(scenario), lowered)
    parts = sum(static.parts.values(), start=np.zeros(placement.n_ranks, np.int64))
    return ChunkCosts(Costs(f, i, w, pair, p2p), after_f, after_i, parts, working)


def _running(timeline: Timeline, rows: I64) -> float:
    """Most bytes that these tasks hold at once above what was held before them."""
    program = timeline.program
    at = np.concatenate([timeline.end_ns[rows], timeline.start_ns[rows]])
    change = np.concatenate([-program.mem_free[rows], program.mem_take[rows]])
    order = np.lexsort((change, at))  # at equal times what is freed comes first
    return float(np.cumsum(change[order]).max(initial=0))


def _step_s(scenario: Scenario, machine: Machine, table: Table, jitter: Jitter | None) -> float:
    """Seconds of a step under a table; peers folded, as for a comparison of orders they are."""
    from simdeep.engine import compiled

    program = lower(_folded(scenario), table).program
    return compiled.run(price_program(program, machine, jitter)).makespan_ns / 1e9


def _folded(scenario: Scenario) -> Scenario:
    if scenario.simulate.fold:
        return scenario
    return replace(scenario, simulate=scenario.simulate.model_copy(update={"fold": True}))
