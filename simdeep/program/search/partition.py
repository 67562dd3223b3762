"""Stage partition: how many consecutive layers a stage holds, balanced for time within memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError, Problem
from simdeep.program.schedule.costs import F64
from simdeep.spec.layout import balanced_partition


@dataclass(frozen=True, eq=False)
class Partition:
    """Layers of each stage, with each stage's seconds a micro-batch and bytes.

    `bound_by_memory`: whether memory forbade the partition that is best for time alone.
    """

    counts: tuple[int, ...]
    seconds: F64
    bytes: F64
    bound_by_memory: bool


@dataclass(frozen=True, eq=False)
class Layers:
    """What consecutive layers cost; what comes before the first and after the last is in those.

    Attributes:
        seconds: of one micro-batch through each layer and back.
        static: bytes each layer's parameters, gradients and optimizer state take.
        kept: bytes each layer keeps of one micro-batch.
    """

    seconds: F64
    static: F64
    kept: F64


def partition_layers(
    layers: Layers,
    parts: int,
    in_flight: npt.ArrayLike = 1.0,
    limit: npt.ArrayLike = np.inf,
) -> Partition:
    """The cut with the smallest largest time of a stage whose stages fit, then least squares.

    Args:
        layers: what each costs.
        parts: stages.
        in_flight: micro-batches a stage keeps at once, one number or one a stage.
        limit: bytes a stage has, one number or one a stage.

    Raises:
        InputError: no cut fits.
    """
    flight = np.broadcast_to(np.asarray(in_flight, np.float64), (parts,))
    limits = np.broadcast_to(np.asarray(limit, np.float64), (parts,))
    free = balanced_partition(layers.seconds, parts)
    if _fits(layers, free, flight, limits):
        return _partition(layers, free, flight, bound=False)
    within = _within(layers, flight, limits)
    if within is None:
        text = f"no cut of {len(layers.seconds)} layers into {parts} stages fits the memory"
        raise InputError([Problem("", "layout.stages", text)])
    return _partition(layers, within, flight, bound=True)


def _sums(values: F64, counts: list[int]) -> F64:
    sums: F64 = np.add.reduceat(values, np.cumsum([0, *counts[:-1]]))
    return sums


def _fits(layers: Layers, counts: list[int], flight: F64, limits: F64) -> bool:
    held = _sums(layers.static, counts) + flight * _sums(layers.kept, counts)
    return bool((held <= limits).all())


def _partition(layers: Layers, counts: list[int], flight: F64, *, bound: bool) -> Partition:
    held = _sums(layers.static, counts) + flight * _sums(layers.kept, counts)
    return Partition(tuple(counts), _sums(layers.seconds, counts), held, bound)


def _within(layers: Layers, flight: F64, limits: F64) -> list[int] | None:
    """Dynamic programme over cuts, stages that do not fit being infinitely slow."""
    runs = [_run(values) for values in (layers.seconds, layers.static, layers.kept)]
    takes = [
        np.where(runs[1] + number * runs[2] <= limit, runs[0], np.inf)
        for number, limit in zip(flight, limits, strict=True)
    ]
    largest, _ = _best(takes, np.maximum)
    if not np.isfinite(largest):
        return None
    close = largest * (1 + 1e-12)
    return _best([np.where(take <= close, take, np.inf) ** 2 for take in takes], np.add)[1]


def _run(values: F64) -> F64:
    """[i, j]: sum of items i..j-1; infinite for empty runs."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    run: F64 = total[None, :] - total[:, None]
    run[np.tril_indices(len(total))] = np.inf
    return run


def _best(takes: list[F64], combine: np.ufunc) -> tuple[float, list[int]]:
    """Least joined value over cuts into one run a matrix, and the runs' lengths."""
    best, came = takes[0][0], []
    for take in takes[1:]:
        value = combine(best[:, None], take)
        came.append(value.argmin(axis=0))
        best = value.min(axis=0)
    ends = [len(best) - 1]
    for before in reversed(came):
        ends.append(int(before[ends[-1]]))
    return float(best[-1]), np.diff([0, *reversed(ends)]).tolist()
