"""Memory-bound kernels: one floor a launch, one achieved bandwidth a class, a few kernels' own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simdeep.cost.calibration import base_name
from simdeep.cost.fit.match import Match, memory_matches
from simdeep.cost.fit.rows import Row

SMALL_MB = 1.5
"""Single launches that move less than this cost their floor and little else."""

OWN_CURVE_ERROR, OWN_CURVE_US = 0.15, 15.0
"""A kernel at least this long that its class misses by more gets a curve of its own."""

FASTEST_MBPS = 20.0e6
"""Ceiling of a fitted bandwidth (MB/s), for tiny arrays in L2 that cost their launches only."""

SOURCE = "h800_train_trace.csv: bytes of the workload's records over durations freed of drag"

GUESSES = {
    "adam": ("elementwise", "streaming pass like the trace's elementwise kernels"),
    "loss": ("elementwise", "streaming passes like the trace's elementwise kernels"),
    "softmax": ("elementwise", "streaming passes like the trace's elementwise kernels"),
    "dropout": ("elementwise", "streaming passes like the trace's elementwise kernels"),
    "embed": ("permute", "rows gathered like the trace's permutation"),
}
"""Classes that the trace has no row of, and the class whose bandwidth they are given."""


@dataclass(frozen=True, slots=True)
class Point:
    """One record of one layer: its launches, megabytes and free microseconds."""

    variant: str
    name: str
    launches: int
    mb: float
    us: float


def points(rows: Sequence[Row], drag: float) -> list[Point]:
    """Memory records with their measured time, freed of the transfers beside them."""
    return [_point(match, drag) for match in memory_matches(rows)]


def _point(match: Match, drag: float) -> Point:
    record = match.record
    us = sum(r.dur / (1.0 + drag * r.under) for r in match.rows)
    name = base_name(record.name)
    return Point(record.variant, name, record.launches, float(record.bytes) / 1e6, us)


def memory_entries(rows: Sequence[Row], drag: float) -> dict[str, Any]:
    """The memory part of a calibration file."""
    data = points(rows, drag)
    small = [p.us for p in data if p.mb < SMALL_MB and p.launches == 1]
    floor = float(np.median(small))
    by_variant: dict[str, list[Point]] = defaultdict(list)
    for point in data:
        by_variant[point.variant].append(point)
    kernels: dict[str, Any] = {}
    variants: dict[str, Any] = {}
    for variant, mine in sorted(by_variant.items()):
        odd = _odd_ones(mine, floor)
        rest = [p for p in mine if p.name not in odd]
        variants[variant] = _entry(rest, floor)
        for name in sorted(odd):
            kernels[name] = _entry([p for p in mine if p.name == name], floor)
    for variant, (like, why) in GUESSES.items():
        rate = variants[like]["GBps"]
        variants[variant] = {"GBps": rate, "kind": "guess", "source": f"no row in the trace: {why}"}
    variants["other"] = {
        "GBps": float(np.median([v["GBps"] for v in variants.values()])),
        "kind": "guess",
        "source": "median of the classes above, for a class that is not listed",
    }
    return {
        "floor_us": {
            "value": floor,
            "kind": "measured",
            "source": f"h800_train_trace.csv: median of kernels that move under {SMALL_MB} MB",
            "rows": len(small),
        },
        "variants": variants,
        "kernels": kernels,
    }


def _odd_ones(data: Sequence[Point], floor: float) -> set[str]:
    """Kernels that the others' common bandwidth misses, the worst first, until none is left."""
    odd: set[str] = set()
    while True:
        rest = [p for p in data if p.name not in odd]
        names = {p.name for p in rest}
        if len(names) < 2:
            return odd
        rate = _bandwidth(rest, floor)
        misses = {}
        for name in names:
            mine = [p for p in rest if p.name == name]
            us = float(np.mean([p.us for p in mine]))
            predicted = float(np.mean([_us(p, rate, floor) for p in mine]))
            if us >= OWN_CURVE_US and abs(predicted / us - 1.0) > OWN_CURVE_ERROR:
                misses[name] = abs(predicted - us)
        if not misses:
            return odd
        odd.add(max(misses, key=lambda n: (misses[n], n)))


def _bandwidth(data: Sequence[Point], floor: float) -> float:
    """Megabytes a second: least squares of relative errors, each weighted by its time."""
    mb = np.array([p.mb for p in data])
    left = np.array([max(0.0, p.us - p.launches * floor) for p in data])
    us = np.array([p.us for p in data])
    per_mb = float((mb * left / us).sum() / (mb * mb / us).sum())
    return min(FASTEST_MBPS, 1e6 / per_mb) if per_mb > 0 else FASTEST_MBPS


def _us(point: Point, rate: float, floor: float) -> float:
    return point.launches * floor + point.mb / rate * 1e6


def _entry(data: Sequence[Point], floor: float) -> dict[str, Any]:
    rate = _bandwidth(data, floor)
    errors = []
    names = sorted({p.name for p in data})
    for name in names:
        rest = [p for p in data if p.name != name] if len(names) > 2 else data
        other = _bandwidth(rest, floor)
        errors += [abs(_us(p, other, floor) / p.us - 1.0) for p in data if p.name == name]
    return {
        "GBps": rate / 1e3,
        "kind": "measured",
        "source": SOURCE,
        "rows": len(data),
        "median_error": float(np.median(errors)),
        "max_error": max(errors),
    }
