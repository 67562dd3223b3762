"""A sizing as one object with stable keys, units in their names."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import simdeep
from simdeep.serving.sizing.why import alternatives, reason, shortfall

if TYPE_CHECKING:
    from simdeep.serving.results import Quantiles
    from simdeep.serving.sizing.front import Deployment
    from simdeep.serving.sizing.size import SizeResult
    from simdeep.serving.sizing.verify import Verified

_UNIT: tuple[str, ...] = (
    "tp",
    "sp",
    "dp",
    "ep",
    "redundant",
    "shared",
    "weights",
    "kv",
    "microbatches",
)
_UNIT += ("max_rows", "chunk_tokens", "mtp_tokens")


def sizing_json(result: SizeResult, launch: str | None = None) -> dict[str, Any]:
    """Everything a sizing says; `launch` are the winner's launch commands, if asked for."""
    judged, goal, winner = result.judged, result.goal, result.winner
    return {
        "name": result.scenario.name,
        "goal": {
            "ttft_s": goal.ttft_s,
            "tpot_s": goal.tpot_s,
            "share": goal.share,
            "rate_rps": goal.rate,
            "gpus": goal.gpus,
        },
        "winner": None if winner is None else _verified(winner),
        "runner_up": None if result.runner_up is None else _verified(result.runner_up),
        "why": None if winner is None else reason(result),
        "alternatives": [asdict(other) for other in alternatives(result)],
        "pareto": [_verified(one) for one in result.front],
        "verified": [_verified(one) for one in result.verified],
        "nearest": None
        if winner is not None or result.nearest is None
        else _verified(result.nearest),
        "shortfall": shortfall(result) if winner is None else None,
        "space": {
            "values": result.scenario.fields.size.model_dump(mode="json"),
            "combinations": judged.tally.combinations,
            "designs_dropped": dict(judged.tally.dropped),
            "designs_priced": len(judged.priced),
            "candidates": judged.candidates,
            "candidates_dropped": dict(judged.dropped),
            "candidates_left": len(judged.deployments),
            "iterations_simulated": judged.iterations,
            "requests_simulated": sum(one.figures.measured for one in result.verified),
            "simulations": len(result.verified),
            "simulations_refused": list(result.refused),
        },
        "launch": launch,
        "version": simdeep.__version__,
    }


def _verified(one: Verified) -> dict[str, Any]:
    figures, deployment = one.figures, one.deployment
    return {
        "meets": one.meets,
        **_deployment(deployment),
        "usd_per_mtok": one.usd_per_mtok,
        "usd_per_mtok_input": figures.usd_per_mtok_input,
        "usd_per_mtok_output": figures.usd_per_mtok_output,
        "ttft_ms": _quantiles(figures.ttft_s),
        "tpot_ms": _quantiles(figures.tpot_s),
        "slo_attainment": figures.slo_attainment,
        "errors_95": {
            "ttft_p50_ms": _ms(one.errors.get("ttft_s.p50")),
            "tpot_p50_ms": _ms(one.errors.get("tpot_s.p50")),
            "slo_attainment": one.errors.get("slo_attainment"),
        },
        "requests_measured": figures.measured,
        "limited_by": one.limited_by,
        "limit": one.limit,
        "growing_queue": one.growing,
    }


def _deployment(one: Deployment) -> dict[str, Any]:
    return {
        "gpu": one.scenario.topology.gpu.id,
        "topology": one.scenario.topology.name,
        "gpus": one.gpus,
        "rate_rps": one.rate,
        "units": {
            role: {
                "units": count,
                "gpus": one.parts[role].design.gpus,
                **{name: getattr(one.parts[role].design.unit, name) for name in _UNIT},
            }
            for role, count in one.units.items()
        },
        "estimate": {"ttft_ms": one.ttft_s * 1e3, "tpot_ms": one.tpot_s * 1e3},
    }


def _quantiles(found: Quantiles) -> dict[str, float]:
    return {name: value * 1e3 for name, value in asdict(found).items()}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
