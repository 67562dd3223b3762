"""A serving result as one plain object with stable keys, units in their names, ready for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import simdeep
from simdeep.report.result_json import key
from simdeep.serving.results import Figures, Quantiles

if TYPE_CHECKING:
    from simdeep.serving.results import ServeResult


def serving_json(result: ServeResult) -> dict[str, Any]:
    """Everything a serving run says; `engine.wall_s` apart the same for the same scenario."""
    scenario, found = result.scenario, result.figures
    outcomes = [run.outcome for run in result.runs if run.outcome is not None]
    return figures_json(found) | {
        "kind": "serve",
        "name": scenario.name,
        "slo": {
            "ttft_ms": _ms(scenario.slo.ttft),
            "tpot_ms": _ms(scenario.slo.tpot),
            "share": scenario.slo.share,
            "met": result.meets_slo,
        },
        "token_gap_ms": _quantiles(result.gap_s),
        "sampling_error_95": {_error_key(name): v for name, v in _errors(result).items()},
        "limits": {
            "name": result.limit.name,
            "sentence": result.limit.sentence,
            "share_of_each": {key(name): value for name, value in result.limit.pressures.items()},
        },
        "peak_units": dict(result.peak_units),
        "windows": [
            {
                "hour": run.window.hour,
                "rate_rps": run.window.rate,
                "units": dict(run.window.units),
                "figures": None if hour is None else figures_json(hour),
            }
            for run, hour in zip(result.runs, result.by_hour, strict=True)
        ]
        if result.by_hour
        else [],
        "engine": {
            "name": scenario.simulate.engine,
            "requests": sum(outcome.requests.n for outcome in outcomes),
            "wall_s": sum(outcome.wall_s for outcome in outcomes),
        },
        "scenario": scenario.resolved(),
        "version": simdeep.__version__,
        "fingerprint": scenario.fingerprint,
    }


def figures_json(found: Figures) -> dict[str, Any]:
    """Figures of a run or of a window of it."""
    return {
        "ttft_ms": _quantiles(found.ttft_s),
        "tpot_ms": _quantiles(found.tpot_s),
        "e2e_ms": _quantiles(found.e2e_s),
        "requests_per_s": found.requests_per_s,
        "goodput_rps": found.goodput_rps,
        "slo_attainment": found.slo_attainment,
        "slo_attainment_by_promise": {key(name): v for name, v in found.slo_parts.items()},
        "input_tokens_per_s": found.input_tokens_per_s,
        "computed_input_tokens_per_s": found.new_tokens_per_s,
        "output_tokens_per_s": found.output_tokens_per_s,
        "input_tokens_per_s_per_node": found.input_tokens_per_s_per_node,
        "output_tokens_per_s_per_node": found.output_tokens_per_s_per_node,
        "tokens_per_s_per_gpu": (found.input_tokens_per_s + found.output_tokens_per_s)
        / sum(found.gpus.values()),
        "output_tokens_per_s_per_user": found.tokens_per_s_per_user,
        "gpus": dict(found.gpus),
        "nodes": dict(found.nodes) | {"all": sum(found.nodes.values())},
        "usd_per_hour": found.usd_per_hour,
        "usd_per_day": 24 * found.usd_per_hour,
        "usd_per_mtok_input": found.usd_per_mtok_input,
        "usd_per_mtok_output": found.usd_per_mtok_output,
        "utilisation": {_name(name): value for name, value in found.utilisation.items()},
        "kv_occupancy": dict(found.kv_occupancy),
        "rows_per_rank": found.rows_per_rank,
        "requests_in_state": dict(found.in_state),
        "preemptions_per_request": found.preempted,
        "redone_per_request": found.redone,
        "unfinished_share": found.unfinished,
        "requests_measured": found.measured,
    }


def _quantiles(values: Quantiles) -> dict[str, float]:
    return {
        "mean": 1e3 * values.mean,
        "p50": 1e3 * values.p50,
        "p90": 1e3 * values.p90,
        "p99": 1e3 * values.p99,
    }


def _errors(result: ServeResult) -> dict[str, float]:
    """Sampling errors, of latencies in milliseconds."""
    return {n: 1e3 * v if "_s." in n else v for n, v in result.errors.items()}


def _error_key(name: str) -> str:
    return name.replace("_s.", "_ms.").replace(".", "_") if "_s." in name else name


def _name(text: str) -> str:
    return key(text.replace("(", "").replace(")", ""))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
