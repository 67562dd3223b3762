"""All runs predicted and scored, on two processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simdeep.errors import InputError, Problem
from simdeep.published.cases import Case, load_cases
from simdeep.published.score import Score, Scored, by_family, score, scored
from simdeep.published.targets import Check, checks
from simdeep.spec.resources import nearest

PROCESSES: Final = 2


@dataclass(frozen=True, slots=True)
class Validation:
    """Every run with its prediction and error, and what they say together."""

    runs: tuple[Scored, ...]
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether every target holds."""
        return all(check.holds for check in self.checks)


def validate(
    path: Path | None = None,
    family: str | None = None,
    folder: Path | None = None,
    processes: int = PROCESSES,
    progress: Callable[[int, int], None] | None = None,
) -> Validation:
    """Predict and score the runs of a file, all or of one family.

    Args:
        path: a file of published runs; default: the shipped one.
        family: only the runs of this one.
        folder: where to keep the scenario files of the runs; default: nowhere.
        processes: how many to work on.
        progress: told how many of how many runs are done.
    """
    cases = of_family(load_cases(path), family)
    runs = tuple(_predicted(cases, folder, processes, progress))
    return Validation(runs, checks(runs))


def of_family(cases: Sequence[Case], family: str | None) -> tuple[Case, ...]:
    """The runs of a family (all without one); an unknown family is an `InputError`."""
    if family is None:
        return tuple(cases)
    found = tuple(case for case in cases if case.family == family)
    if not found:
        names = tuple(dict.fromkeys(case.family for case in cases))
        near = nearest(family, names)
        hint = f"did you mean {near}? " if near else ""
        message = f"no such family; {hint}families: {', '.join(names)}"
        raise InputError([Problem("", f"--family {family}", message)])
    return found


def _predicted(
    cases: Sequence[Case],
    folder: Path | None,
    processes: int,
    progress: Callable[[int, int], None] | None,
) -> list[Scored]:
    # The largest first, so that no process is left with one at the end.
    order = sorted(range(len(cases)), key=lambda i: -(cases[i].gpus * (cases[i].pp or 1)))
    found: dict[int, Scored] = {}
    if processes == 1 or len(cases) < 4:
        results: Any = (_one(cases[i], folder) for i in order)
    else:
        from joblib import Parallel, delayed

        pool = Parallel(n_jobs=processes, batch_size=4, return_as="generator")
        results = pool(delayed(_one)(cases[i], folder) for i in order)
    for done, (index, result) in enumerate(zip(order, results, strict=True), start=1):
        found[index] = result
        if progress is not None:
            progress(done, len(cases))
    return [found[i] for i in range(len(cases))]


def _one(case: Case, folder: Path | None) -> Scored:
    from simdeep.published.predict import predict

    return scored(case, predict(case, folder))


def to_dict(result: Validation) -> dict[str, Any]:
    """The validation as plain values with stable keys; times in seconds, memory in bytes."""
    steps = [run for run in result.runs if run.quantity == "iteration_s"]
    overall = score(steps)
    return {
        "mape": overall.mape,
        "bias": overall.bias,
        "cases": [_case(run) for run in result.runs],
        "families": {name: _score(found) for name, found in by_family(result.runs).items()},
        "fit_half": _half(result.runs, "fit"),
        "test_half": _half(result.runs, "test"),
        "checks": [
            {"name": c.name, "limit": c.limit, "found": c.found, "holds": c.holds}
            for c in result.checks
        ],
    }


def _half(runs: Sequence[Scored], half: Any) -> dict[str, Any]:
    inside = [run for run in runs if run.case.half == half]
    steps = score(run for run in inside if run.quantity == "iteration_s")
    families = {name: _score(found) for name, found in by_family(runs, half).items()}
    return {**_score(steps), "families": families}


def _score(found: Score) -> dict[str, Any]:
    return {
        "n": found.n,
        "mape": found.mape,
        "bias": found.bias,
        "kendall": found.kendall,
        "worst": found.worst,
        "memory_n": found.memory_n,
        "memory_mape": found.memory_mape,
        "memory_bias": found.memory_bias,
    }


def _case(run: Scored) -> dict[str, Any]:
    case, prediction = run.case, run.prediction
    return {
        "id": case.id,
        "family": case.family,
        "half": case.half,
        "quantity": run.quantity,
        "measured": run.measured,
        "predicted": run.predicted,
        "error": run.error,
        "reason": run.reason,
        "measured_peak_bytes": case.measured_bytes,
        "predicted_peak_bytes": prediction.peak_bytes,
        "memory_error": run.memory_error,
        "fits": prediction.fits,
        "stated": prediction.stated,
        "schedule_known": prediction.schedule_known,
        "recompute": list(prediction.recompute),
        "unstated": dict(prediction.unstated),
    }
