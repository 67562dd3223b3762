"""Units by the time of day: as they are planned, or as many as each hour's load needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from simdeep.serving.fleets import ROLES, Kinds
from simdeep.serving.results import Run
from simdeep.serving.scaling import Load, load_of, scaled_units, started_units, units_needed
from simdeep.serving.sim.fleet import Event, Fleet, Role, Timed
from simdeep.serving.windows import NS, draw_lengths

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario
    from simdeep.spec.serve_schema import Autoscale

HOUR = 3600.0
_POOL = 100_000
"""Draws of lengths behind the mean load."""


@dataclass(frozen=True)
class Stretch:
    """Part of the time in which neither the rate of arrivals (1/s) nor the units change.

    `start` and `stop` are hours from midnight on; they may go beyond 24.
    """

    start: float
    stop: float
    rate: float
    units: dict[str, int]


def mean_load(scenario: ServeScenario, rate: float) -> Load:
    """What a second of the scenario's traffic asks for at a rate."""
    traffic = scenario.traffic
    assert traffic is not None
    rng = np.random.default_rng([scenario.simulate.seed, 11])
    inputs, outputs = (part.astype(float) for part in draw_lengths(scenario, _POOL, rng))
    return load_of(rate, inputs, outputs, traffic.cached_share * inputs)


def stretches(scenario: ServeScenario, kinds: Kinds, rates: Sequence[float]) -> tuple[Stretch, ...]:
    """The course of units and arrivals over hours of these rates, from midnight on."""
    found = []
    for hour, rate in enumerate(rates):
        starts = [float(hour), *_changes_within(scenario, hour)]
        for start, stop in zip(starts, [*starts[1:], hour + 1.0], strict=True):
            found.append(Stretch(start, stop, rate, units_at(scenario, kinds, start, rate)))
    return tuple(found)


def _changes_within(scenario: ServeScenario, hour: int) -> list[float]:
    plan = scenario.autoscale.plan if scenario.autoscale else ()
    whole = hour - hour % 24
    return [whole + step.hour for step in plan if hour % 24 < step.hour < hour % 24 + 1]


def units_at(scenario: ServeScenario, kinds: Kinds, hour: float, rate: float) -> dict[str, int]:
    """Units of each role that serve at an hour, when so many requests arrive a second."""
    scale = scenario.autoscale
    if scale is None:
        return {role: kind.units for role, kind in kinds.kinds.items()}
    needed = dict.fromkeys(kinds.by_role(), 0.0)
    if rate > 0:
        load = mean_load(scenario, rate)
        needed = units_needed(kinds.by_role(), load, scenario.slo.tpot, scale.headroom)
    planned = _planned(scale, hour % 24)
    return {
        role: planned.get(role) or scaled_units(scale, kind, needed[ROLES[role]])
        for role, kind in kinds.kinds.items()
    }


def _planned(scale: Autoscale, hour: float) -> dict[str, int]:
    """Units by role, of those that the plan names at an hour."""
    if not scale.plan:
        return {}
    # Before the day's first step the last one of the day before holds.
    step = max(scale.plan, key=lambda s: (s.hour <= hour, s.hour))
    return {role: units for role in ROLES if (units := getattr(step, role)) is not None}


def switched(fleet: Fleet, kinds: Kinds, course: Sequence[Stretch]) -> Fleet:
    """The fleet with units switched on and off as the hours go."""
    timed = list(fleet.timed)
    for before, now in pairwise(course):
        first = 0
        for role, kind in kinds.kinds.items():
            one, other = before.units[role], now.units[role]
            at = int(now.start * HOUR * NS)
            for i in range(min(one, other), max(one, other)):
                timed.append(Timed(at, Event.SCALE, first + i, other > one))
            first += kind.units
    chosen = tuple(
        replace(kind, first_on=course[0].units[role])
        for kind, role in zip(fleet.kinds, kinds.kinds, strict=True)
    )
    return replace(fleet, kinds=chosen, timed=tuple(sorted(timed, key=lambda t: t.at_ns)))


def with_changes(scenario: ServeScenario, runs: Sequence[Run]) -> list[Run]:
    """Runs of a day with what changes between their hours cost: units that start, or empty.

    A unit is paid for while it starts, and after its hour until its last answer is written, for
    which the 99th percentile of answers' times stands. What a plan names it has with both included.
    """
    scale = scenario.autoscale
    if scale is None or len(runs) < 2:
        return list(runs)
    changed = []
    for i, run in enumerate(runs):
        extra = dict(run.extra_unit_s)
        for role in run.window.units:
            if role in _planned(scale, run.window.hour or 0.0):
                continue
            counts = [other.window.units[role] for other in runs]
            started = started_units(counts)[i]
            stopped = max(0, counts[i - 1] - counts[i])
            extra[role] = extra.get(role, 0.0) + started * scale.start
            if run.outcome is not None and ROLES[role] is not Role.PREFILL:
                finished = run.outcome.record("finish_ns") >= 0
                stay = (run.outcome.record("finish_ns") - run.outcome.record("first_ns"))[finished]
                p99 = float(np.percentile(stay, 99)) / NS if len(stay) else 0.0
                extra[role] += stopped * p99
        changed.append(replace(run, extra_unit_s=extra))
    return changed
