"""Published profiler traces as rows: one line a GPU activity, as in `simdeep/data/traces`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from simdeep.errors import InputError, Problem
from simdeep.traces.names import kind_of
from simdeep.traces.trace import COMMUNICATION, IDLE, SPANS, Trace

NEEDED = ("start_us", "dur_us", "stream", "layer", "phase", "kernel")


def read_rows(path: Path) -> Trace:
    """A CSV of GPU activities with at least the columns `NEEDED`; times in microseconds.

    Raises:
        InputError: a column is missing, or a value is not a number.
    """
    import pandas as pd

    problems: list[Problem] = []
    spans: list[dict[str, Any]] = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            message = f"has no column {', '.join(missing)}; needs {', '.join(NEEDED)}"
            raise InputError([Problem(str(path), "", message)])
        for row in reader:
            try:
                spans.append(_span(row))
            except ValueError:
                message = "start_us and dur_us must be numbers of at least 0, layer an integer"
                problems.append(Problem(f"{path}:{reader.line_num}", "", message))
    if not spans and not problems:
        problems.append(Problem(str(path), "", "has no rows"))
    if problems:
        raise InputError(problems[:20])
    frame = pd.DataFrame(spans, columns=list(SPANS))
    # Dependencies, and with them the reasons of idle time, are not in a profiler's trace.
    return Trace(path.stem, "measured", frame, pd.DataFrame(columns=list(IDLE)))


def _span(row: dict[str, str]) -> dict[str, Any]:
    start, lasted = round(float(row["start_us"]) * 1e3), round(float(row["dur_us"]) * 1e3)
    if start < 0 or lasted < 0:
        raise ValueError
    kind = kind_of(row["kernel"])
    return {
        "rank": 0,
        "stream": row.get("stream_role") or row["stream"],
        "name": row["kernel"],
        "kind": kind,
        # A kernel launched inside a transfer's annotation that moves no bytes is not the transfer.
        "phase": row["phase"] if kind == COMMUNICATION or _computes(row) else "",
        "part": "",
        "layer": int(row["layer"] or -1),
        "microbatch": -1,
        "start_ns": start,
        "end_ns": start + lasted,
        "launch_ns": 0,
        "setup_ns": 0,
    }


def _computes(row: dict[str, str]) -> bool:
    return not row["phase"].startswith(("dispatch", "combine"))
