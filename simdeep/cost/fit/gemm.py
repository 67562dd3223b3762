"""GEMM curves: launch + waves x (prologue + k x per-k time), fitted on relative errors."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from simdeep.cost.fit.rows import TRACE_SMS, Row, union_us

TILE = 128
"""Output tile of DeepGEMM's training kernels in both directions (its scales come in 128 x 128)."""

ROUTER = "router_"
ROUTED_WGRAD = "_wgrad_expert"


@dataclass(frozen=True, slots=True)
class Point:
    """One shape's time without a transfer beside it: `waves` rounds of tiles at depth `k`."""

    op: str
    variant: str
    launches: int
    waves: float
    k: float
    us: float


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients in microseconds (launch, prologue of a wave, per k) and relative errors."""

    launch: float
    prologue: float
    per_k: float
    rows: int
    median_error: float
    max_error: float

    def us(self, point: Point) -> float:
        """Predicted microseconds."""
        return point.launches * self.launch + point.waves * (self.prologue + point.k * self.per_k)


def variant_of(op: str) -> str:
    """`fwd`, `dgrad` or `wgrad` of a trace's GEMM role; recomputation is forward."""
    for variant in ("wgrad", "dgrad"):
        if variant in op:
            return variant
    return "fwd"


def drag_class(op: str) -> str:
    """Cost class of a trace's GEMM role."""
    return "grouped_gemm" if op.startswith("routed_") else "gemm"


def tile_waves(m: float, n: float, sms: int) -> float:
    """Rounds of 128 x 128 tiles."""
    return math.ceil(math.ceil(m / TILE) * math.ceil(n / TILE) / sms)


def points(rows: Sequence[Row], drag: dict[str, float]) -> list[Point]:
    """GEMM rows of a trace as points, freed of the transfers beside them.

    The experts' weight gradients of a layer run on two streams at once; they are one point, of the
    time in which either runs.
    """
    found, experts = [], defaultdict(list)
    for row in rows:
        if not row.m:
            continue
        if row.op.endswith(ROUTED_WGRAD):
            experts[row.layer, row.op].append(row)
            continue
        free = row.dur / (1.0 + drag[drag_class(row.op)] * row.under)
        waves = tile_waves(row.m, row.n, TRACE_SMS)
        found.append(Point(row.op, variant_of(row.op), 1, waves, row.k, free))
    for (_, op), group in experts.items():
        under = sum(r.under * r.dur for r in group) / sum(r.dur for r in group)
        free = union_us(group) / (1.0 + drag["grouped_gemm"] * under)
        waves = sum(tile_waves(r.m, r.n, TRACE_SMS) for r in group)
        k = sum(r.k for r in group) / len(group)
        found.append(Point(op, "wgrad", len(group), waves, k, free))
    return found


