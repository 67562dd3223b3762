"""`simulate(scenario)`: the whole way from what the user wrote to what a step costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from simdeep.analysis.attribution import Attribution, attribute
from simdeep.analysis.blame import find_blame
from simdeep.analysis.bubble import BubbleMeasures, bubble_measures
from simdeep.analysis.closed_form import ClosedFormBubble, closed_form_bubble
from simdeep.analysis.critical import CriticalPath, critical_path
from simdeep.analysis.memory import GIB, Memory, memory
from simdeep.analysis.overlap import Overlap, overlap
from simdeep.analysis.reliability import EffectiveTime, Failures, effective_time
from simdeep.analysis.steps import FaultCost, StepDistribution
from simdeep.analysis.stragglers import Stragglers, find_stragglers
from simdeep.cost.calibration import calibration_for, load_calibration
from simdeep.cost.memory import StaticMemory, static_memory
from simdeep.cost.program import Jitter, Machine, price_program
from simdeep.cost.unequal import Unequal
from simdeep.engine.timeline import Timeline
from simdeep.errors import InputError, Problem
from simdeep.program.lower.train import Lowered, lower
from simdeep.program.schedule.registry import build_table

if TYPE_CHECKING:
    import pandas as pd

    from simdeep.program.columns import Priced
    from simdeep.program.schedule.table import Table
    from simdeep.spec.scenario import Scenario

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Result:
    """A simulated step and everything read off its timeline.

    `stragglers` is None where GPUs are folded, `effective` where the scenario says nothing of
    reliability.
    """

    scenario: Scenario
    lowered: Lowered
    timeline: Timeline
    attribution: Attribution
    bubbles: BubbleMeasures
    closed_form: ClosedFormBubble | None
    overlap: Overlap
    critical: CriticalPath
    memory: Memory
    static: StaticMemory
    stragglers: Stragglers | None
    effective: EffectiveTime | None

    def spans(self) -> pd.DataFrame:
        """Every task that ran, a row each (columns: `analysis.frame.COLUMNS`)."""
        from simdeep.analysis.frame import spans_frame

        return spans_frame(self.timeline)

    def parts(self) -> pd.DataFrame:
        """Seconds of every rank (rows) by what its compute stream did (columns)."""
        import pandas as pd

        return pd.DataFrame(self.attribution.seconds_by_rank()).rename_axis("rank")

    def _repr_html_(self) -> str:
        """The answer and its tables, as notebooks show it."""
        from simdeep.report.html.markup import blocks
        from simdeep.report.tables import report

        shown = blocks(report(self))
        return "".join(
            (f"<h4>{escape(title)}</h4>" if title else "") + "".join(parts)
            for title, parts in shown.items()
        )

    @property
    def step_time_s(self) -> float:
        """Seconds of one optimizer step."""
        return self.timeline.makespan_ns / 1e9


def simulate(scenario: Scenario, progress: Progress | None = None) -> Result:
    """Simulate a training step, or one overlapped pair of chunks.

    Raises:
        InputError: if the scenario asks for what the schedule or the GPU cannot do.
    """
    table = schedule_table(scenario)
    lowered = lower(scenario, table)
    machine = machine_of(scenario)
    timeline = run_lowered(scenario, lowered, machine, progress)
    blame = find_blame(timeline)
    attribution = attribute(timeline, blame)
    closed = closed_form_bubble(table, timeline)
    static = static_memory(scenario, lowered)
    peers = lowered.program.n_ranks // table.n_ranks
    by_rank = {name: np.repeat(part, peers) for name, part in static.parts.items()}
    capacity_gib = machine.gpu.hbm_bytes / GIB
    return Result(
        scenario=scenario,
        lowered=lowered,
        timeline=timeline,
        attribution=attribution,
        bubbles=bubble_measures(attribution, None if closed is None else closed.seconds),
        closed_form=closed,
        overlap=overlap(timeline),
        critical=critical_path(timeline, blame),
        memory=memory(timeline, by_rank, capacity_gib),
        static=static,
        stragglers=None if scenario.simulate.fold else find_stragglers(timeline, peers, blame),
        effective=effective_training(scenario, timeline.makespan_ns / 1e9),
    )


def step_time_s(scenario: Scenario) -> float:
    """Seconds of one step, without any analysis."""
    lowered = lower(scenario, schedule_table(scenario))
    return run_lowered(scenario, lowered, machine_of(scenario)).makespan_ns / 1e9


def step_distribution(scenario: Scenario, seeds: int | Iterable[int] = 10) -> StepDistribution:
    """Step times under other draws of routing and jitter, all else equal.

    Args:
        scenario: what to simulate.
        seeds: the seeds, or how many from the scenario's own on.
    """
    first = scenario.simulate.seed
    chosen = tuple(range(first, first + seeds) if isinstance(seeds, int) else seeds)
    return StepDistribution(chosen, tuple(step_time_s(scenario.with_seed(s)) for s in chosen))


def fault_cost(scenario: Scenario, result: Result | None = None) -> FaultCost:
    """What the scenario's faults add to a step: the difference to a run without them.

    Args:
        scenario: with its `faults`.
        result: of `simulate(scenario)`, if already at hand.
    """
    with_s = step_time_s(scenario) if result is None else result.step_time_s
    return FaultCost(with_s, step_time_s(scenario.without_faults()))


def effective_training(scenario: Scenario, step_s: float) -> EffectiveTime | None:
    """What failures leave of the training time; None if the scenario says nothing of them."""
    given = scenario.reliability
    if given is None:
        return None
    interval = given.checkpoint_interval_s
    if given.checkpoint_interval_steps is not None:
        interval = given.checkpoint_interval_steps * step_s
    return effective_time(
        Failures.of_cluster(
            scenario.layout.n_ranks,
            given.mtbf_per_gpu_hours,
            given.restart_s,
            given.checkpoint_s,
        ),
        interval,
        days=given.days,
        trials=given.trials,
        seed=scenario.simulate.seed,
    )


def run_lowered(
    scenario: Scenario, lowered: Lowered, machine: Machine, progress: Progress | None = None
) -> Timeline:
    """Price and run a lowered scenario, without any analysis."""
    jitter = jitter_of(scenario, machine)
    priced = price_program(lowered.program, machine, jitter, unequal_gpus(scenario))
    return run_engine(scenario.simulate.engine, priced, progress)


def schedule_table(scenario: Scenario) -> Table:
    """The schedule's table for the scenario's pipeline and micro-batches."""
    if scenario.kind == "fb-pair":
        return build_table("pair", 1, 2)
    if scenario.train.schedule == "auto":
        from simdeep.autoschedule import auto_table

        machine = machine_of(scenario)
        return auto_table(scenario, machine, jitter_of(scenario, machine))
    layout = scenario.layout
    return build_table(scenario.train.schedule, layout.pp, scenario.microbatches, layout.vpp)


def machine_of(scenario: Scenario) -> Machine:
    """The GPU with its links, its calibration and the split of its SMs."""
    topology = scenario.topology
    gpu = topology.gpu
    path = scenario.calibration
    calibration = calibration_for(gpu) if path is None else load_calibration(path).on(gpu)
    sharded = scenario.layout.tp * scenario.layout.cp > 1
    return Machine(
        gpu=gpu,
        links=topology,
        calibration=calibration,
        comm_sms=scenario.train.comm_sms,
        static_split=scenario.train.sm_split == "static",
        collective_sms=scenario.train.collective_sms if sharded else 0,
        host_launch_s=scenario.train.host_launch_us * 1e-6,
    )


def jitter_of(scenario: Scenario, machine: Machine) -> Jitter:
    """Kernel jitter; a folded GPU is the slowest of the peers that wait for each other."""
    given, layout = scenario.jitter.kernel_cv, scenario.layout
    cv = machine.calibration.kernel_cv if given is None else given
    peers = max(layout.ep, layout.tp * layout.cp) if scenario.simulate.fold else 1
    return Jitter(cv, peers, scenario.simulate.seed)


def unequal_gpus(scenario: Scenario) -> Unequal | None:
    """Slow GPUs, NICs and NVLinks of the topology; None where all are alike.

    Raises:
        InputError: if GPUs are folded, so that no single one of them can be slow.
    """
    topology = scenario.topology
    if not topology.overrides:
        return None
    if scenario.simulate.fold:
        message = f"has slow or broken elements ({topology.name}); a folded GPU stands for all its "
        message += "peers and cannot be one of them: set simulate.fold=false"
        raise InputError([Problem("", "topology", message)])
    return Unequal.of(topology, scenario.layout.n_ranks)


def run_engine(name: str, priced: Priced, progress: Progress | None = None) -> Timeline:
    """Run a priced program on the engine of that name."""
    if name == "reference":
        from simdeep.engine import reference

        return reference.run(priced, progress)
    from simdeep.engine import compiled

    return compiled.run(priced)
