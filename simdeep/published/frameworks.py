"""Frameworks: how each one trains where a run's source says nothing of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from simdeep.errors import InputError, Problem
from simdeep.published.cases import Case

FOLDER = Path(__file__).resolve().parent.parent / "data" / "frameworks"


@dataclass(frozen=True, slots=True)
class Fitted:
    """One number fitted on the fit half of the runs: its value, and what it stands for."""

    value: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Habit:
    """Scenario keys of the runs whose `field` has, or lacks, something that matches `pattern`."""

    field: str
    pattern: str
    lacks: bool
    layout: Mapping[str, Any]
    train: Mapping[str, Any]

    def holds(self, case: Case) -> bool:
        """Whether a run is one of them."""
        found = re.search(self.pattern, str(getattr(case, self.field)))
        return (found is None) == self.lacks


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework's habits as scenario keys.

    `layout` and `train` hold in all its runs, `where` in some; `unstated` gives what a run's source
    may leave open.
    `fitted` are scenario keys of `train` whose values were fitted, at most three. `calibration`
    names, by GPU file, the rates of the kernel libraries it had.
    """

    id: str
    name: str
    runs: tuple[str, ...]
    source: str
    layout: Mapping[str, Any]
    train: Mapping[str, Any]
    unstated: Mapping[str, Any]
    fitted: Mapping[str, Fitted]
    calibration: Mapping[str, str]
    where: tuple[Habit, ...] = ()

    def layout_of(self, case: Case) -> dict[str, Any]:
        """Its keys of `layout` for a run."""
        return self._merged(case, "layout")

    def train_of(self, case: Case) -> dict[str, Any]:
        """Its keys of `train` for a run."""
        return self._merged(case, "train")

    def _merged(self, case: Case, section: str) -> dict[str, Any]:
        found = dict(getattr(self, section))
        for habit in self.where:
            if habit.holds(case):
                found |= getattr(habit, section)
        return found


@cache
def frameworks() -> tuple[Framework, ...]:
    """All shipped frameworks."""
    return tuple(_read(path) for path in sorted(FOLDER.glob("*.yaml")))


def framework_of(case: Case) -> Framework | None:
    """The framework of a run: the one with the longest prefix of its id."""
    found = [
        (len(prefix), framework)
        for framework in frameworks()
        for prefix in framework.runs
        if case.id.startswith(prefix)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _habit(item: Mapping[str, Any]) -> Habit:
    lacks = "lacks" in item
    pattern = item["lacks" if lacks else "has"]
    return Habit(item["field"], pattern, lacks, item.get("layout", {}), item.get("train", {}))


def _read(path: Path) -> Framework:
    from simdeep.spec.yamlio import load_document

    data: Any = load_document(path).data
    try:
        fitted = {
            key: Fitted(float(item["value"]), str(item["meaning"]))
            for key, item in data.get("fitted", {}).items()
        }
        return Framework(
            id=path.stem,
            name=data["name"],
            runs=tuple(data["runs"]),
            source=data["source"],
            layout=data["layout"],
            train=data["train"],
            unstated=data["unstated"],
            fitted=fitted,
            calibration=data.get("calibration", {}),
            where=tuple(_habit(item) for item in data.get("where", ())),
        )
    except (KeyError, TypeError, AttributeError) as error:
        message = f"not a framework file: {error}"
        raise InputError([Problem(str(path), "", message)]) from None
