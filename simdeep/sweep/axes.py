"""What a sweep varies: keys of the scenario, each with its values as text (as `--set` takes them).

A list is `a,b,c`; a range is `from:to:count`, or `from:to:count:log` with equal ratios. The ends of
a range may carry a unit (`25:100:4 GB/s` is written `25 GB/s:100 GB/s:4`).
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simdeep.errors import InputError, Problem

MAX_POINTS = 200_000
"""Most points of a sweep; more is a slip of the pen."""

_NUMBER = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
_END = rf"\s*({_NUMBER})\s*([A-Za-zµ$][\w/$-]*)?\s*"
_RANGE = re.compile(rf"{_END}:{_END}:\s*([-+]?[0-9]+)\s*(?::\s*(log|lin)\s*)?")
_LIKE_RANGE = re.compile(rf"\s*{_NUMBER}[^:]*:.*")
_FORM = "a range is from:to:count, as in 0:40:11, or from:to:count:log"


@dataclass(frozen=True)
class Axis:
    """A key and its values, at least one, no two alike."""

    key: str
    values: tuple[str, ...]


def parse_vary(flags: Sequence[str]) -> tuple[Axis, ...]:
    """Axes of `--vary key=values` flags; an `InputError` with the problems of all of them."""
    axes: list[Axis] = []
    problems: list[Problem] = []
    for flag in flags:
        key, equals, text = flag.partition("=")
        key, place = key.strip(), f"--vary {flag}"
        if not equals or not key:
            message = "write a key, '=' and values, as in train.comm_sms=8,20"
            problems.append(Problem(place, "", message))
        elif key in (axis.key for axis in axes):
            problems.append(Problem(place, key, "is varied twice; give all its values at once"))
        else:
            try:
                axes.append(parse_axis(key, text, place))
            except InputError as error:
                problems += error.problems
    if problems:
        raise InputError(problems)
    return tuple(axes)


def parse_axis(key: str, given: str | Sequence[Any], place: str) -> Axis:
    """The axis of a key, from text as on the command line or a list as in a file."""
    if isinstance(given, str):
        items = _split(given)
    else:
        items = [item if isinstance(item, str) else json.dumps(item) for item in given]
    if not any(item.strip() for item in items):
        raise InputError([Problem(place, key, f"has no values; give some: a,b,c ({_FORM})")])
    values: list[str] = []
    for item in items:
        try:
            values += _expand(item.strip()) if isinstance(given, str) else [item.strip()]
        except ValueError as error:
            raise InputError([Problem(place, key, str(error))]) from None
    return Axis(key, tuple(dict.fromkeys(values)))


def points(axes: Sequence[Axis]) -> Iterator[dict[str, str]]:
    """Every combination of values, the last axis running fastest."""
    keys = [axis.key for axis in axes]
    for values in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip(keys, values, strict=True))


def count_points(axes: Sequence[Axis]) -> int:
    """Number of combinations; an `InputError` if there is nothing or too much to do."""
    if not axes:
        message = "varies nothing; give --vary key=a,b,c, or a sweep: section in the scenario"
        raise InputError([Problem("", "", f"the sweep {message}")])
    count = math.prod(len(axis.values) for axis in axes)
    if count > MAX_POINTS:
        product = " x ".join(str(len(axis.values)) for axis in axes)
        message = f"{product} = {count:,} points; a sweep has at most {MAX_POINTS:,}"
        raise InputError([Problem("--vary", "", message)])
    return count


def merged(own: Sequence[Axis], flags: Sequence[Axis], fixed: Mapping[str, str]) -> list[Axis]:
    """A scenario's own axes with those of flags in their place, and without what `--set` fixes."""
    by_key = {axis.key: axis for axis in own if axis.key not in fixed}
    return list((by_key | {axis.key: axis for axis in flags}).values())


def parse_shard(text: str | None) -> tuple[int, int]:
    """`i/n` as (i modulo n, n): shards may be counted from 0 or from 1."""
    if text is None:
        return 0, 1
    first, slash, last = text.partition("/")
    if not slash or not first.strip().isdecimal() or not last.strip().isdecimal():
        raise _bad_shard(text)
    number, count = int(first), int(last)
    if count < 1 or number > count:
        raise _bad_shard(text)
    return number % count, count


def _bad_shard(text: str) -> InputError:
    message = "must be number/count, such as 3/8: one of 8 shards, counted from 0 or from 1"
    return InputError([Problem(f"--shard {text}", "", message)])


def _split(text: str) -> list[str]:
    """Cut at commas outside brackets and quotes."""
    items, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        depth += (sign in "[{") - (sign in "]}") if not quote else 0
        if sign == "," and depth == 0 and not quote:
            items.append("")
        else:
            items[-1] += sign
    return items


def _expand(item: str) -> list[str]:
    """The values of one item; `ValueError` says why there are none."""
    if not item:
        raise ValueError("an empty value between commas; write null for an empty one")
    match = _RANGE.fullmatch(item)
    if match is None:
        if _LIKE_RANGE.fullmatch(item):
            raise ValueError(f"is {item!r}; {_FORM}")
        return [item]
    low, high, count = float(match[1]), float(match[3]), int(match[5])
    units = dict.fromkeys(unit for unit in (match[2], match[4]) if unit)
    if len(units) > 1:
        raise ValueError(f"is {item!r}; both ends of a range must have the same unit")
    if count < 1:
        raise ValueError(f"is {item!r}, an empty range: it has {count} values; {_FORM}")
    if low > high:
        raise ValueError(f"is {item!r}, an empty range: {match[1]} is more than {match[3]}")
    if (count == 1) != (low == high):
        raise ValueError(f"is {item!r}; {count} value(s) do not go from {match[1]} to {match[3]}")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"is {item!r}; both ends must be finite")
    if match[6] == "log" and low <= 0:
        raise ValueError(f"is {item!r}; equal ratios need ends above 0")
    if count > MAX_POINTS:
        raise ValueError(f"is {item!r}; a sweep has at most {MAX_POINTS:,} points")
    unit = next((f" {unit}" for unit in units), "")
    return [_text(value) + unit for value in _spaced(low, high, count, match[6] == "log")]


def _spaced(low: float, high: float, count: int, log: bool) -> list[float]:
    if count == 1:
        return [low]
    steps = [i / (count - 1) for i in range(count)]
    if log:
        return [low * (high / low) ** step for step in steps]
    return [low + (high - low) * step for step in steps]


def _text(value: float) -> str:
    """Twelve digits, so that rounding leaves no trace; whole numbers without a point."""
    rounded = float(f"{value:.12g}")
    return str(int(rounded)) if rounded.is_integer() and abs(rounded) < 1e15 else repr(rounded)
