"""Which input of the best plan matters most: each made a tenth better, all else equal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simdeep import api
from simdeep.cost.program import price_program
from simdeep.cost.unequal import Unequal
from simdeep.errors import InputError
from simdeep.planner.judge import table_of
from simdeep.program.lower.train import lower

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario
    from simdeep.spec.topology import Topology

BETTER = 0.1
_SMS = 4


@dataclass(frozen=True, slots=True)
class Effect:
    """What a changed input does to the step: `seconds` more (less if negative)."""

    name: str
    change: str
    seconds: float
    share: float


def sensitivity(scenario: Scenario) -> tuple[Effect, ...]:
    """Effects on the step of a plan, largest gain first."""
    base = api.step_time_s(scenario)
    topology, train = scenario.topology, scenario.train
    more = f"+{BETTER:.0%}"

    def linked(changed: Topology) -> float:
        return api.step_time_s(replace(scenario, topology=changed))

    found = [
        ("GPU speed (compute and HBM)", more, _faster_gpu(scenario)),
        (
            "NVLink bandwidth",
            more,
            linked(replace(topology, nvlink_bw=topology.nvlink_bw * (1 + BETTER))),
        ),
        ("NIC bandwidth", more, linked(replace(topology, nic_bw=topology.nic_bw * (1 + BETTER)))),
        ("latencies", f"-{BETTER:.0%}", _lower_latencies(scenario)),
    ]
    for step in (-_SMS, _SMS):
        if train.comm_sms + step >= 0 and scenario.layout.ep > 1:
            changed = train.model_copy(update={"comm_sms": train.comm_sms + step})
            try:
                seconds = api.step_time_s(replace(scenario, train=changed))
            except InputError:
                continue
            found.append(("communication SMs", f"{step:+d}", seconds))
    effects = [Effect(n, c, s - base, (s - base) / base) for n, c, s in found]
    return tuple(sorted(effects, key=lambda effect: effect.seconds))


def _faster_gpu(scenario: Scenario) -> float:
    """The step if every kernel ran faster; launches and links stay."""
    lowered = lower(scenario, table_of(scenario))
    machine = api.machine_of(scenario)
    n = lowered.program.n_ranks
    alike = np.ones(n)
    fast = Unequal(alike * (1 + BETTER), alike, alike, np.arange(n), 1.0)
    priced = price_program(lowered.program, machine, api.jitter_of(scenario, machine), fast)
    return api.run_engine(scenario.simulate.engine, priced).makespan_ns / 1e9


def _lower_latencies(scenario: Scenario) -> float:
    topology = scenario.topology
    fast = replace(
        topology,
        nvlink_latency_s=topology.nvlink_latency_s * (1 - BETTER),
        nic_latency_s=topology.nic_latency_s * (1 - BETTER),
    )
    return api.step_time_s(replace(scenario, topology=fast))
