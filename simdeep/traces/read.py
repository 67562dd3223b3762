"""Trace files of any kind that is known."""

from __future__ import annotations

from pathlib import Path

from simdeep.errors import InputError, Problem
from simdeep.spec.resources import resource_dir
from simdeep.traces.files import SUFFIXES, read_document
from simdeep.traces.kineto import read_kineto
from simdeep.traces.rows import read_rows
from simdeep.traces.trace import Trace


def read_trace(name_or_path: str | Path) -> Trace:
    """A trace from a file, or from a shipped one by its name.

    Takes `.json` and `.json.gz` of PyTorch's profiler or of `export`, and `.csv` rows as in
    `simdeep/data/traces`.

    Raises:
        InputError: there is no such file, or it is no trace.
    """
    path = Path(name_or_path)
    shipped = resource_dir("traces") / f"{name_or_path}.csv"
    if not path.exists() and shipped.is_file():
        path = shipped
    if path.is_dir():
        raise InputError([Problem(str(path), "", "is a folder; name one trace file in it")])
    if not path.exists():
        known = sorted(p.stem for p in resource_dir("traces").glob("*trace*.csv"))
        message = f"no such file; shipped traces: {', '.join(known)}"
        raise InputError([Problem(str(path), "", message)])
    if path.suffix == ".csv":
        return read_rows(path)
    if path.name.endswith(SUFFIXES):
        return read_kineto(path, read_document(path))
    message = f"a trace is {', '.join(SUFFIXES)} or .csv"
    raise InputError([Problem(str(path), "", message)])
