"""The compiled engine: the rules of `reference` over flat arrays, equal record for record."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from simdeep.jit import njit
from simdeep.serving.sim import outcome
from simdeep.serving.sim.fleet import I64, NEVER, Event, Fleet, Requests, State
from simdeep.serving.sim.outcome import BY_KIND, COUNTERS, SAMPLES, Outcome
from simdeep.serving.sim.twin_routes import (
    QUEUES_PROMPT,
    hand_over,
    join,
    loaded,
    moved,
    route,
)
from simdeep.serving.sim.twin_state import AREA, COUNT, COUNTER, GAP, State_, build, unschedule
from simdeep.serving.sim.twin_timetable import happen, stop
from simdeep.serving.sim.twin_unit import begin, end

_ARRIVAL, _MOVED = int(Event.ARRIVAL), int(Event.MOVED)
_N_STATES, _N_COUNTERS, _N_BY_KIND = len(State), len(COUNTERS), len(BY_KIND)
_NOTHING = NEVER
_TIMED, _ARRIVES, _HEAP, _STUCK, _FULL, _END = range(6)
_ROOM = 4096
"""Samples taken before the engine asks for more room."""


@njit
def _sample(S: Any, samples: Any, at: int) -> None:
    row = samples[S.g[0].n_samples]
    S.g[0].n_samples += 1
    row[0] = at
    for i in range(_N_STATES):
        row[1 + i] = S.sums[COUNT + i]
    for i in range(_N_COUNTERS):
        row[1 + _N_STATES + i] = S.sums[COUNTER + i]
    for u in range(len(S.u)):
        unit = S.u[u]
        c = 1 + _N_STATES + _N_COUNTERS + unit.kind * _N_BY_KIND
        row[c] += unit.kv
        row[c + 1] += unit.powered
        row[c + 2] += unit.busy_ns + (at - unit.busy_at) * unit.busy
        row[c + 3] += unit.powered_ns + (at - unit.powered_at) * unit.powered
        row[c + 4] += unit.iterations


@njit
def _advance(S: Any, samples: Any, timed_at: int, timed_order: int) -> int:
    """Run until something is to be done outside; returns what.

    Args:
        S: the state.
        samples: room for samples.
        timed_at: time of the timetable's next entry.
        timed_order: its order among the events of that time.
    """
    n, units = S.g[0].n, S.g[0].units
    while S.g[0].finished < n:
        due, order, source = timed_at, timed_order, _TIMED
        at = S.g[0].next_arrival
        if at < n:
            arrival, other = S.q[at].arrival, (_ARRIVAL << 40) + at
            if arrival < due or (arrival == due and other < order):
                due, order, source = arrival, other, _ARRIVES
        if S.g[0].size > 0:
            top = S.e[S.e[0].heap]
            if top.due < due or (top.due == due and top.order < order):
                due, source = top.due, _HEAP
        if due == _NOTHING:
            return _STUCK
        if due > S.g[0].end:
            due, source = S.g[0].end, _END
        while S.g[0].n_samples * S.g[0].sample_ns <= due:
            if S.g[0].n_samples == len(samples):
                return _FULL
            _sample(S, samples, S.g[0].n_samples * S.g[0].sample_ns)
        passed = due - S.g[0].now
        if passed:
            for state in range(_N_STATES):
                S.sums[AREA + state] += S.sums[COUNT + state] * passed
            S.g[0].now = due
        if source == _ARRIVES:
            S.g[0].next_arrival = at + 1
            if S.q[at].done:
                hand_over(S, at)
            else:
                route(S, at)
        elif source == _HEAP:
            entity = S.e[0].heap
            unschedule(S, entity)
            if entity >= n + units:
                begin(S, entity - n - units)
            elif entity >= n:
                end(S, entity - n)
            elif S.q[entity].event == _MOVED:
                moved(S, entity)
            elif S.q[entity].after == QUEUES_PROMPT:
                loaded(S, entity)
            else:
                join(S, entity)
        else:
            return source
    return _END


def run(fleet: Fleet, requests: Requests) -> Outcome:
    """Run requests through a fleet. Compiling counts for `wall_s`, the first time."""
    began = time.perf_counter()
    S: State_ = build(fleet, requests)
    width = len(SAMPLES) + len(fleet.kinds) * len(BY_KIND)
    samples = np.zeros((_ROOM, width), np.int64)
    timed = iter(fleet.timed)
    entry, place, what = next(timed, None), 0, _FULL
    while what in (_FULL, _TIMED):
        at, order = (_NOTHING, 0) if entry is None else (entry.at_ns, (entry.event << 40) + place)
        what = int(_advance(S, samples, at, order))
        if what == _FULL:
            samples = np.concatenate([samples, np.zeros_like(samples)])
        elif what == _TIMED and entry is not None:
            happen(S, entry)
            entry, place = next(timed, None), place + 1
    g = S.g[0]
    last = int(g["now"])
    if g["n_samples"] == len(samples):
        samples = np.concatenate([samples, np.zeros((1, width), np.int64)])
    _sample(S, samples, last)
    u = S.u
    for unit in u:
        stop(unit, last)
    u["powered_ns"] += (last - u["powered_at"]) * u["powered"]
    records = np.stack([S.q[name] for name in _RECORD], axis=1).astype(np.int64)
    records[:, _RECORD.index("done")] = _delivered(S)
    return Outcome(
        fleet=fleet,
        requests=requests,
        end_ns=last,
        records=records,
        samples=samples[: int(g["n_samples"])],
        units=np.stack([u[name] for name in outcome.UNIT], axis=1).astype(np.int64),
        unit_ns=np.stack([u[name] for name in outcome.UNIT_SECONDS], axis=1),
        area_ns=S.sums[AREA:COUNTER].copy(),
        gaps=S.sums[GAP:].copy(),
        engine="compiled",
        wall_s=time.perf_counter() - began,
    )


_RECORD = ("begun", "first", "finish", "done", "hit", "preempted", "redone")


def _delivered(S: State_) -> I64:
    """Tokens each request has got; those of rows are counted by what is to come."""
    done: I64 = S.q["done"].astype(np.int64)
    for unit in S.u:
        kind = S.k[unit["kind"]]
        for rank in S.r[unit["rank0"] :][: kind["ranks"]]:
            rows = S.rows[rank["row0"] :][: rank["rows"]]
            late = np.arange(len(rows)) >= rank["active"] if unit["busy"] else False
            left = rows["until"] - (0 if kind["draft"] else unit["step"] + late)
            done[rows["request"]] = S.q["output"][rows["request"]] - left
    return done
