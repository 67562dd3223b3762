"""A schedule made for a scenario: chunks timed by the engine, an order searched, and run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from simdeep.autoschedule.chunks import ChunkCosts, chunk_costs, folded
from simdeep.cost.program import Jitter, Machine, price_program
from simdeep.errors import InputError, Problem
from simdeep.program.lower.train import lower
from simdeep.program.schedule.costs import F64
from simdeep.program.search import (
    Activations,
    Found,
    Placement,
    Task,
    known_tables,
    search_schedule,
)

if TYPE_CHECKING:
    from simdeep.program.schedule.table import Table
    from simdeep.spec.scenario import Scenario

GIB = 2**30


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
        reason = f"parameters, optimizer and buffers need {worst:.1f} GiB, of {memory / GIB:.1f}"
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


def _step_s(scenario: Scenario, machine: Machine, table: Table, jitter: Jitter | None) -> float:
    """Seconds of a step under a table; peers folded, as for a comparison of orders they are."""
    from simdeep.engine import compiled

    program = lower(folded(scenario), table).program
    return compiled.run(price_program(program, machine, jitter)).makespan_ns / 1e9
