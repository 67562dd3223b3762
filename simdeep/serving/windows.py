"""What is simulated of the traffic: one window, a trace, or a window of every hour of the day."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simdeep.errors import InputError, Problem
from simdeep.serving.requests import LengthLaw, Trace, arrival_times
from simdeep.serving.requests.lengths import TAIL
from simdeep.serving.sim.fleet import I32, NEVER, Requests

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario

NS = 1e9
GRACE = 0.25
"""Arrivals go on behind what is measured for so much of it, so that its end sees the same load."""
SLICES = 8
"""Parts of a window whose spread tells the sampling error."""


@dataclass(frozen=True)
class Window:
    """A stretch of traffic.

    Attributes:
        hour: of the day at which it begins, None if the traffic has no hours.
        rate: requests a second (0 with a trace).
        units: units of each role that serve.
        stands_for_s: seconds of the day this window stands for, None for itself.
        start_ns: of what is measured.
        stop_ns: of what is measured; `NEVER` for as long as it takes.
        end_ns: of the simulation.
        seed: of its draws.
        phase: where between two placements of experts it begins, from 0 to 1.
    """

    hour: float | None
    rate: float
    units: Mapping[str, int]
    stands_for_s: float | None
    start_ns: int
    stop_ns: int
    end_ns: int
    seed: int
    phase: float = 0.0


def span_of(scenario: ServeScenario) -> tuple[int, int, int]:
    """Where a window measures from and to, and where it ends (ns).

    A trace runs from its start to its end unless the scenario says otherwise; so does a window
    that says how many requests it has.
    """
    window, traffic = scenario.window, scenario.traffic
    assert traffic is not None
    given = window.model_fields_set
    own_end = traffic.arrival == "trace" or window.requests is not None
    warmup = 0.0 if own_end and "warmup" not in given else window.warmup
    start = int(warmup * NS)
    if own_end and "duration" not in given:
        return start, NEVER, NEVER
    stop = start + int(window.duration * NS)
    return start, stop, stop + int(GRACE * window.duration * NS)


def draw_requests(scenario: ServeScenario, window: Window) -> Requests:
    """Requests of a window: times, lengths and cached prefixes."""
    traffic = scenario.traffic
    assert traffic is not None
    times, lengths, cached = (
        np.random.default_rng([scenario.simulate.seed, window.seed, part]) for part in range(3)
    )
    end_s = _arrivals_end_s(scenario, window)
    by_hour = traffic.by_hour if window.hour is None else ()
    burstiness = traffic.burstiness if traffic.arrival == "bursty" else 1.0
    arrival = arrival_times(window.rate, end_s, times, burstiness=burstiness, by_hour=by_hour)
    most = scenario.window.requests
    arrival = arrival if most is None else arrival[:most]
    inputs, outputs = draw_lengths(scenario, len(arrival), lengths)
    hits = np.floor(traffic.cached_share * inputs + cached.random(len(arrival))).astype(np.int32)
    return Requests.of(arrival, inputs, outputs, cached_tokens=np.minimum(hits, inputs - 1))


def _arrivals_end_s(scenario: ServeScenario, window: Window) -> float:
    if window.end_ns < NEVER:
        return window.end_ns / NS
    count = scenario.window.requests
    assert count is not None
    traffic = scenario.traffic
    spread = traffic.burstiness if traffic is not None and traffic.arrival == "bursty" else 1.0
    return (count + 8 * math.sqrt(spread * count) + 16) / window.rate


def draw_lengths(scenario: ServeScenario, size: int, rng: np.random.Generator) -> tuple[I32, I32]:
    """Input and output tokens [size], independent; pairs beyond the context are drawn again."""
    traffic = scenario.traffic
    assert traffic is not None
    limit = scenario.max_context
    laws = [
        LengthLaw(law.mean, law.cv, min(law.max or int(TAIL * law.mean) + 1, limit - 1))
        for law in (traffic.input, traffic.output)
    ]
    inputs, outputs = (law.draw(size, rng) for law in laws)
    for _ in range(100):
        wrong = np.flatnonzero(inputs.astype(np.int64) + outputs > limit)
        if wrong.size == 0:
            return inputs, outputs
        inputs[wrong], outputs[wrong] = (law.draw(wrong.size, rng) for law in laws)
    text = f"input and output of these lengths seldom fit the context of {limit} tokens together"
    raise InputError([Problem("", "traffic", text)])


def trace_requests(scenario: ServeScenario, trace: Trace, window: Window) -> Requests:
    """Requests of a trace that arrive before the window's end."""
    traffic = scenario.traffic
    assert traffic is not None
    arrival = (trace.time_s / traffic.speed * NS).astype(np.int64)
    kept = arrival <= window.stop_ns
    if scenario.window.requests is not None:
        kept &= np.arange(len(arrival)) < scenario.window.requests
    arrival, inputs = arrival[kept], trace.input_tokens[kept]
    if arrival[-1] < window.start_ns:
        text = f"the trace ends after {arrival[-1] / NS:g} s, within window.warmup; shorten that"
        raise InputError([Problem(str(trace.path), "", text)])
    if trace.has_prefixes:
        cached = np.zeros(len(arrival), np.int32)
    else:
        cached = np.floor(traffic.cached_share * inputs).astype(np.int32)
    return Requests.of(
        arrival,
        inputs,
        trace.output_tokens[kept],
        cached_tokens=np.minimum(cached, inputs - 1),
        prefix=trace.prefix[kept],
        prefix_tokens=trace.prefix_tokens[kept],
    )


def with_rows(arriving: Requests, rows: Requests) -> Requests:
    """Requests that are rows already when the first others arrive, and those others."""
    columns = {}
    for name in arriving.__dataclass_fields__:
        columns[name] = np.concatenate([getattr(rows, name), getattr(arriving, name)])
    return Requests(**columns)


def rows_at_start(
    scenario: ServeScenario, count: int, rng: np.random.Generator, pool: int = 200_000
) -> Requests:
    """`count` requests caught in the middle of their answers, as a clock finds them.

    Long answers are found more often, in proportion to their length, at any point of it alike.
    """
    inputs, outputs = draw_lengths(scenario, pool, rng)
    weight = np.maximum(outputs - 1, 0).astype(float)
    if count == 0 or weight.sum() == 0:
        empty = np.zeros(0, np.int64)
        return Requests.of(empty, empty, empty)
    chosen = rng.choice(pool, count, p=weight / weight.sum())
    inputs, outputs = inputs[chosen], outputs[chosen]
    delivered = 1 + np.floor(rng.random(count) * (outputs - 1)).astype(np.int32)
    return Requests.of(np.zeros(count, np.int64), inputs, outputs, delivered=delivered)
