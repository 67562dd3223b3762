"""`simulate_serving(scenario)`: requests through a deployment, and what comes out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from simdeep.errors import InputError, Problem
from simdeep.serving.fleets import Kinds, check_fits, fleet_of, kinds_of, with_prefixes
from simdeep.serving.hours import HOUR, mean_load, stretches, switched, with_changes
from simdeep.serving.limits import find_limit
from simdeep.serving.metrics import figures, gaps, sampling_errors
from simdeep.serving.requests import read_trace
from simdeep.serving.results import Figures, Run, ServeResult
from simdeep.serving.scaling import rows_in_flight, seconds_of
from simdeep.serving.sim.fleet import NEVER, Fleet, Requests
from simdeep.serving.sim.outcome import Outcome, check
from simdeep.serving.windows import (
    NS,
    Window,
    draw_requests,
    rows_at_start,
    span_of,
    trace_requests,
    with_rows,
)

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario

Progress = Callable[[int, int], None]

PILOT_NS = 8_000_000_000
"""Length of the run that says how even ranks are."""


def simulate_serving(
    scenario: ServeScenario, progress: Progress | None = None, kinds: Kinds | None = None
) -> ServeResult:
    """Simulate a scenario's traffic on its deployment.

    Args:
        scenario: what the user asks for.
        progress: takes (windows done, of all).
        kinds: the scenario's units, if priced already.

    Raises:
        InputError: no traffic, a bad trace, lengths that no unit can hold, too short a window.
    """
    if scenario.traffic is None:
        raise InputError("a request simulation needs traffic; the scenario has none")
    kinds = kinds or kinds_of(scenario)
    windows = plan_windows(scenario, kinds)
    runs = run_windows(scenario, kinds, windows, progress)
    result = result_of(scenario, kinds, with_changes(scenario, runs))
    if min(result.figures.input_tokens_per_s, result.figures.output_tokens_per_s) == 0:
        text = "no prompt is answered in the time that is measured: lengthen window.duration"
        raise InputError([Problem("", "window.duration", text)])
    return result


def result_of(scenario: ServeScenario, kinds: Kinds, runs: Sequence[Run]) -> ServeResult:
    """Everything that runs say."""
    given = (kinds, scenario.slo, scenario.usd_per_gpu_hour, scenario.topology.gpus_per_node)
    whole = figures(runs, *given)
    hours: tuple[Figures | None, ...] = ()
    if len(runs) > 1:
        hours = tuple(None if r.outcome is None else figures([r], *given) for r in runs)
    return ServeResult(
        scenario=scenario,
        kinds=kinds,
        runs=tuple(runs),
        figures=whole,
        by_hour=hours,
        errors=sampling_errors(runs, *given),
        gap_s=gaps(runs),
        limit=find_limit(whole, tuple(runs), kinds, scenario.slo),
        peak_units={role: max(run.window.units[role] for run in runs) for role in kinds.kinds},
    )


def plan_windows(scenario: ServeScenario, kinds: Kinds) -> tuple[Window, ...]:
    """The windows to simulate, with the units that serve in each."""
    traffic = scenario.traffic
    assert traffic is not None
    start, stop, end = span_of(scenario)
    every = {role: kind.units for role, kind in kinds.kinds.items()}
    if not scenario.window.day:
        return (Window(None, traffic.rate or 0.0, every, None, start, stop, end, 0),)
    if end == NEVER:
        raise InputError("window.day samples hours; it goes with neither a trace nor a number")
    rates = [(traffic.rate or 0.0) * share for share in traffic.by_hour]
    windows = []
    for number, part in enumerate(stretches(scenario, kinds, rates)):
        stands = (part.stop - part.start) * HOUR
        phase = (int(part.start) + 0.5) / len(rates)
        windows.append(
            Window(part.start, part.rate, part.units, stands, start, stop, end, number, phase)
        )
    return tuple(windows)


def run_windows(
    scenario: ServeScenario,
    kinds: Kinds,
    windows: Sequence[Window],
    progress: Progress | None = None,
) -> list[Run]:
    """Simulate windows, side by side on the machine's cores."""
    done = 0
    runs: list[Run] = []
    workers = min(len(windows), os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for run in pool.map(lambda window: run_window(scenario, kinds, window), windows):
            runs.append(run)
            done += 1
            if progress is not None:
                progress(done, len(windows))
    return runs


def run_window(scenario: ServeScenario, kinds: Kinds, window: Window) -> Run:
    """Simulate one window and hold it to what must be true of every run."""
    traffic = scenario.traffic
    assert traffic is not None
    if traffic.arrival == "trace":
        assert scenario.trace_file is not None
        trace = read_trace(scenario.trace_file, scenario.max_context)
        requests = trace_requests(scenario, trace, window)
        fleet = fleet_of(scenario, kinds, window, _span(window, requests))
        fleet = with_prefixes(scenario, fleet) if trace.has_prefixes else fleet
    else:
        if window.rate == 0:
            return _idle(window)
        requests = draw_requests(scenario, window)
        if requests.n == 0:
            return _idle(window)
        fleet = fleet_of(scenario, kinds, window, _span(window, requests))
        fleet, requests = _follow_hours(scenario, kinds, window, fleet, requests)
    check_fits(kinds, requests)
    outcome = _engine(scenario)(fleet, requests)
    check(outcome)
    return Run(window, outcome)


def _idle(window: Window) -> Run:
    """A window in which nothing arrives; its units are paid for."""
    stands = HOUR if window.stands_for_s is None else window.stands_for_s
    return Run(window, None, {role: count * stands for role, count in window.units.items()})


def _engine(scenario: ServeScenario) -> Callable[[Fleet, Requests], Outcome]:
    if scenario.simulate.engine == "reference":
        from simdeep.serving.sim import reference

        return reference.run
    from simdeep.serving.sim import compiled

    return compiled.run


def _span(window: Window, requests: Requests) -> int:
    """About how long a window takes (ns)."""
    if window.end_ns < NEVER:
        return window.end_ns
    return int(requests.arrival_ns[-1]) + int(60 * NS)


def _follow_hours(
    scenario: ServeScenario, kinds: Kinds, window: Window, fleet: Fleet, requests: Requests
) -> tuple[Fleet, Requests]:
    """Let a window begin as it goes on: with rows in its units; and units follow the hours."""
    traffic, scale = scenario.traffic, scenario.autoscale
    assert traffic is not None
    units, rate = dict(window.units), window.rate
    if window.hour is None and traffic.by_hour:
        span = _span(window, requests)
        hours = np.resize(np.array(traffic.by_hour), int(span / NS // HOUR) + 1)
        last = span / NS - HOUR * (len(hours) - 1)
        mean = (hours[:-1].sum() * HOUR + hours[-1] * last) / (span / NS)
        rates = window.rate * hours / mean
        rate = float(rates[0])
        if scale is not None:
            course = stretches(scenario, kinds, rates.tolist())
            fleet, units = switched(fleet, kinds, course), course[0].units
    if window.end_ns == NEVER:
        return fleet, requests
    return fleet, _with_rows(scenario, kinds, window, fleet, requests, units, rate)


def _with_rows(
    scenario: ServeScenario,
    kinds: Kinds,
    window: Window,
    fleet: Fleet,
    requests: Requests,
    units: dict[str, int],
    rate: float,
) -> Requests:
    """Requests with the rows that units have in the long run, so that no window starts empty.

    Their number follows from Little's law. How much longer an iteration takes than one in which all
    ranks do the same is found by a short run, and the number corrected by it.
    """
    role = "decode" if "decode" in kinds.kinds else "mixed"
    index, kind, load = list(kinds.kinds).index(role), kinds.kinds[role], mean_load(scenario, rate)
    seed = [scenario.simulate.seed, window.seed, 5]
    rows = rows_in_flight(kind, units[role], load)

    def started(count: int) -> Requests:
        return with_rows(requests, rows_at_start(scenario, count, np.random.default_rng(seed)))

    if rows == 0 or window.end_ns < 2 * PILOT_NS:
        return started(rows)
    pilot = _engine(scenario)(replace(fleet, end_ns=PILOT_NS), started(rows))
    mine = fleet.kind_of() == index
    iterations = float(pilot.unit("iterations")[mine].sum())
    mean_s = pilot.unit("busy_ns")[mine].sum() / NS / max(iterations, 1.0)
    alike_s = seconds_of(kind, 0, rows / (units[role] * kind.ranks), load.row_context)
    return started(rows_in_flight(kind, units[role], load, max(1.0, mean_s / alike_s)))
