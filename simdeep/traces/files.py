"""Trace documents as files: JSON, gzipped where the name ends in `.gz`."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from simdeep.errors import InputError, Problem

SUFFIXES = (".json", ".json.gz")


def write_trace(document: dict[str, Any], path: str | Path) -> Path:
    """Write a trace document; the same document gives the same bytes.

    Args:
        document: as `export` makes it.
        path: ends in `.json` or `.json.gz`.

    Raises:
        InputError: another suffix.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIXES):
        message = f"a trace is written as {' or '.join(SUFFIXES)}"
        raise InputError([Problem(str(path), "", message)])
    # HolisticTraceAnalysis finds the rank of a file by the text `"rank": N`, blank included.
    data = json.dumps(document, separators=(",", ": "), allow_nan=False).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, compresslevel=6, mtime=0)
    path.write_bytes(data)
    return path


def read_document(path: Path) -> Any:
    """The JSON of a trace file, unpacked if need be.

    Raises:
        InputError: the file cannot be read, is cut off, or is not JSON.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return json.loads(data)
    except OSError as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError([Problem(str(path), "", f"cannot read: {reason}")]) from error
    except (EOFError, zlib.error) as error:
        raise InputError([Problem(str(path), "", "the gzip file is cut off or damaged")]) from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        where = f"line {error.lineno}: " if isinstance(error, json.JSONDecodeError) else ""
        message = f"{where}not JSON; expected a trace as PyTorch's profiler or simdeep writes it"
        raise InputError([Problem(str(path), "", message)]) from error
