"""Measured rows: what was timed, on how many SMs and beside what, and how long it took."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One timed piece of work; sizes that it does not have are 0.

    `group` says which fit it serves (gemm, grouped_gemm, attention, memory, held, ctas, overlap,
    gap, idle), `name` the piece, `variant` the product, direction or class as in the kernel
    records. GEMM sizes are the kernel record's (`m` x `n` output, `k` contracted; of a grouped
    wgrad `k` is the mean of a group). For attention `m` is the tokens of all sequences, `n` the
    sequence length, `groups` the heads, `kv_heads`, `qk_dim` and `v_dim` the rest. `flops` and
    `bytes` are the record's. `sms` are those the kernel was launched for, `held` those that another
    kernel kept to itself meanwhile, `beside` what ran there. Times in microseconds a call: the
    median, and the fastest and slowest of `repeats` readings. `mhz` and `watts` are the SM clock
    and the power seen while it ran; `kernel` is the library's kernel.
    """

    group: str
    name: str
    dtype: str
    variant: str
    m: int = 0
    n: int = 0
    k: int = 0
    groups: int = 1
    kv_heads: int = 0
    qk_dim: int = 0
    v_dim: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    sms: int = 0
    held: int = 0
    beside: str = ""
    us: float = 0.0
    low_us: float = 0.0
    high_us: float = 0.0
    repeats: int = 0
    mhz: int = 0
    watts: int = 0
    kernel: str = ""


_FIELDS = tuple(field.name for field in dataclasses.fields(Row))
_TYPES = {field.name: field.type for field in dataclasses.fields(Row)}
_READ: dict[Any, Any] = {"str": str, "int": int, "float": float}


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as CSV; times to a nanosecond."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(_FIELDS)
        for row in rows:
            out.writerow([_text(getattr(row, name)) for name in _FIELDS])


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file that `write_rows` wrote; `ValueError` where it is none."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        if tuple(lines.fieldnames or ()) != _FIELDS:
            raise ValueError(f"{path.name}: not a file of measured rows")
        return [
            Row(**{name: _READ[_TYPES[name]](line[name]) for name in _FIELDS}) for line in lines
        ]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return str(value)
