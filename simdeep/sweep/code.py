"""Which simdeep computed an answer: its version, and a digest of the code and data behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import simdeep

_ROOT = Path(simdeep.__file__).parent
_CODE = ("spec", "program", "cost", "engine", "network", "analysis", "autoschedule", "sweep")
_FILES = ("api.py", "units.py", "jit.py", "report/summary.py")
# Models, GPUs, topologies and scenarios count by their content in each point's own key.
_DATA = ("alltoall", "calibration", "fabric", "routing")


@cache
def code_digest() -> str:
    """First 16 digits of a SHA-256 of all code and data that an answer comes from."""
    digest = hashlib.sha256()
    for path in sorted(_files()):
        digest.update(f"{path.relative_to(_ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _files() -> Iterator[Path]:
    for name in _CODE:
        yield from (_ROOT / name).rglob("*.py")
    yield from (_ROOT / name for name in _FILES)
    for name in _DATA:
        yield from (path for path in (_ROOT / "data" / name).rglob("*") if path.is_file())
