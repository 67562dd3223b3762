"""Quantities with units: text in, SI base numbers out, and numbers back to text.

Base units: B/s, B, s, FLOP/s, USD/h, Hz. Bandwidth is decimal (1 GB/s = 1e9 B/s), capacity is shown
in GiB, compute in dense TFLOP/s. A quantity without a unit is refused: a field that takes bare
numbers carries its unit in its name instead.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Literal

Dimension = Literal["bandwidth", "capacity", "time", "compute", "price", "frequency"]

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_BYTES = {f"{prefix}B": scale for prefix, scale in (_DECIMAL | _BINARY).items()}

UNITS: dict[Dimension, dict[str, float]] = {
    "bandwidth": {f"{unit}/s": scale for unit, scale in _BYTES.items()}
    | {f"{prefix}bit/s": scale / 8 for prefix, scale in _DECIMAL.items()},
    "capacity": _BYTES,
    "time": {
        "s": 1.0,
        "ms": 1e-3,
        "us": 1e-6,
        "µs": 1e-6,
        "ns": 1e-9,
        "min": 60.0,
        "h": 3600.0,
        "d": 86400.0,
    },
    "compute": {f"{prefix}FLOP/s": scale for prefix, scale in (_DECIMAL | {"E": 1e18}).items()},
    "price": {"USD/h": 1.0, "$/h": 1.0},
    "frequency": {f"{prefix}Hz": scale for prefix, scale in _DECIMAL.items()},
}
"""Accepted units of each dimension and their size in the dimension's base unit."""

EXAMPLES: dict[Dimension, str] = {
    "bandwidth": "400 Gbit/s",
    "capacity": "80 GiB",
    "time": "5 us",
    "compute": "989 TFLOP/s",
    "price": "2 USD/h",
    "frequency": "1.8 GHz",
}

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*", re.ASCII)


class UnitError(ValueError):
    """A quantity that cannot be read; the text says the rule and a valid form."""


def parse_quantity(text: object, dimension: Dimension, *, positive: bool = False) -> float:
    """Read a quantity such as `400 Gbit/s` into the base unit of its dimension.

    Negative, infinite and NaN values are refused, zero too with `positive`.

    >>> parse_quantity("400 Gbit/s", "bandwidth")
    50000000000.0
    """
    units, example = UNITS[dimension], EXAMPLES[dimension]
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        raise UnitError(f"{text!r} has no unit; write it as in '{example}'")
    if not isinstance(text, str):
        raise UnitError(f"{text!r} is not a {dimension}; write it as in '{example}'")
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise UnitError(f"{text!r} is not a number with a unit; write it as in '{example}'")
    number, unit = float(match[1]), match[2]
    if unit is None:
        raise UnitError(f"{text!r} has no unit; write it as in '{example}'")
    if unit not in units:
        raise UnitError(f"{text!r} has the wrong unit {unit!r}: {_unit_hint(unit, dimension)}")
    value = number * units[unit]
    if not math.isfinite(value):
        raise UnitError(f"{text!r} is not a finite number")
    if value < 0 or (positive and value == 0):
        rule = "greater than zero" if positive else "zero or more"
        raise UnitError(f"{text!r} is out of range: a {dimension} must be {rule}")
    return value


def _unit_hint(unit: str, dimension: Dimension) -> str:
    units = UNITS[dimension]
    other = next((name for name, known in UNITS.items() if unit in known), None)
    reason = f"that is a {other}; " if other else ""
    by_case = [known for known in units if known.lower() == unit.lower()]
    near = by_case or difflib.get_close_matches(unit, units, n=1, cutoff=0.5)
    if near:
        return f"{reason}a {dimension} has units such as {near[0]!r}"
    return f"{reason}a {dimension} is written as in '{EXAMPLES[dimension]}'"


def _scaled(value: float, steps: tuple[tuple[float, str], ...], digits: int) -> str:
    """`value` in the largest unit of which there is at least one, else in the smallest."""
    scale, unit = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{value / scale:.{digits}g} {unit}"


def fmt_time(seconds: float, digits: int = 4) -> str:
    """Seconds as text: `128.5 ms`, `20.1 s`, `3.7 d`."""
    steps = ((86400.0, "d"), (3600.0, "h"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
    return "0 s" if seconds == 0 else _scaled(seconds, steps, digits)


def fmt_bytes_gib(size: float, decimals: int = 2) -> str:
    """Bytes as GiB text: `74.51 GiB`."""
    return f"{size / 2**30:.{decimals}f} GiB"


def fmt_bandwidth(rate: float, digits: int = 4) -> str:
    """B/s as decimal text: `50 GB/s`."""
    steps = ((1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s"))
    return _scaled(rate, steps, digits)


def fmt_compute(rate: float, digits: int = 4) -> str:
    """FLOP/s as text: `989.4 TFLOP/s`."""
    steps = ((1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1.0, "FLOP/s"))
    # A GPU's peaks are quoted in TFLOP/s up to several thousand, so petaflops start late.
    return _scaled(rate, steps[1:] if abs(rate) < 1e16 else steps, digits)


def fmt_count(value: float, digits: int = 3) -> str:
    """A plain count as text: `671B`, `14.8T`."""
    steps = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"), (1.0, ""))
    return "0" if value == 0 else _scaled(value, steps, digits).replace(" ", "")


def fmt_usd(dollars: float) -> str:
    """US dollars as text: `$5.328M`, `$360K`, `$12.50`."""
    if abs(dollars) < 10_000:
        return f"${dollars:,.2f}"
    return f"${fmt_count(dollars, 4)}"


def fmt_share(fraction: float, decimals: int = 1) -> str:
    """A fraction of one as percent text: `41.9%`."""
    return f"{100 * fraction:.{decimals}f}%"
