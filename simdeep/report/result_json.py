"""A result as one plain object with stable keys, units in their names, ready for JSON.

Two runs of the same scenario give the same object, `engine.wall_s` apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import simdeep
from simdeep.analysis.bubble import Extremes
from simdeep.analysis.memory import GIB
from simdeep.analysis.overlap import exposed_comm_s
from simdeep.report.summary import PairFigures, Phase, flops_note, pair_figures, step_figures
from simdeep.report.unfolded import unfolded_json

if TYPE_CHECKING:
    from simdeep.analysis.money import RunCost
    from simdeep.analysis.steps import FaultCost
    from simdeep.api import Result
    from simdeep.report.contributions_table import Effect


def to_json(document: dict[str, Any]) -> str:
    """An object as text, keys sorted, ending in a newline."""
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def result_json(
    result: Result, effects: Sequence[Effect] = (), faults: FaultCost | None = None
) -> dict[str, Any]:
    """Everything a run says.

    Args:
        result: a simulated training step or pair.
        effects: what each effect contributes to a training step.
        faults: what the scenario's faults cost.
    """
    kind = result.scenario.kind
    special = _pair(result) if kind == "fb-pair" else _train(result, effects)
    return special | _common(result) | unfolded_json(result, faults)


def _train(result: Result, effects: Sequence[Effect]) -> dict[str, Any]:
    figures, bubbles, closed = step_figures(result), result.bubbles, result.closed_form
    use, cost = figures.utilisation, figures.trillion
    return {
        "step_time_s": figures.step_time_s,
        "gpus": figures.gpus,
        "tokens_per_step": figures.tokens_per_step,
        "tokens_per_s": figures.tokens_per_s,
        "tokens_per_s_per_gpu": figures.tokens_per_s_per_gpu,
        "usd_per_gpu_hour": figures.usd_per_gpu_hour,
        "gpu_hours_per_ttoken": cost.gpu_hours,
        "days_per_ttoken": cost.days,
        "usd_per_ttoken": cost.usd,
        "run": None if figures.run is None else _run(figures.run),
        "tflops_per_gpu": use.tflops_per_gpu,
        "tflops_per_gpu_causal": use.tflops_per_gpu_causal,
        "mfu": use.mfu,
        "mfu_causal": use.mfu_causal,
        "mfu_counts_mtp": False,
        "mfu_note": flops_note(result.scenario),
        "bubble_s": asdict(bubbles.bubble_s),
        "bubble_in_span_s": asdict(bubbles.bubble_in_span_s),
        "bubble_over_makespan": bubbles.bubble_over_makespan,
        "bubble_over_ideal": bubbles.bubble_over_ideal,
        "longest_rank_span_s": bubbles.longest_rank_span_s,
        "bubble_closed_form_s": bubbles.closed_form_s,
        "bubble_closed_form": None
        if closed is None
        else {
            "formula": closed.formula,
            "seconds": closed.seconds,
            "f_s": closed.costs.f,
            "i_s": closed.costs.i,
            "w_s": closed.costs.w,
            "fb_s": closed.costs.fb,
            "why_simulation_differs": list(closed.reasons),
        },
        "contributions": [
            {"name": e.name, "seconds": e.seconds, "explanation": e.explanation} for e in effects
        ],
    }


def _run(cost: RunCost) -> dict[str, float]:
    return {
        "tokens": cost.tokens,
        "steps": cost.steps,
        "gpu_hours": cost.gpu_hours,
        "days": cost.days,
        "usd": cost.usd,
    }


def _pair(result: Result) -> dict[str, Any]:
    figures: PairFigures = pair_figures(result)
    exposed = exposed_comm_s(result.attribution).mean
    return {
        "total_ms": 1e3 * figures.total_s,
        "phases": {phase.name: _phase(phase) for phase in figures.phases},
        "transfers": {
            phase.name: _phase(phase) | {"setup_ms": 1e3 * phase.setup_s}
            for phase in figures.transfers
        },
        "exposed_comm_ms": 1e3 * exposed,
        "exposed_comm_share": exposed / figures.total_s if figures.total_s else 0.0,
    }


def _phase(phase: Phase) -> dict[str, Any]:
    by_layer = {str(layer): 1e3 * s for layer, s in phase.by_layer_s.items()}
    return {"mean_ms": 1e3 * phase.mean_s, "by_layer_ms": by_layer}


def _common(result: Result) -> dict[str, Any]:
    scenario, timeline = result.scenario, result.timeline
    exposed: Extremes = exposed_comm_s(result.attribution)
    return {
        "kind": scenario.kind,
        "name": scenario.name,
        "makespan_s": result.bubbles.makespan_s,
        "exposed_comm_s": asdict(exposed),
        "comm_overlap": result.overlap.comm_overlap,
        "comm_overlap_by_kind": result.overlap.by_kind(),
        "parts_s": result.attribution.seconds_by_rank(),
        "critical_path_s": {str(part): ns / 1e9 for part, ns in result.critical.ns.items()},
        "memory": _memory(result),
        "engine": {
            "name": timeline.engine,
            "tasks": timeline.program.n,
            "wall_s": timeline.wall_s,
        },
        "scenario": scenario.resolved(),
        "version": simdeep.__version__,
        "fingerprint": scenario.fingerprint,
    }


def _memory(result: Result) -> dict[str, Any]:
    memory = result.memory
    peak, breakdown = memory.peak / GIB, memory.breakdown
    return {
        "fits": memory.fits,
        "capacity_gib": memory.capacity_gib,
        "peak_gib": memory.peak_gib,
        "by_rank": [
            {
                "rank": rank,
                "peak_gib": float(peak[rank]),
                "peak_at_s": float(memory.peak_at_ns[rank]) / 1e9,
                "chunks_at_peak": len(memory.chunks[rank]),
                "parts_gib": {
                    key(name): float(part[rank]) / GIB for name, part in breakdown.items()
                },
            }
            for rank in range(len(peak))
        ],
        "host_gib": {
            key(name): (part / GIB).tolist() for name, part in sorted(result.static.host.items())
        },
    }


def key(name: str) -> str:
    """A part's name as a key: `fp8 weights` is `fp8_weights`."""
    return name.lower().replace(" ", "_")
