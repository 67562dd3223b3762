"""One point of a sweep: what a worker does, on this machine or another.

A row is plain data, the same whoever computes it and whenever: no times of day, no machine names.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from simdeep.errors import InputError, SimdeepError
from simdeep.sweep.code import code_digest

if TYPE_CHECKING:
    from simdeep.api import Result
    from simdeep.spec.scenario import Scenario

Row = dict[str, Any]
"""`key`, `point` (values by key), `status`, `reason` and `figures`."""


class Status(StrEnum):
    """What became of a point."""

    FITS = "fits"
    DOES_NOT_FIT = "does_not_fit"
    ILLEGAL = "illegal"
    FAILED = "failed"


def make_row(
    key: str,
    point: dict[str, str],
    status: Status,
    reason: str = "",
    figures: dict[str, Any] | None = None,
) -> Row:
    """A row of a store."""
    return {
        "key": key,
        "point": point,
        "status": status.value,
        "reason": reason,
        "figures": figures or {},
    }


def evaluate(scenario: Scenario, key: str, point: dict[str, str], code: str) -> Row:
    """Simulate a point; whatever goes wrong with this point alone is a row that says so.

    Args:
        scenario: resolved.
        key: of its row.
        point: the varied values.
        code: `code_digest()` of who asks.

    Raises:
        SimdeepError: this worker runs another simdeep than who asks.
    """
    if code_digest() != code:
        import simdeep

        raise SimdeepError(
            f"a worker runs another simdeep ({simdeep.__version__}, code {code_digest()}) than "
            f"this one (code {code}); install the same everywhere"
        )
    from simdeep.api import simulate

    try:
        result = simulate(scenario)
        found = _figures(result)
    except InputError as error:
        return make_row(key, point, Status.ILLEGAL, reason_of(error))
    except Exception as error:  # one point's fault must not cost the others
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        return make_row(key, point, Status.FAILED, what)
    if scenario.kind == "fb-pair" or result.memory.fits:
        return make_row(key, point, Status.FITS, "", found)
    memory = result.memory
    reason = f"needs {memory.peak_gib:.1f} GiB of {memory.capacity_gib:.1f}"
    return make_row(key, point, Status.DOES_NOT_FIT, reason, found)


def reason_of(error: InputError) -> str:
    """All problems in a line, without places: those are flags of the sweep itself."""
    return "; ".join(f"{p.key} {p.message}".strip() for p in error.problems)


def _figures(result: Result) -> dict[str, Any]:
    return _pair(result) if result.scenario.kind == "fb-pair" else _step(result)


def _step(result: Result) -> dict[str, Any]:
    from simdeep.analysis.overlap import exposed_comm_s
    from simdeep.report.summary import step_figures

    figures, memory = step_figures(result), result.memory
    use, cost, layout = figures.utilisation, figures.trillion, result.scenario.layout
    return {
        "step_time_s": figures.step_time_s,
        "gpus": figures.gpus,
        "dp": layout.dp,
        "microbatches": result.scenario.microbatches,
        "tokens_per_s": figures.tokens_per_s,
        "tokens_per_s_per_gpu": figures.tokens_per_s_per_gpu,
        "mfu": use.mfu,
        "mfu_causal": use.mfu_causal,
        "gpu_hours_per_ttoken": cost.gpu_hours,
        "days_per_ttoken": cost.days,
        "usd_per_ttoken": cost.usd,
        "bubble_over_makespan": result.bubbles.bubble_over_makespan,
        "exposed_comm_s": exposed_comm_s(result.attribution).mean,
        "comm_overlap": result.overlap.comm_overlap,
        "memory_peak_gib": memory.peak_gib,
        "memory_capacity_gib": memory.capacity_gib,
    }


def _pair(result: Result) -> dict[str, Any]:
    from simdeep.analysis.overlap import exposed_comm_s

    exposed = exposed_comm_s(result.attribution).mean
    return {
        "total_ms": 1e3 * result.step_time_s,
        "exposed_comm_ms": 1e3 * exposed,
        "exposed_comm_share": exposed / result.step_time_s if result.step_time_s else 0.0,
        "comm_overlap": result.overlap.comm_overlap,
    }
