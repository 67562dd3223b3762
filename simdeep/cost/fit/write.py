"""The calibration file as text: plain block YAML with numbers to four significant digits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def to_yaml(data: Mapping[str, Any]) -> str:
    """A mapping of mappings, lists and scalars as YAML 1.2; text is always quoted."""
    return "\n".join(_lines(data, 0)) + "\n"


def _lines(value: Mapping[str, Any] | Sequence[Any], depth: int) -> list[str]:
    pad = "  " * depth
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, Mapping | list):
                lines.append(f"{pad}{key}:")
                lines += _lines(item, depth + 1)
            else:
                lines.append(f"{pad}{key}: {_scalar(item)}")
        return lines
    for item in value:
        first, *rest = _lines(item, depth + 1)
        lines += [f"{pad}- {first.lstrip()}", *rest]
    return lines


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        text = f"{value:.4g}"
        return text if "e" not in text else f"{value:.1f}"
    return str(value)
