"""Drag and gaps: what a transfer beside a kernel costs it, and what passes between kernels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from simdeep.cost.fit.gemm import ROUTED_WGRAD, drag_class, tile_waves
from simdeep.cost.fit.rows import TRACE_SMS, Row, positions

FREE, COVERED = 0.1, 0.9
SHORTEST_US = 10.0
"""Pairs of kernels shorter than this are left out: the trace has whole microseconds."""

LONGEST_GAP_US = 10.0
"""Longer gaps are waits (for the host in the first layer, for tokens), not launches."""


def drags(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Slow-down by class, from the same kernel at the same place of different layers.

    Rows of the experts' GEMMs differ by layer, so they are compared by the time of one wave. Rows
    of memory kernels count only where the grid is the same, that is, the shape.
    """
    found: dict[str, list[tuple[float, float]]] = {"gemm": [], "grouped_gemm": [], "memory": []}
    for group in positions(rows).values():
        for grid in sorted({r.grid for r in group}) if not group[0].m else (None,):
            same = [r for r in group if grid is None or r.grid == grid]
            kind, values = _comparable(same)
            if kind is None:
                continue
            free = [v for v, r in zip(values, same, strict=True) if r.under < FREE]
            covered = [v for v, r in zip(values, same, strict=True) if r.under > COVERED]
            if free and covered and np.mean([r.dur for r in same]) >= SHORTEST_US:
                weight = float(np.mean([r.dur for r in same]))
                found[kind].append((float(np.mean(covered) / np.mean(free)) - 1.0, weight))
    result = {kind: _summary(pairs) for kind, pairs in found.items()}
    result["attention"] = {
        "value": result["gemm"]["value"],
        "kind": "guess",
        "source": "taken as plain GEMM's: no attention row of the trace runs free of transfers",
    }
    return result


def _comparable(rows: Sequence[Row]) -> tuple[str | None, list[float]]:
    """Drag class of rows at one place, and their times made comparable."""
    first = rows[0]
    if first.op.endswith(ROUTED_WGRAD) or first.op.startswith("attn_core"):
        return None, []
    if first.m:
        per_wave = [r.dur / tile_waves(r.m, r.n, TRACE_SMS) for r in rows]
        return drag_class(first.op), per_wave
    return ("memory", [r.dur for r in rows]) if first.grid else (None, [])


def _summary(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    values = np.array([value for value, _ in pairs])
    weights = np.array([weight for _, weight in pairs])
    mean = float((values * weights).sum() / weights.sum())
    return {
        "value": max(0.0, mean),
        "kind": "measured",
        "source": "h800_train_trace.csv: same kernel and shape, under a transfer for more than 0.9 "
        "against less than 0.1 of its time; mean weighted by time",
        "rows": len(pairs),
        "spread": float(np.std(values)),
    }


def free_us(row: Row, drag: float) -> float:
    """Duration of a row without the transfer beside it."""
    return row.dur / (1.0 + drag * row.under)


def launch_gap(rows: Sequence[Row]) -> dict[str, Any]:
    """Mean gap between kernels of one phase on the main compute stream, microseconds."""
    main = [r for r in rows if r.stream == 7]
    gaps = [b.start - a.end for a, b in pairwise(main) if (a.layer, a.phase) == (b.layer, b.phase)]
    kept = [g for g in gaps if g <= LONGEST_GAP_US]
    return {
        "value": float(np.mean(kept)),
        "kind": "measured",
        "source": "h800_train_trace.csv: gaps inside a phase on stream 7; "
        f"{len(gaps) - len(kept)} longer than {LONGEST_GAP_US:g} us left out as waits",
        "rows": len(kept),
    }
