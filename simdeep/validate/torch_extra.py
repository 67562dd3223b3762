"""Whether torch is there: simdeep does not need it, measuring on real processes does."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec

from simdeep.errors import InputError, Problem

OLDEST = (2, 6)
"""First torch whose pipeline runtime executes a schedule table with I and W apart."""


def require_torch() -> None:
    """Raise InputError, naming the extra to install, where torch is missing or too old."""
    way_out = "install simdeep with its extra `torch`: pip install 'simdeep[torch]'"
    if find_spec("torch") is None:
        raise InputError([Problem("", "", f"this runs torch, which is not installed; {way_out}")])
    found = metadata.version("torch")
    if _release(found) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        message = f"this needs torch {wanted} or newer, {found} is installed; {way_out}"
        raise InputError([Problem("", "", message)])


def _release(version: str) -> tuple[int, int]:
    """Major and minor number of a version such as `2.13.0+cpu`."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