def published(path: Path, dtype: str, variant: str) -> list[Point]:
    """Published GEMM times of a dtype as points."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Point(
                f"published {r['m']}x{r['n']}x{r['k']}",
                variant,
                1,
                tile_waves(float(r["m"]), float(r["n"]), int(r["sms"])),
                float(r["k"]),
                float(r["latency_us"]),
            )
            for r in csv.DictReader(file)
            if r["dtype"] == dtype
        ]


def fit(data: Sequence[Point], error: bool = True) -> Fit:
    """Least squares of relative errors with no negative coefficient, weighted by shape.

    Each shape counts once, however many rows it has; the error left out is that of a shape
    predicted from the others.
    """
    shapes = defaultdict(list)
    for point in data:
        shapes[point.op, point.k, point.waves].append(point)
    names = sorted({op for op, _, _ in shapes})
    launch, prologue, per_k = _solve(data)
    own = Fit(launch, prologue, per_k, len(data), 0.0, 0.0)
    errors = []
    for name in names if error and len(names) > 2 else ():
        rest = [p for p in data if p.op != name]
        other = Fit(*_solve(rest), len(rest), 0.0, 0.0)
        errors += [abs(other.us(p) / p.us - 1.0) for p in data if p.op == name]
    if not errors:
        errors = [abs(own.us(p) / p.us - 1.0) for p in data]
    return Fit(launch, prologue, per_k, len(data), float(np.median(errors)), max(errors))


def _solve(data: Sequence[Point]) -> tuple[float, float, float]:
    count: dict[str, int] = defaultdict(int)
    for point in data:
        count[point.op] += 1
    terms = np.array([[p.launches, p.waves, p.waves * p.k] for p in data])
    time = np.array([p.us for p in data])
    weight = np.array([count[p.op] ** -0.5 for p in data]) / time
    best: tuple[float, tuple[float, float, float]] | None = None
    for size in (3, 2, 1):
        for columns in combinations(range(3), size):
            if 2 not in columns or len(data) < size:
                continue
            part = terms[:, columns]
            found = np.linalg.lstsq(part * weight[:, None], time * weight, rcond=None)[0]
            if (found < 0).any():
                continue
            whole = np.zeros(3)
            whole[list(columns)] = found
            miss = float((((terms @ whole - time) * weight) ** 2).sum())
            if best is None or miss < best[0] - 1e-12:
                best = miss, (float(whole[0]), float(whole[1]), float(whole[2]))
    if best is None:
        raise ValueError("no non-negative GEMM curve fits these rows")
    return best[1]


def curve_entries(rows: Sequence[Row], drag: dict[str, float], extra: Path) -> list[dict[str, Any]]:
    """GEMM entries of a calibration file."""
    data = points(rows, drag)
    entries = []
    fp8 = {}
    for variant in ("fwd", "dgrad", "wgrad"):
        mine = [p for p in data if p.variant == variant and not p.op.startswith(ROUTER)]
        fp8[variant] = fit(mine)
        source = "GEMM rows of h800_train_trace.csv, plain and grouped, 112 CTAs"
        if variant == "wgrad":
            source += "; accumulates into FP32; experts by the union of streams 7 and 23"
        entries.append(_entry("fp8", variant, fp8[variant], "measured", source))
    large = "large shapes from published_gemm.csv (FP16 on H800, taken for BF16, 128x128 tiles)"
    router = {v: [p for p in data if p.op == ROUTER + v] for v in fp8}
    for variant in ("fwd", "dgrad"):
        both = [*published(extra, "bf16", variant), *router[variant]]
        source = f"{large} and the router's rows of h800_train_trace.csv"
        entries.append(_entry("bf16", variant, fit(both, error=False), "published", source))
    base = fit(published(extra, "bf16", "wgrad"), error=False)
    entries.append(
        _entry(
            "bf16",
            "wgrad",
            _bf16_wgrad(base, fp8["wgrad"], router["wgrad"]),
            "guess",
            f"per-k time of {large}; prologue of the FP8 wgrad (same FP32 accumulator); "
            "launch from the router's wgrad rows, the only ones of the trace",
        )
    )
    return entries


def _bf16_wgrad(base: Fit, fp8: Fit, router: Sequence[Point]) -> Fit:
    part = Fit(0.0, fp8.prologue, base.per_k, 0, 0.0, 0.0)
    launch = max(0.0, float(np.mean([p.us - part.us(p) for p in router])))
    whole = Fit(launch, part.prologue, part.per_k, len(router) + base.rows, 0.0, 0.0)
    errors = [abs(whole.us(p) / p.us - 1.0) for p in router]
    return Fit(launch, part.prologue, part.per_k, whole.rows, float(np.median(errors)), max(errors))


def _entry(dtype: str, variant: str, found: Fit, kind: str, source: str) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "variant": variant,
        "tile_m": TILE,
        "tile_n": TILE,
        "launch_us": found.launch,
        "prologue_us": found.prologue,
        "per_k_ns": found.per_k * 1e3,
        "kind": kind,
        "source": source,
        "rows": found.rows,
        "median_error": found.median_error,
        "max_error": found.max_error,
    }


def stream_bandwidth(path: Path) -> dict[str, Any]:
    """Bandwidth at which a GEMM with few rows reads its weights, GB/s."""
    with path.open(newline="", encoding="utf-8") as file:
        rates = [
            float(r["n"]) * float(r["k"]) / float(r["latency_us"]) / 1e3
            for r in csv.DictReader(file)
            if r["dtype"] == "fp8_weights"
        ]
    middle = float(np.median(rates))
    errors = [abs(r / middle - 1.0) for r in rates]
    return {
        "value": middle,
        "kind": "published",
        "source": "alibaba/InferSim@f2293da bench_data, H800, GEMMs bound by reading their weights",
        "rows": len(rates),
        "median_error": float(np.median(errors)),
        "max_error": max(errors),
    }
