"""Reads and writes recorded token traces as npz or parquet; see docs/formats.md."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError, Problem
from simdeep.program.routing.counts import repeats
from simdeep.program.routing.trace import RoutingTrace
from simdeep.spec.resources import find_resource

SUFFIXES = (".npz", ".parquet")
REQUIRED = ("layer", "token", "experts")
OPTIONAL = ("source", "microbatch")
EXAMPLE = "example-trace"
"""The shipped example: drawn from the gate, not recorded from a run."""

_MAX_BYTES = 4 << 30
_LARGEST = {"layer": 1 << 20, "microbatch": 1 << 30, "source": 1 << 20, "token": 1 << 62}

Columns = dict[str, npt.NDArray[Any]]


def is_trace(path: str | Path) -> bool:
    """Whether a file of routing is a token trace, by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


def read_trace(name_or_path: str | Path = EXAMPLE, n_experts: int | None = None) -> RoutingTrace:
    """Read a trace, shipped or the user's, and check every row.

    The number of experts is the file's; `n_experts` is what it must be, and stands in where the
    file does not say.
    """
    path = find_resource("routing", name_or_path)
    if not is_trace(path):
        _refuse(path, "", f"must be a trace of tokens: a file in {' or '.join(SUFFIXES)}")
    columns, recorded = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
    if recorded is not None and n_experts is not None and recorded != n_experts:
        _refuse(path, "n_experts", f"is {recorded}; the gate has {n_experts}")
    experts = recorded if recorded is not None else n_experts
    return _checked(path, columns, experts)


def write_trace(path: str | Path, trace: RoutingTrace) -> None:
    """Write a trace as npz or parquet, by the suffix of `path`."""
    path = Path(path)
    columns: Columns = {
        "layer": trace.layer,
        "microbatch": trace.microbatch,
        "token": trace.token,
        "experts": trace.experts,
    }
    if trace.source is not None:
        columns["source"] = trace.source
    if path.suffix == ".npz":
        columns["n_experts"] = np.asarray(trace.n_experts)
        np.savez_compressed(path, allow_pickle=False, **columns)
    elif path.suffix == ".parquet":
        pa, parquet = _pyarrow(path)
        flat = pa.array(np.ascontiguousarray(columns.pop("experts")).ravel())
        arrays = {name: pa.array(values) for name, values in columns.items()}
        arrays["experts"] = pa.FixedSizeListArray.from_arrays(flat, trace.topk)
        table = pa.table(arrays).replace_schema_metadata({"n_experts": str(trace.n_experts)})
        parquet.write_table(table, path, compression="zstd")
    else:
        _refuse(path, "", f"a trace is written to a file in {' or '.join(SUFFIXES)}")


def _read_npz(path: Path) -> tuple[Columns, int | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_BYTES:
            _refuse(path, "", f"holds {size} bytes; at most {_MAX_BYTES} are read")
        with np.load(path, allow_pickle=False) as data:
            known = (*REQUIRED, *OPTIONAL, "n_experts")
            read = {name: data[name] for name in data.files if name in known}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, "npz", error) from error
    columns: Columns = {k: v for k, v in read.items() if isinstance(v, np.ndarray)}
    count = columns.pop("n_experts", None)
    if count is not None and (count.shape != () or count.dtype.kind not in "iu"):
        _refuse(path, "n_experts", "must be one whole number")
    return columns, None if count is None else int(count)


def _read_parquet(path: Path) -> tuple[Columns, int | None]:
    pa, parquet = _pyarrow(path)
    try:
        schema = parquet.read_schema(path)
        names = [n for n in (*REQUIRED, *OPTIONAL) if n in schema.names]
        table = parquet.read_table(path, columns=names)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, "parquet", error) from error
    columns: Columns = {}
    for name in names:
        column = table.column(name).combine_chunks()
        if column.null_count:
            _refuse(path, name, f"has {column.null_count} empty values")
        if name != "experts":
            columns[name] = column.to_numpy(zero_copy_only=False)
            continue
        if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
            _refuse(path, name, f"holds {column.type}; must be a list of whole numbers a row")
        flat = column.flatten()
        length = len(flat) // max(1, len(column))
        sizes = np.asarray(column.value_lengths().to_numpy(zero_copy_only=False))
        odd = np.flatnonzero(sizes != length)
        if len(odd):
            row = int(odd[0])
            _refuse(path, name, f"row {row} has {sizes[row]} experts; all must have as many")
        if flat.null_count:
            _refuse(path, name, f"has {flat.null_count} empty values")
        columns[name] = flat.to_numpy(zero_copy_only=False).reshape(len(column), length)
    text = (schema.metadata or {}).get(b"n_experts")
    if text is None:
        return columns, None
    if not text.isdigit():
        _refuse(path, "n_experts", "must be one whole number")
    return columns, int(text)


