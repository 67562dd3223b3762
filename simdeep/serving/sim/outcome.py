"""What a request simulation gives: one record a request, samples of the state, sums by unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from simdeep.errors import SimdeepError
from simdeep.serving.sim.fleet import F64, I64, Fleet, Requests, State

RECORD = ("begun_ns", "first_ns", "finish_ns", "delivered", "hit_tokens", "preempted", "redone")
"""Columns of a record: first work on its prompt, first and last token (-1: not yet), tokens it got,
cached tokens it found at first, how often it lost its place to others and its KV to a failure."""

COUNTERS = ("new_tokens", "prompt_tokens", "output_tokens", "moved_tokens", "loaded_tokens")
"""Sums since the start: prompt tokens computed (again ones too), prompt tokens of first answers
(cached ones too), tokens generated, tokens of KV moved and read from the prefix cache."""

BY_KIND = ("kv_tokens", "powered", "busy_ns", "powered_ns", "iterations")
"""Sampled by kind of unit: KV tokens held, units paid for, and sums since the start."""

SAMPLES = ("at_ns", *(state.name.lower() for state in State), *COUNTERS)
"""Columns of a sample; `BY_KIND` of each kind of unit follow."""

UNIT = ("busy_ns", "powered_ns", "iterations", "stalled_ns", "failures")
"""Whole numbers summed over a unit's life."""

UNIT_SECONDS = ("balance_ns", "prompt_ns")
"""Time of a unit's mean rank while the slowest decided, and of its iterations due to prompts."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of a run; equal for both engines.

    Attributes:
        fleet: what was run.
        requests: what arrived.
        end_ns: when the run ended.
        records: [requests, RECORD].
        samples: [samples, SAMPLES and BY_KIND for each kind].
        units: [units, UNIT].
        unit_ns: [units, UNIT_SECONDS], nanoseconds.
        area_ns: [states], time-integral of the number of requests in each state.
        gaps: histogram of gaps between a request's tokens while they were measured.
        engine: which engine.
        wall_s: how long it took.
    """

    fleet: Fleet
    requests: Requests
    end_ns: int
    records: I64
    samples: I64
    units: I64
    unit_ns: F64
    area_ns: I64
    gaps: I64
    engine: str
    wall_s: float

    def record(self, name: str) -> I64:
        """One column of the records."""
        return self.records[:, RECORD.index(name)]

    def sample(self, name: str, kind: int | None = None) -> I64:
        """One column of the samples, of a kind of unit if it is kept by kind."""
        if kind is None:
            return self.samples[:, SAMPLES.index(name)]
        return self.samples[:, len(SAMPLES) + kind * len(BY_KIND) + BY_KIND.index(name)]

    def unit(self, name: str) -> I64:
        """One column of the sums by unit."""
        return self.units[:, UNIT.index(name)]

    def frame(self) -> pd.DataFrame:
        """One row a request: what arrived and what it got, times in nanoseconds."""
        given = self.requests
        columns = {
            "arrival_ns": given.arrival_ns,
            "input_tokens": given.input_tokens,
            "output_tokens": given.output_tokens,
        }
        return pd.DataFrame(columns | {name: self.record(name) for name in RECORD})


def check(outcome: Outcome) -> None:
    """Hold a run to what must be true of every run.

    Raises:
        SimdeepError: a token lost or made twice, a unit busy for longer than it was there, or
            Little's law broken; or requests that nothing moves any more.
    """
    given, done = outcome.requests, outcome.record("finish_ns") >= 0
    got = outcome.record("delivered")
    if (got[done] != given.output_tokens[done]).any() or (got > given.output_tokens).any():
        raise SimdeepError("a finished request has not got each of its tokens once")
    made = int((got - given.delivered).sum())
    if made != outcome.samples[-1, SAMPLES.index("output_tokens")]:
        raise SimdeepError("tokens generated and tokens delivered differ")
    if (outcome.unit("busy_ns") > outcome.unit("powered_ns")).any():
        raise SimdeepError("a unit was busy for longer than it was switched on")
    # Iterations are rounded to nanoseconds, the parts of their ranks are not.
    rounding = outcome.unit("iterations") + 1
    if (outcome.unit("busy_ns") + rounding < outcome.unit_ns.T).any():
        raise SimdeepError("the ranks of a unit were busy for longer than the unit")
    left = np.where(done, outcome.record("finish_ns"), outcome.end_ns)
    arrived = given.arrival_ns <= outcome.end_ns
    stayed = int((left - given.arrival_ns)[arrived].sum())
    inside = int(outcome.area_ns[State.BACKLOG : State.DONE].sum())
    if stayed != inside:
        raise SimdeepError(f"Little's law is broken: {stayed} ns stayed, {inside} ns counted")
    if not done.all() and outcome.end_ns < outcome.fleet.end_ns:
        states = outcome.samples[-1, 1 : 1 + len(State)]
        where = ", ".join(f"{n} {s.name.lower()}" for s, n in zip(State, states, strict=True) if n)
        raise SimdeepError(f"the simulation is stuck: nothing moves any more ({where})")
