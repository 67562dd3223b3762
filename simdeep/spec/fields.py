"""Typed reading of a configuration's keys that goes on after a problem and keeps them all."""

from __future__ import annotations

from typing import Any

from simdeep.errors import Problem
from simdeep.spec.resources import nearest
from simdeep.spec.yamlio import Document

MAX_SIZE = 2**31 - 1


class Fields:
    """Reads the keys of one document, collecting problems instead of stopping.

    A reader that fails returns its lowest valid value, so that the caller can go on; `check` keeps
    silent about rules that involve such a key. A key that is absent or null takes its default; one
    without a default is then a problem.
    """

    def __init__(self, doc: Document) -> None:
        self.doc = doc
        self.data: dict[str, Any] = doc.data if isinstance(doc.data, dict) else {}
        self.problems: list[Problem] = []
        self._bad: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.data.get(key) is not None

    def add(self, key: str, message: str) -> None:
        """Note a problem of a key, once for each key and message."""
        self._bad.add(key)
        place = self.doc.place((key,)) if key in self.data else str(self.doc.path)
        problem = Problem(place, key, message)
        if problem not in self.problems:
            self.problems.append(problem)

    def integer(
        self, key: str, default: int | None = None, low: int = 1, high: int = MAX_SIZE
    ) -> int:
        """A whole number from `low` to `high`."""
        if not self.has(key) and default is not None:
            return default
        rule = f"must be a whole number from {low} to {high}"
        value = self._present(key, rule)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self._wrong(key, value, rule)
        return low

    def number(self, key: str, default: float) -> float:
        """A positive number."""
        if not self.has(key):
            return default
        value = self.data[key]
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e300:
            return float(value)
        self._wrong(key, value, "must be a positive number")
        return default

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._wrong(key, value, "must be true or false")
            return default
        return value

    def choice(self, key: str, valid: tuple[str, ...], default: str) -> str:
        """One of some words."""
        value = self.data.get(key)
        if value is None:
            return default
        if value not in valid:
            near = nearest(value, valid) if isinstance(value, str) else None
            hint = f"; did you mean {near!r}?" if near else ""
            self._wrong(key, value, f"must be one of {', '.join(valid)}{hint}")
            return default
        return str(value)

    def integers(self, key: str) -> frozenset[int]:
        """A list of whole numbers from 0, empty if absent."""
        value = self.data.get(key)
        if value is None:
            return frozenset()
        if not isinstance(value, list) or not all(
            isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value
        ):
            self._wrong(key, value, "must be a list of whole numbers from 0")
            return frozenset()
        return frozenset(value)

    def check(self, ok: bool, key: str, *others: str, rule: str) -> None:
        """Note that `key` breaks a rule, unless it or one of the others is already in trouble."""
        if not ok and not self._bad.intersection((key, *others)):
            self.add(key, f"{self.data.get(key)!r}, {rule}")

    def _present(self, key: str, rule: str) -> Any:
        value = self.data.get(key)
        if value is None and key not in self._bad:
            near = nearest(key, tuple(self.data), cutoff=0.9)
            hint = f"; did you mean it by {near!r}?" if near and near != key else ""
            word = "null" if key in self.data else "missing"
            self.add(key, f"{word}, {rule}{hint}")
        return value

    def _wrong(self, key: str, value: Any, rule: str) -> None:
        if value is not None:
            shown = repr(value)
            self.add(key, f"{shown if len(shown) <= 60 else shown[:57] + '...'}, {rule}")