def _checked(path: Path, columns: Columns, n_experts: int | None) -> RoutingTrace:
    """The trace, in the order of dispatches, or every problem of it."""
    problems = _shape_problems(path, columns)
    if n_experts is None:
        message = "is missing, and nothing else says how many experts there are"
        problems.append(Problem(str(path), "n_experts", message))
    elif not 1 <= n_experts <= np.iinfo(np.int16).max:
        problems.append(Problem(str(path), "n_experts", f"is {n_experts}; must be 1 to 32767"))
    if problems or n_experts is None:
        raise InputError(problems)
    experts = columns["experts"]
    rows = len(experts)
    microbatch = columns.get("microbatch", np.zeros(rows, dtype=np.int32))
    source = columns.get("source")

    def name(row: int) -> str:
        layer, token = columns["layer"][row], columns["token"][row]
        batch = f", microbatch {microbatch[row]}" if "microbatch" in columns else ""
        return f"row {row} (layer {layer}{batch}, token {token})"

    for key, limit in _LARGEST.items():
        if key in columns:
            bad = np.flatnonzero((columns[key] < 0) | (columns[key] >= limit))
            if len(bad):
                row = int(bad[0])
                message = f"row {row} has {columns[key][row]}; must be from 0 to {limit - 1}"
                problems.append(Problem(str(path), key, message))
    unknown = ((experts < 0) | (experts >= n_experts)).any(axis=1)
    twice = repeats(experts)
    for wrong, why in (
        (unknown, f"experts are 0 to {n_experts - 1}"),
        (twice, "a token has each of its experts once"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            listed = ", ".join(str(e) for e in experts[row])
            message = f"{name(row)} names experts {listed}; {why} ({int(wrong.sum())} such rows)"
            problems.append(Problem(str(path), "experts", message))
    if problems:
        raise InputError(problems)
    rank = np.zeros(rows, dtype=np.int32) if source is None else source
    order = np.lexsort((columns["token"], rank, microbatch, columns["layer"]))
    same = np.ones(max(0, rows - 1), dtype=bool)
    for values in (columns["token"], rank, microbatch, columns["layer"]):
        same &= values[order[1:]] == values[order[:-1]]
    if same.any():
        row = int(order[1:][same.argmax()])
        _refuse(path, "token", f"{name(row)} is there twice")
    in_order = np.lexsort((microbatch, columns["layer"]))  # stable: rows keep their order inside
    return RoutingTrace(
        n_experts=n_experts,
        layer=columns["layer"][in_order].astype(np.int32),
        microbatch=microbatch[in_order].astype(np.int32),
        token=columns["token"][in_order].astype(np.int64),
        experts=np.ascontiguousarray(experts[in_order], dtype=np.int16),
        source=None if source is None else source[in_order].astype(np.int32),
        path=path,
    )


def _shape_problems(path: Path, columns: Columns) -> list[Problem]:
    """Missing columns, wrong types and wrong shapes."""
    found = [Problem(str(path), k, "is missing") for k in REQUIRED if k not in columns]
    experts = columns.get("experts")
    rows = len(experts) if experts is not None and experts.ndim == 2 else None
    for key, values in columns.items():
        wanted = "[rows, topk]" if key == "experts" else "[rows]"
        if values.dtype.kind not in "iu":
            message = f"holds {values.dtype}; must be whole numbers"
        elif values.ndim != (2 if key == "experts" else 1):
            message = f"has shape {list(values.shape)}; must be {wanted}"
        elif rows is not None and len(values) != rows:
            message = f"has {len(values)} rows, experts has {rows}"
        elif values.size == 0:
            message = "is empty; a trace needs at least one token with at least one expert"
        else:
            continue
        found.append(Problem(str(path), key, message))
    return found


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        _refuse(path, "", "parquet needs pyarrow: pip install 'simdeep[parquet]', or use npz")
    return pyarrow, pyarrow.parquet


def _unreadable(path: Path, kind: str, error: Exception) -> InputError:
    return InputError([Problem(str(path), "", f"cannot be read as {kind}: {error}")])


def _refuse(path: Path, key: str, message: str) -> NoReturn:
    raise InputError([Problem(str(path), key, message)])
