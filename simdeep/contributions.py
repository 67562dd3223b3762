"""What each effect of a real step contributes to its time, by simulating without and with it.

The ladder starts from the overlapped pair that a profile shows, repeated for every micro-batch, and
adds one effect at a time; each rung is simulated. The contributions add up to the step time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simdeep.analysis.closed_form import chunk_times
from simdeep.api import jitter_of, machine_of, schedule_table
from simdeep.cost.program import Jitter, Machine, price_program
from simdeep.engine import compiled
from simdeep.engine.timeline import Timeline
from simdeep.program.lower.train import Effects, lower
from simdeep.program.schedule import Table

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Contribution:
    """Seconds that one effect adds to the step (negative: it saves time), and what it is."""

    name: str
    seconds: float
    explanation: str


def contributions(scenario: Scenario) -> tuple[Contribution, ...]:
    """The ladder from ideal chunks to the whole step of a `train` scenario."""
    table = schedule_table(scenario)
    machine = machine_of(scenario)
    jitter = jitter_of(scenario, machine)
    bare = Effects(edges=False, sends=False, step_end=False, imbalance=False)
    rungs = [
        (
            "bubble and ramp",
            "pipeline fill and drain: idle ranks, and chunks without a partner to overlap with",
            bare,
            False,
        ),
        (
            "edges of the model",
            "embedding, dense layers, MTP module, output heads and loss, uneven stages",
            Effects(sends=False, step_end=False, imbalance=False),
            False,
        ),
        (
            "pipeline transfers",
            "hidden states and their gradients between stages",
            Effects(step_end=False, imbalance=False),
            False,
        ),
        (
            "routing imbalance",
            "experts get different loads; the busiest peer sets the pace of every all-to-all",
            Effects(step_end=False),
            False,
        ),
        (
            "kernel jitter",
            "the same kernels take different times on different peers; the slowest sets the pace",
            Effects(step_end=False),
            True,
        ),
        (
            "gradient reduction and optimizer",
            "reduce gradients, agree on their norm, update, gather parameters",
            Effects(),
            True,
        ),
    ]
    found: list[Contribution] = []
    reached = 0.0
    for name, explanation, effects, with_jitter in rungs:
        timeline = _run(scenario, table, machine, effects, jitter if with_jitter else None)
        if not found:
            reached = _chunks_s(table, timeline)
            text = "as much overlapped as the schedule has them in its steady state, nothing lost"
            chunks = f"{table.n_microbatches} forward and backward chunks of equal stages, {text}"
            found.append(Contribution("chunks", reached, chunks))
        step = timeline.makespan_ns / 1e9
        found.append(Contribution(name, step - reached, explanation))
        reached = step
    return tuple(found)


def _run(
    scenario: Scenario, table: Table, machine: Machine, effects: Effects, jitter: Jitter | None
) -> Timeline:
    return compiled.run(price_program(lower(scenario, table, effects).program, machine, jitter))


def _chunks_s(table: Table, timeline: Timeline) -> float:
    """All chunks of a middle rank at the median time of one forward and backward."""
    times = chunk_times(table, timeline, table.n_ranks // 2)
    return table.n_microbatches * times.pair
