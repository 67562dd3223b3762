"""Finds shipped files by name, in a checkout and in an installed wheel, and user files by path."""

from __future__ import annotations

import difflib
import hashlib
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

from simdeep.errors import InputError, Problem

ResourceKind = Literal["scenarios", "topologies", "gpus", "models", "calibration", "routing"]

_PACKAGE = Path(__file__).resolve().parent.parent
_SINGULAR = {"topologies": "topology", "calibration": "calibration", "routing": "routing record"}


@cache
def resource_dir(kind: ResourceKind) -> Path:
    """Folder of the shipped files of a kind.

    Scenarios and topologies lie at the top of the repository and are put into the wheel under
    `simdeep/data`; the other kinds are always there.
    """
    inside = _PACKAGE / "data" / kind
    checkout = _PACKAGE.parent / kind
    return inside if inside.is_dir() or not checkout.is_dir() else checkout


@cache
def catalogue(kind: ResourceKind) -> dict[str, Path]:
    """Names of the shipped files of a kind (file name without its suffix), sorted."""
    folder = resource_dir(kind)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {
        f.stem: f for f in files if f.is_file() and f.suffix and not f.name.startswith((".", "_"))
    }


def nearest(name: str, valid: list[str] | tuple[str, ...], cutoff: float = 0.6) -> str | None:
    """The valid name closest to a wrong one, or None when none is near."""
    by_case = {v.lower(): v for v in valid}
    found = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=cutoff)
    return by_case[found[0]] if found else None


def find_resource(kind: ResourceKind, name_or_path: str | Path, base: Path | None = None) -> Path:
    """The file that a name or path means: a shipped name first, else a path (relative to `base`).

    What cannot be found is an `InputError` without a place, naming the nearest file or name.
    """
    text = str(name_or_path)
    shipped = catalogue(kind)
    if text in shipped:
        return shipped[text]
    path = Path(text) if base is None else base / text
    try:
        if text.strip() and path.exists():
            return path
        siblings = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    except (OSError, ValueError):  # name too long, NUL in the path, folder not readable
        siblings = []
    raise InputError([Problem("", "", _not_found(kind, text, path, siblings))])


def _not_found(kind: ResourceKind, text: str, path: Path, siblings: list[str]) -> str:
    what = _SINGULAR.get(kind, kind.removesuffix("s"))
    near = nearest(path.stem if path.suffix else text, tuple(catalogue(kind)))
    looks_like_path = "/" in text or path.suffix in {".yaml", ".yml", ".json", ".csv"}
    if looks_like_path:
        beside = nearest(path.name, siblings, cutoff=0.75)
        if beside is not None:
            return f"{text!r}: no such file; did you mean {str(path.parent / beside)!r}?"
        if near is not None:
            return f"{text!r}: no such file; did you mean the shipped {what} {near!r}?"
        return f"{text!r}: no such file"
    if near is not None:
        return f"{text!r} is no shipped {what} and no file; did you mean {near!r}?"
    names = ", ".join(catalogue(kind)) or "none"
    return f"{text!r} is no shipped {what} and no file; shipped: {names}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex; read again only when the file has changed."""
    state = path.stat()
    return _digest_of(path, state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=256)
def _digest_of(path: Path, *state: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
