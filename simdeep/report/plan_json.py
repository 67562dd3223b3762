"""A plan as one object with stable keys, units in their names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import simdeep
from simdeep.report.inputs import Input, inputs_of
from simdeep.report.output import scenario_yaml
from simdeep.report.plan_why import why

if TYPE_CHECKING:
    from simdeep.planner.plan import Plan, PlanResult


@dataclass(frozen=True, slots=True)
class Origin:
    """What a plan was made of.

    Attributes:
        fingerprint: of the scenario that was planned for.
        inputs: of the first plan (of the scenario, if there is none), each with its source.
        scenario: the same as the text of a scenario file.
    """

    fingerprint: str
    inputs: tuple[Input, ...]
    scenario: str


def origin_of(result: PlanResult) -> Origin:
    """The origin of a plan just made."""
    scenario = result.plans[0].scenario if result.plans else result.scenario
    return Origin(result.scenario.fingerprint, inputs_of(scenario), scenario_yaml(scenario))


def plan_json(
    result: PlanResult, launch: str | None = None, origin: Origin | None = None
) -> dict[str, Any]:
    """Everything a planning run says.

    Args:
        result: of a planning run.
        launch: the winner's launch arguments, if they were asked for.
        origin: of a plan read back; None of one just made.
    """
    found, objective = result.found, result.objective
    origin = origin or origin_of(result)
    return {
        "name": result.scenario.name,
        "objective": objective.by,
        "max_usd": objective.limits.max_usd,
        "deadline_s": objective.limits.deadline_s,
        "plans": [_plan(plan) for plan in result.plans],
        "pareto": [_plan(plan) for plan in result.pareto],
        "near": [_plan(plan) for plan in result.near],
        "own": None if result.own is None else _plan(result.own),
        "space": {
            "values": {key: list(values) for key, values in result.space.values.items()},
            "combinations": result.combinations,
            "candidates": result.candidates,
            "refused_by_rule": result.refused_by_rule,
        },
        "simulated": len(found.judged),
        "refused": [{"plan": asdict(r.choice), "reason": r.message} for r in found.refused],
        "pruned": dict(found.pruned),
        "proved_plans": result.proved,
        "complete": found.proved,
        "gap": result.gap,
        "why": why(result),
        "sensitivity": [asdict(effect) for effect in result.effects],
        "tightest_constraint": result.tightest or None,
        "launch": launch,
        "fingerprint": origin.fingerprint,
        "inputs": [asdict(item) for item in origin.inputs],
        "scenario_file": origin.scenario,
        "version": simdeep.__version__,
    }


def _plan(plan: Plan) -> dict[str, Any]:
    choice, judged = plan.choice, plan.judged
    topology = plan.scenario.topology
    degrees = ("tp", "pp", "vpp", "cp", "ep", "dp", "zero", "mbs")
    return {
        "gpu": topology.gpu.id,
        "gpus": topology.gpus,
        "topology": topology.name,
        "layout": {name: getattr(choice, name) for name in degrees},
        "stages": choice.stages if choice.stages == "auto" else list(choice.stages),
        "schedule": choice.schedule,
        "microbatches": choice.microbatches,
        "recompute": list(choice.recompute),
        "comm_sms": choice.comm_sms,
        "precision": choice.precision,
        "step_time_s": judged.step_time_s,
        "days_per_ttoken": plan.days_per_ttoken,
        "usd_per_ttoken": plan.usd_per_ttoken,
        "mfu": plan.mfu,
        "memory_peak_gib": judged.memory_peak_gib,
        "memory_headroom_gib": judged.headroom_gib,
        "parts": plan.parts,
        "set": choice.overrides(),
    }
