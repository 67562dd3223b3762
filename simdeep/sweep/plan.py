"""The points of a sweep, each resolved and named by a hash of everything its answer rests on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simdeep.errors import InputError, Problem
from simdeep.spec.messages import UNKNOWN_KEY
from simdeep.spec.resources import find_resource
from simdeep.spec.scenario import Files, load_training
from simdeep.spec.scenario_schema import Sweep
from simdeep.spec.validate import Reporter, Source, check_fields
from simdeep.spec.yamlio import load_document
from simdeep.sweep.axes import Axis, parse_axis, points
from simdeep.sweep.evaluate import reason_of

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario


@dataclass(frozen=True)
class Point:
    """A combination of values. `reason` says why it is illegal; empty if it can be simulated."""

    values: dict[str, str]
    key: str
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """A scenario and what is varied in it; its files are read once, for all points alike."""

    path: str
    sets: Mapping[str, str]
    axes: tuple[Axis, ...]
    files: Files = field(default_factory=Files, repr=False)
    _kept: dict[str, Scenario] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The scenario's name."""
        return Path(self.path).stem

    def scenario(self, values: Mapping[str, str]) -> Scenario:
        """The scenario at a point; `InputError` if it is illegal."""
        return load_training(self.path, {**self.sets, **values}, self.files)

    def resolved(self, point: Point) -> Scenario:
        """The scenario of a legal point, given out once."""
        return self._kept.pop(point.key, None) or self.scenario(point.values)

    def points(self, shard: int = 0, shards: int = 1) -> list[Point]:
        """Every `shards`-th point from the `shard`-th on, resolved.

        Raises:
            InputError: a varied key does not exist, or no point is legal.
        """
        chosen = [v for i, v in enumerate(points(self.axes)) if i % shards == shard]
        problems: dict[Problem, None] = {}
        found = []
        for values in chosen:
            try:
                scenario = self.scenario(values)
                found.append(Point(values, scenario.fingerprint))
                if len(self._kept) < _KEPT:
                    self._kept[scenario.fingerprint] = scenario
            except InputError as error:
                self._refuse_unknown_keys(error)
                problems |= dict.fromkeys(self._named(error))
                reason = reason_of(error)
                found.append(Point(values, self._illegal_key(values, reason), reason))
        if found and all(point.reason for point in found) and shards == 1:
            raise InputError(list(problems)[:_SHOWN])
        return found

    def _illegal_key(self, values: Mapping[str, str], reason: str) -> str:
        """A key for what has no resolved form: the values and what is wrong with them."""
        content = {"set": dict(self.sets), "values": dict(values), "reason": reason}
        text = json.dumps([self.name, content], sort_keys=True)
        return "illegal-" + hashlib.sha256(text.encode()).hexdigest()

    def _refuse_unknown_keys(self, error: InputError) -> None:
        problems = [p for p in self._named(error) if p.message.startswith(UNKNOWN_KEY)]
        if problems:
            raise InputError(problems)

    def _named(self, error: InputError) -> Iterable[Problem]:
        """Problems whose place is the flag as the user wrote it: the axis, not the point."""
        for problem in error.problems:
            place = problem.place
            for axis in self.axes:
                if place.startswith(f"--set {axis.key}=") and axis.key not in self.sets:
                    place = f"--vary {axis.key}"
            yield Problem(place, problem.key, problem.message)


_KEPT = 5000
"""Scenarios kept from planning to computing; more would take too much memory."""

_SHOWN = 12
"""Problems that are listed where no point is legal."""


def own_sweep(path_or_name: str) -> tuple[Sweep, tuple[Axis, ...]]:
    """The `sweep:` section of a scenario file and its axes; both empty if it has none."""
    path = find_resource("scenarios", path_or_name)
    document = load_document(path)
    raw: Any = document.data.get("sweep") if isinstance(document.data, dict) else None
    if not isinstance(raw, dict):  # anything else is refused with the rest of the file
        return Sweep(), ()
    report = Reporter(Source(document))
    section = check_fields(_Holder, {"sweep": raw}, report).sweep
    if report.problems:
        raise InputError(report.problems)
    axes: list[Axis] = []
    problems: list[Problem] = []
    for key, given in section.vary.items():
        try:
            axes.append(parse_axis(key, given, document.place(("sweep", "vary", key))))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return section, tuple(axes)


class _Holder(Sweep.__base__):  # type: ignore[name-defined,misc]
    """A file as far as its sweep goes."""

    sweep: Sweep = Sweep()


def unique(found: Sequence[Point]) -> list[Point]:
    """The first point of each key: values that change nothing are computed once."""
    by_key: dict[str, Point] = {}
    for point in found:
        by_key.setdefault(point.key, point)
    return list(by_key.values())
