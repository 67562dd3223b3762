"""Fits kernel factors and framework figures on the fit half of the published runs, and only there.

`python -m simdeep.published.fit FACTOR...`, as in `a100.gemm composer.gather_share`. A run's time
is nearly linear in each factor, so each is moved a little, and the mean size of relative errors
made least on the linear model (iteratively reweighted least squares); then again from there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simdeep.published import kernels
from simdeep.published.cases import Case, load_cases
from simdeep.published.clusters import gpu_of
from simdeep.published.frameworks import framework_of
from simdeep.published.predict import predict
from simdeep.spec.hardware import load_gpu

F64 = npt.NDArray[np.float64]
STEP: Final = 0.1
ROUNDS: Final = 1
LEAST_ERROR: Final = 0.01
"""Errors below this count as least squares do."""


def relevant(names: Sequence[str]) -> list[Case]:
    """Runs of the fit half on the calibrations and frameworks of these factors, with a time."""
    wanted = {name.split(".", 1)[0] for name in names}
    found = []
    for case in load_cases():
        framework = framework_of(case)
        if case.half != "fit" or case.is_rate or case.measured_s is None or framework is None:
            continue
        if {_calibration(case), framework.id} & wanted:
            found.append(case)
    return found


def _calibration(case: Case) -> str | None:
    """Name of the calibration a run is predicted with."""
    framework, gpu = framework_of(case), gpu_of(case)
    if framework is None or gpu is None:
        return None
    return framework.calibration.get(gpu) or load_gpu(gpu).calibration


def start(names: Sequence[str]) -> F64:
    """The present values of the factors."""
    values = []
    for name in names:
        part, key = name.split(".", 1)
        if part in kernels.fitted():
            values.append(kernels.fitted()[part][key])
        else:
            values.append(_frameworks()[part].fitted[key].value)
    return np.array(values)


def times(cases: Sequence[Case], names: Sequence[str], values: F64) -> F64:
    """Predicted seconds of the runs under these values; NaN where there is no prediction."""
    from joblib import Parallel, delayed

    factors = {name: dict(part) for name, part in kernels.fitted().items()}
    habits: dict[str, dict[str, float]] = {}
    for name, value in zip(names, values, strict=True):
        part, key = name.split(".", 1)
        target = factors if part in factors else habits
        target.setdefault(part, {})[key] = float(value)
    with _calibrations(factors) as paths:
        jobs = (delayed(_time)(case, _changes(case, habits, paths)) for case in cases)
        found = Parallel(n_jobs=2, batch_size=4)(jobs)
    return np.array(found)


def solve(design: F64, target: F64) -> F64:
    """x that makes the mean size of design @ x - target least."""
    weight = np.ones(len(target))
    x = np.zeros(design.shape[1])
    for _ in range(60):
        # A weak pull towards no change: two factors that nothing tells apart share what is left.
        ridge = 0.02 * np.eye(design.shape[1])
        a = np.concatenate([design * weight[:, None], ridge])
        b = np.concatenate([target * weight, np.zeros(design.shape[1])])
        x = np.linalg.lstsq(a, b, rcond=None)[0]
        weight = 1 / np.sqrt(np.maximum(np.abs(design @ x - target), LEAST_ERROR))
    return x


def fit(names: Sequence[str]) -> tuple[F64, list[Case], F64]:
    """Fitted values, the runs and their relative errors."""
    cases = relevant(names)
    measured = np.array([case.measured_s for case in cases], dtype=np.float64)
    values = start(names)
    base = times(cases, names, values)
    for _ in range(ROUNDS):
        columns = []
        for index in range(len(names)):
            moved = values.copy()
            moved[index] *= 1 + STEP
            columns.append((times(cases, names, moved) - base) / STEP)
        design = np.stack(columns, axis=1) / measured[:, None]
        known = np.isfinite(base) & np.isfinite(design).all(axis=1)
        change = solve(design[known], (1 - base / measured)[known])
        values = values * np.clip(1 + change, 0.5, 2.0)
        base = times(cases, names, values)
        errors = base / measured - 1
        print(dict(zip(names, values.round(4).tolist(), strict=True)), file=sys.stderr)
        print(f"mean error {np.nanmean(np.abs(errors)):.4f}", file=sys.stderr)
    return values, cases, base / measured - 1


def _frameworks() -> dict[str, Any]:
    from simdeep.published.frameworks import frameworks

    return {framework.id: framework for framework in frameworks()}


def _changes(
    case: Case, habits: Mapping[str, Mapping[str, float]], paths: Mapping[str, str]
) -> dict[str, Any]:
    framework = framework_of(case)
    found: dict[str, Any] = {}
    if framework is not None:
        found |= habits.get(framework.id, {})
    name = _calibration(case)
    if name is not None and name in paths:
        found["calibration"] = paths[name]
    return found


def _time(case: Case, changes: Mapping[str, Any]) -> float:
    seconds = predict(case, changes=changes).seconds
    return float("nan") if seconds is None else seconds


@contextmanager
def _calibrations(factors: Mapping[str, Mapping[str, float]]) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        kernels.write(Path(folder), factors)
        yield {source.name: str(Path(folder) / f"{source.name}.yaml") for source in kernels.SOURCES}


if __name__ == "__main__":
    print(fit(sys.argv[1:])[0].round(4).tolist())
