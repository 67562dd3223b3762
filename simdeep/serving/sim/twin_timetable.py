"""The timetable in the compiled engine: rare, so plain Python that calls compiled parts."""

from __future__ import annotations

from typing import Any

from simdeep.serving.sim.fleet import Event, State, Timed
from simdeep.serving.sim.twin_moves import cancel_move
from simdeep.serving.sim.twin_routes import (
    admit,
    hand_over,
    leave_home,
    leave_unit,
    power,
    route,
    wake,
)
from simdeep.serving.sim.twin_state import (
    BACKLOG,
    HOMELESS,
    WAITING0,
    State_,
    pop,
    remove,
    unschedule,
)


def happen(S: State_, entry: Timed) -> None:
    """What the timetable says for this moment."""
    unit = S.u[entry.unit]
    if entry.event is Event.FAIL:
        if not unit["down"]:
            _fail(S, entry.unit)
        return
    if entry.event is Event.REPAIR:
        unit["down"] = 0
    else:
        unit["on"] = entry.on
        power(S, entry.unit)
    if unit["on"] and not unit["down"]:
        _flush(S, BACKLOG)
        _flush(S, HOMELESS)
    wake(S, entry.unit)


def stop(unit: Any, now: int) -> None:
    """Account for an iteration that goes no further."""
    if not unit["busy"]:
        return
    unit["busy_ns"] += now - unit["busy_at"]
    left = (unit["ends_at"] - now) / (unit["ends_at"] - unit["busy_at"])
    for name in ("balance_ns", "prompt_ns"):
        unit[name] -= left * unit[f"my_{name}"]


def _flush(S: State_, which: int) -> None:
    """Send on what waited for a unit to come."""
    last = int(S.lists[which]["tail"])
    j = -1
    while S.lists[which]["head"] >= 0 and j != last:
        j = int(pop(S, which))
        (route if which == BACKLOG else hand_over)(S, j)


def _fail(S: State_, u: int) -> None:
    """A unit loses everything; its requests start again elsewhere."""
    unit, q, now = S.u[u], S.q, int(S.g[0]["now"])
    unit["down"] = 1
    unit["failures"] += 1
    stop(unit, now)
    _settle_rows(S, u)
    ranks = S.r[unit["rank0"] :][: S.k[unit["kind"]]["ranks"]]
    for name in ("kv", "context", "rows", "active", "joined", "fresh", "reserved", "new", "begun"):
        ranks[name] = 0
    ranks["carried"] = -1
    unit["busy"] = 0
    for entity in (u, u + len(S.u)):
        unschedule(S, len(q) + entity)
    S.lists[WAITING0 + 3 * u : WAITING0 + 3 * u + 3] = (-1, -1)
    for name in ("pending", "planned", "kv", "queued_kv", "queued_rows", "rows", "reserved"):
        unit[name] = 0
    unit["ram_free"] = unit["ssd_free"] = now
    for j in ((q["home"] == u) | (q["unit"] == u)).nonzero()[0].tolist():
        _lose(S, j, u)


def _settle_rows(S: State_, u: int) -> None:
    """Write down what the rows of a failing unit have got (see `twin_routes.settle`)."""
    unit, kind = S.u[u], S.k[S.u[u]["kind"]]
    for rank in S.r[unit["rank0"] :][: kind["ranks"]]:
        for at in range(int(rank["rows"])):
            row = S.rows[rank["row0"] + at]
            request = S.q[row["request"]]
            late = bool(unit["busy"]) and at >= rank["active"]  # to begin with the next iteration
            if not late and at < rank["active"] - rank["fresh"]:
                request["last"] = unit["busy_at"]
            left = row["until"] - (0 if kind["draft"] else unit["step"] + late)
            request["done"] = request["output"] - left


def _lose(S: State_, j: int, u: int) -> None:
    request = S.q[j]
    state = request["state"]
    cancel_move(S, j)
    unschedule(S, j)
    if request["home"] != u and state in (State.HELD, State.MOVING):
        leave_unit(S, j)
        hand_over(S, j)  # its KV still lies at the prefill unit
        return
    other = int(request["unit"])
    elsewhere = other >= 0 and other != request["home"] and not S.u[other]["down"]
    if elsewhere and state == State.HELD:
        remove(S, WAITING0 + 3 * other + 2, j)
        S.u[other]["queued_kv"] -= int(request["input"]) + int(request["done"])
        S.u[other]["queued_rows"] -= 1
    elif elsewhere and state == State.MOVING:
        for part in (S.u[other], S.r[request["place"]]):
            part["kv"] -= request["place_kv"]
            part["reserved"] -= 1
    if state == State.HELD and other < 0:
        remove(S, HOMELESS, j)
    leave_home(S, j)
    leave_unit(S, j)
    if other >= 0 and not S.u[other]["down"]:
        admit(S, other)
    request["redone"] += 1
    route(S, j)
