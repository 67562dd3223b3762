"""Traces of requests: CSV, JSON lines or parquet files.

Columns: `time_s` (seconds, ascending), `input_tokens`, `output_tokens`, and if there are any
`prefix_hash` (prompts of one hash begin alike) and `prefix_tokens` (for how many tokens; without it
up to the shorter prompt).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simdeep.errors import InputError, Problem
from simdeep.serving.sim.fleet import F64, I32

NEEDED = ("time_s", "input_tokens", "output_tokens")
OPTIONAL = ("prefix_hash", "prefix_tokens")
SHOWN = 10
"""Most problems of a trace that are shown."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests as recorded; `prefix` numbers the prefixes from 0 on, -1 for none."""

    path: Path
    time_s: F64
    input_tokens: I32
    output_tokens: I32
    prefix: I32
    prefix_tokens: I32

    @property
    def has_prefixes(self) -> bool:
        """Whether any request names its prefix."""
        return bool((self.prefix >= 0).any())


def read_trace(path: str | Path, max_context: int) -> Trace:
    """Read a trace.

    Raises:
        InputError: with every problem of the file, by line (of CSV and JSON lines) or row.
    """
    path = Path(path)
    table = _table(path)
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise _error(path, f"has no column {', '.join(missing)}; needs {', '.join(NEEDED)}")
    if table.empty:
        raise _error(path, "is empty: a trace needs at least one request")
    problems = list(_problems(path, table, max_context))
    if problems:
        more = len(problems) - SHOWN
        shown = problems[:SHOWN]
        if more > 0:
            shown.append(Problem(str(path), "", f"and {more} more of the kind"))
        raise InputError(shown)
    inputs = table["input_tokens"].to_numpy(np.int32)
    prefix, tokens = np.full(len(table), -1, np.int32), inputs
    if "prefix_hash" in table:
        prefix = pd.factorize(table["prefix_hash"].astype(object))[0].astype(np.int32)
    if "prefix_tokens" in table:
        tokens = table["prefix_tokens"].fillna(0).to_numpy(np.int32)
    times = table["time_s"].to_numpy(float)
    outputs = table["output_tokens"].to_numpy(np.int32)
    return Trace(path, times - times[0], inputs, outputs, prefix, tokens)


def _table(path: Path) -> pd.DataFrame:
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv,
        ".jsonl": lambda name: pd.read_json(name, lines=True, dtype={"prefix_hash": str}),
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise _error(path, f"must end in {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except pd.errors.EmptyDataError:
        raise _error(path, "is empty: a trace needs at least one request") from None
    except ImportError:
        raise _error(path, "parquet needs pyarrow: install simdeep[parquet]") from None
    except (ValueError, OSError) as error:
        text = str(error).strip().splitlines() or ["cannot be read"]
        raise _error(path, f"cannot be read: {text[0]}") from None


def _error(path: Path, message: str) -> InputError:
    return InputError([Problem(str(path), "", message)])


def _problems(path: Path, table: pd.DataFrame, max_context: int) -> Iterator[Problem]:
    first = 2 if path.suffix == ".csv" else 1
    numbers = {name: pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in NEEDED}

    def each(wrong: Any, column: str, rule: str) -> Iterator[Problem]:
        for row in np.flatnonzero(wrong):
            value = table[column].iloc[row]
            yield Problem(f"{path}:{row + first}", column, f"is {value}; {rule}")

    times = numbers["time_s"]
    yield from each(~np.isfinite(times), "time_s", "must be seconds")
    back = np.concatenate([[False], np.diff(times) < 0])
    yield from each(back, "time_s", "goes back in time; sort the rows by time_s")
    sound = np.ones(len(table), bool)
    for name in ("input_tokens", "output_tokens"):
        values = numbers[name]
        wrong = ~(np.isfinite(values) & (values >= 1) & (values == np.floor(values)))
        sound &= ~wrong
        yield from each(wrong, name, "must be a whole number of tokens from 1")
    total = numbers["input_tokens"] + numbers["output_tokens"]
    for row in np.flatnonzero(sound & (total > max_context)):
        text = (
            f"input and output are {total[row]:.0f} tokens together; the context is {max_context}"
        )
        yield Problem(f"{path}:{row + first}", "", text)
    if "prefix_tokens" in table:
        given = pd.to_numeric(table["prefix_tokens"], errors="coerce").fillna(0).to_numpy(float)
        wrong = (given < 0) | (given > numbers["input_tokens"]) | (given != np.floor(given))
        yield from each(wrong, "prefix_tokens", "must be a whole number up to input_tokens")
