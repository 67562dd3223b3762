"""Least squares of positive parameters: damped Gauss-Newton on their logarithms, numpy alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

_STEP = 1e-3
_TRIES = 8


def solve_positive(
    predict: Callable[[F64], F64],
    measured: F64,
    start: F64,
    *,
    rounds: int = 30,
    soft: float = 0.06,
    widest: float = 1.0,
    prior: float = 0.02,
) -> F64:
    """Parameters whose predictions are nearest to what was measured, in relative terms.

    Errors count quadratically up to about `soft` and linearly beyond, so that a few odd rows do not
    rule. A round changes no logarithm by more than `widest`.

    Args:
        predict: positive parameters to predicted values.
        measured: positive values.
        start: first guess of the parameters.
        rounds: most Gauss-Newton rounds.
        soft: relative error from which rows weigh less.
        widest: largest change of a parameter's logarithm in a round.
        prior: pull of each parameter's logarithm to its first guess, as a relative error a unit,
            times the root of the number of rows over ten: rows that do not tell a parameter leave
            it where it was guessed.
    """
    x = np.log(start)
    target = np.log(measured)

    def errors(at: F64) -> F64:
        found: F64 = np.log(predict(np.exp(at))) - target
        return found

    pull = (prior / soft) ** 2 * len(target) / 100
    origin = x.copy()

    def cost(e: F64, at: F64) -> float:
        misses = float(np.sum(np.sqrt(1 + (e / soft) ** 2) - 1))
        return misses + 0.5 * pull * float(((at - origin) ** 2).sum())

    e = errors(x)
    now, damping = cost(e, x), 1e-2
    for _ in range(rounds):
        weight = (1 + (e / soft) ** 2) ** -0.25
        slopes = np.stack(
            [(errors(x + _STEP * unit) - e) / _STEP for unit in np.eye(len(x))], axis=1
        )
        a, b = slopes * weight[:, None] / soft, e * weight / soft
        normal = a.T @ a + pull * np.eye(len(x))
        downhill = -a.T @ b - pull * (x - origin)
        for _ in range(_TRIES):
            diagonal = np.diag(normal) + 1e-9 * max(float(np.trace(normal)), 1e-12)
            step = np.linalg.solve(normal + np.diag(damping * diagonal), downhill)
            step = np.clip(step, -widest, widest)
            tried = errors(x + step)
            if cost(tried, x + step) < now:
                break
            damping *= 4
        else:
            break
        x, e, before = x + step, tried, now
        now, damping = cost(e, x), damping / 3
        if before - now < 1e-4 * now:
            break
    return np.exp(x)
