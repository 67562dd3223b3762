"""Why a plan won: its parts against another plan's, and where it differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simdeep.planner.plan import Plan, PlanResult

_CHOICES = (
    "tp",
    "pp",
    "vpp",
    "cp",
    "ep",
    "dp",
    "zero",
    "mbs",
    "schedule",
    "recompute",
    "comm_sms",
    "precision",
    "stages",
)


def why(result: PlanResult) -> dict[str, Any] | None:
    """The winner against the runner-up and against the scenario's own layout."""
    if not result.plans:
        return None
    best, *others = result.plans
    return {
        "against_runner_up": difference(best, others[0]) if others else None,
        "against_own": None if result.own is None else difference(best, result.own),
    }


def difference(best: Plan, other: Plan) -> dict[str, Any]:
    """Where two plans differ, and by how many seconds in each part (negative: the first saves)."""
    ours, theirs = best.choice, other.choice
    parts = {
        name: best.parts[name] - other.parts[name] for name in best.parts if name in other.parts
    }
    return {
        "differs": {
            name: [_plain(getattr(ours, name)), _plain(getattr(theirs, name))]
            for name in _CHOICES
            if getattr(ours, name) != getattr(theirs, name)
        },
        "seconds": best.judged.step_time_s - other.judged.step_time_s,
        "share": best.judged.step_time_s / other.judged.step_time_s - 1.0,
        "parts_s": parts,
        "memory_gib": best.judged.memory_peak_gib - other.judged.memory_peak_gib,
    }


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
