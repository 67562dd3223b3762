"""Rows of a profiler trace as the fits need them (columns: the trace file's own)."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COMPUTE_STREAMS = (7, 23)
COMM_STREAM = 27

TRACE_SMS = 112
"""CTAs of the trace's persistent GEMMs: 132 SMs less the 20 of communication."""


@dataclass(frozen=True, slots=True)
class Row:
    """One GPU activity. Times in microseconds; `under` is the share beside a transfer kernel."""

    start: float
    dur: float
    stream: int
    layer: int
    phase: str
    kernel: str
    op: str
    m: float
    n: float
    k: float
    flop: float
    grid: str
    under: float

    @property
    def end(self) -> float:
        """End in microseconds."""
        return self.start + self.dur


def read_trace(path: Path) -> list[Row]:
    """All rows of a trace file, by start."""

    def number(text: str) -> float:
        return float(text) if text else 0.0

    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            Row(
                number(r["start_us"]),
                number(r["dur_us"]),
                int(r["stream"]),
                int(r["layer"]),
                r["phase"],
                r["kernel"],
                r["op"],
                number(r["gemm_m"]),
                number(r["gemm_n"]),
                number(r["gemm_k"]),
                number(r["flop"]),
                r["grid"],
                number(r["frac_under_transfer"]),
            )
            for r in csv.DictReader(file)
        ]
    return sorted(rows, key=lambda r: r.start)


def compute_rows(rows: Iterable[Row]) -> list[Row]:
    """Rows of the two compute streams."""
    return [r for r in rows if r.stream in COMPUTE_STREAMS]


def union_us(rows: Iterable[Row]) -> float:
    """Microseconds in which at least one of the rows runs."""
    total, reached = 0.0, float("-inf")
    for row in sorted(rows, key=lambda r: r.start):
        total += max(0.0, row.end - max(row.start, reached))
        reached = max(reached, row.end)
    return total


def positions(rows: Iterable[Row]) -> dict[tuple[str, str, int], list[Row]]:
    """Rows of all layers by (phase, kernel, how many of that kernel came before in the phase)."""
    seen: dict[tuple[int, str, str], int] = defaultdict(int)
    found: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        key = (row.layer, row.phase, row.kernel)
        found[row.phase, row.kernel, seen[key]].append(row)
        seen[key] += 1
    return dict(found)
