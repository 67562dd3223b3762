"""A plan as one object with stable keys, units in their names."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import simdeep
from simdeep.report.plan_why import why

if TYPE_CHECKING:
    from simdeep.planner.plan import Plan, PlanResult


def plan_json(result: PlanResult, launch: str | None = None) -> dict[str, Any]:
    """Everything a planning run says; `launch` are the winner's launch arguments, if asked for."""
    found, objective = result.found, result.objective
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
