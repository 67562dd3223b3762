"""The skew a gate has when a scenario gives none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from simdeep.spec.resources import find_resource
from simdeep.spec.yamlio import load_document

DEFAULT_SKEW = "h800-skew"
"""Shipped file with the skew of a gate that is given none."""


@dataclass(frozen=True)
class Skew:
    """A skew (standard deviation of experts' logit offsets) with where it comes from."""

    value: float
    source: str
    method: str


@cache
def default_skew() -> Skew:
    """The skew that a gate has when a scenario gives none: as uneven as DeepSeek's H800 trace."""
    data = load_document(find_resource("routing", DEFAULT_SKEW)).data
    return Skew(float(data["value"]), str(data["source"]), str(data["method"]))
