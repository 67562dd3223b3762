"""The state of the compiled engine: records and lists over flat arrays. Importing imports numba.

A request is in one list at a time (`REQUEST.next`), has at most one event to come, and one KV
transfer. Events to come lie in a heap of entities: requests, then units' ends of iterations, then
their starts; an entity's place in the heap is known, so its event can be moved or removed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simdeep.jit import njit
from simdeep.serving.sim import formulas
from simdeep.serving.sim.fleet import Fleet, Requests, Role, State
from simdeep.serving.sim.outcome import COUNTERS
from simdeep.serving.sim.parts import ns_per_token, packed

Array = npt.NDArray[Any]


def _record(**fields: str) -> np.dtype[Any]:
    return np.dtype([(name, kind) for kind, names in fields.items() for name in names.split()])


REQUEST = _record(
    i8="arrival begun first last finish out_at at kv place_kv todo chunk home rank unit place next"
    " out_prev out_next in_prev in_next",
    f8="left rate",
    i4="input output cached prefix prefix_tokens done hit preempted redone",
    i1="state event after moving",
)
"""One request; `home`, `unit`, `rank` and `place` are -1 for none (see `parts.Job`)."""

UNIT = _record(
    i8="step pending planned ends_at kv queued_kv queued_rows rows reserved live powered_at busy_at"
    " placements busy_ns powered_ns iterations stalled_ns failures ram_free ssd_free kind rank0",
    f8="balance_ns prompt_ns my_balance_ns my_prompt_ns",
    i1="on down powered busy",
)
"""One unit (see `reference_unit.Unit`); `kv`, `rows` and `reserved` are sums over its ranks."""

RANK = _record(
    i8="kv context attended row0 soonest node rows active joined fresh reserved carried new begun",
    f8="work",
)
"""One rank; `joined` rows came since the last start, `fresh` ones before this iteration's.

`soonest`: the iteration of the unit at whose end the next row is done (no drafts).
"""

KIND = _record(
    i8="role ranks kv_tokens free_tokens max_rows chunk max_prompts draft grid0",
    f8="acceptance equal ns_per_token node_rate rank_rate ram_rate ssd_rate swap_rate",
)

GLOBAL = _record(
    i8="now size finished seed rebalance_ns phase_ns pause_ns low high latency cache_latency"
    " ram_tokens ssd_tokens block tier n_samples sample_ns end next_arrival next_timed n units"
    " ram_used ssd_used",
    f8="kv_bytes drift",
    i1="swap by_rows by_prefix",
)

ROW = _record(i8="request until")
"""A row of a rank: `until` is the iteration of the unit at whose end it is done; with drafts, which
leave that open, the tokens to come."""

ENTITY = _record(i8="due order place heap")
"""The next event of an entity and its place in the heap (-1: none); `heap`: the entity there."""

LIST = _record(i8="head tail")

NODE = _record(i8="out_n out_head in_n in_head")
"""KV transfers that leave and reach a node."""

PREFIX = _record(i8="tokens tier before after")
"""A prefix in the cache (`tier` -1: not there), in a ring with those of its tier, the last used
first; the last two entries are the ends of the rings."""

COUNT, AREA = 0, len(State)
COUNTER = 2 * len(State)
GAP = COUNTER + len(COUNTERS)
"""Where in `sums`: requests by state, their time-integrals, counters, histogram of gaps."""

BACKLOG, HOMELESS, WAITING0 = 0, 1, 2
"""Lists: the two of the fleet, then of each unit the waiting prompts, its plan, its queue."""


class State_(NamedTuple):  # noqa: N801 - the state of the engine, not a state of a request
    """Everything a run is about."""

    g: Array
    q: Array
    u: Array
    r: Array
    k: Array
    rows: Array
    e: Array
    lists: Array
    nodes: Array
    prefixes: Array
    sums: Array
    grid: Array


def build(fleet: Fleet, given: Requests) -> State_:
    """The state before the first event."""
    n, units = given.n, fleet.n_units
    kinds, grid = _kinds(fleet)
    u, r = np.zeros(units, UNIT), np.zeros(sum(k.units * k.ranks for k in fleet.kinds), RANK)
    r["carried"] = -1
    rank0, row0, node0, number = 0, 0, 0, 0
    for index, kind in enumerate(fleet.kinds):
        for i in range(kind.units):
            u[number]["kind"], u[number]["rank0"] = index, rank0
            on = kind.first_on is None or i < kind.first_on
            u[number]["on"] = u[number]["powered"] = on
            for j in range(kind.ranks):
                r[rank0 + j]["node"] = node0 + j * kind.nodes // kind.ranks
                r[rank0 + j]["row0"] = row0
                row0 += kind.max_rows if kind.role != Role.PREFILL else 0
            rank0, node0, number = rank0 + kind.ranks, node0 + kind.nodes, number + 1
    sums = np.zeros(GAP + formulas.GAP_BINS, np.int64)
    sums[COUNT + State.AWAY] = n
    return State_(
        g=_globals(fleet, n),
        q=_requests(given),
        u=u,
        r=r,
        k=kinds,
        rows=np.zeros(row0, ROW),
        e=_none(n + 2 * units, ENTITY, "place"),
        lists=_none(WAITING0 + 3 * units, LIST, "head tail"),
        nodes=_none(node0, NODE, "out_head in_head"),
        prefixes=_prefixes(fleet, given),
        sums=sums,
        grid=grid,
    )


def _none(size: int, record: np.dtype[Any], fields: str) -> Array:
    """Records that are zero but for some fields, which point nowhere."""
    made = np.zeros(size, record)
    for name in fields.split():
        made[name] = -1
    return made


def _requests(given: Requests) -> Array:
    q = _none(given.n, REQUEST, "begun first last finish hit home rank unit place next")
    q["arrival"], q["input"], q["output"] = (
        given.arrival_ns,
        given.input_tokens,
        given.output_tokens,
    )
    q["cached"], q["prefix"] = given.cached_tokens, given.prefix
    q["prefix_tokens"], q["done"] = given.prefix_tokens, given.delivered
    return q


def _prefixes(fleet: Fleet, given: Requests) -> Array:
    size = int(given.prefix.max(initial=-1)) + 1 if fleet.cache.by_prefix else 0
    made = _none(size + 2, PREFIX, "tier")
    made["before"][size:] = made["after"][size:] = np.arange(size, size + 2)
    return made


def _kinds(fleet: Fleet) -> tuple[Array, Array]:
    """Kinds of units, and their grids one after the other."""
    kinds, grids = np.zeros(len(fleet.kinds), KIND), [packed(kind.grid) for kind in fleet.kinds]
    for index, kind in enumerate(fleet.kinds):
        kinds[index] = (
            kind.role,
            kind.ranks,
            kind.kv_tokens,
            kind.kv_tokens - int(kind.kv_tokens * fleet.watermark),
            kind.max_rows,
            kind.chunk_tokens,
            kind.max_prompts,
            kind.draft_tokens,
            sum(len(grid) for grid in grids[:index]),
            kind.acceptance,
            kind.equal_context,
            ns_per_token(kind),
            kind.node_bytes_per_s,
            kind.rank_bytes_per_s,
            kind.ram_bytes_per_s,
            kind.ssd_bytes_per_s,
            kind.swap_bytes_per_s,
        )
    return kinds, np.concatenate(grids)


def _globals(fleet: Fleet, n: int) -> Array:
    g = np.zeros(1, GLOBAL)
    cache = fleet.cache
    values = {
        "seed": fleet.seed,
        "rebalance_ns": fleet.rebalance_ns,
        "phase_ns": fleet.phase_ns,
        "pause_ns": fleet.pause_ns,
        "low": fleet.measure_ns[0],
        "high": fleet.measure_ns[1],
        "latency": fleet.move_latency_ns,
        "cache_latency": cache.latency_ns,
        "ram_tokens": cache.ram_tokens,
        "ssd_tokens": cache.ssd_tokens,
        "block": cache.block_tokens,
        "tier": cache.tier,
        "sample_ns": fleet.sample_ns,
        "end": fleet.end_ns,
        "n": n,
        "units": fleet.n_units,
        "kv_bytes": fleet.kv_bytes,
        "drift": fleet.drift,
        "swap": fleet.swap,
        "by_rows": fleet.by_rows,
        "by_prefix": cache.by_prefix,
    }
    for name, value in values.items():
        g[0][name] = value
    return g


# The heap of events to come


@njit
def _before(S: Any, a: int, b: int) -> bool:
    if S.e[a].due != S.e[b].due:
        return bool(S.e[a].due < S.e[b].due)
    return bool(S.e[a].order < S.e[b].order)


@njit
def _put(S: Any, i: int, entity: int) -> None:
    S.e[i].heap = entity
    S.e[entity].place = i


@njit
def _settle(S: Any, i: int, entity: int) -> None:
    """Bring an entity whose event changed from place `i` of the heap to where it belongs."""
    while i > 0 and _before(S, entity, S.e[(i - 1) >> 1].heap):
        _put(S, i, S.e[(i - 1) >> 1].heap)
        i = (i - 1) >> 1
    size = S.g[0].size
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and _before(S, S.e[child + 1].heap, S.e[child].heap):
            child += 1
        if not _before(S, S.e[child].heap, entity):
            break
        _put(S, i, S.e[child].heap)
        i = child
    _put(S, i, entity)


@njit
def schedule(S: Any, entity: int, kind: int, number: int, delay: int) -> None:
    """Set the next event of an entity, in place of one it may have had."""
    S.e[entity].due = S.g[0].now + delay
    S.e[entity].order = (kind << 40) + number
    i = S.e[entity].place
    if i < 0:
        i = S.g[0].size
        S.g[0].size = i + 1
    _settle(S, i, entity)


@njit
def unschedule(S: Any, entity: int) -> None:
    """Remove the event of an entity, if it has one."""
    i = S.e[entity].place
    if i < 0:
        return
    S.e[entity].place = -1
    last = S.g[0].size - 1
    S.g[0].size = last
    if i < last:
        _settle(S, i, S.e[last].heap)


# Lists of requests


@njit
def append(S: Any, which: int, j: int) -> None:
    """Put a request at the end of a list."""
    S.q[j].next = -1
    if S.lists[which].head < 0:
        S.lists[which].head = j
    else:
        S.q[S.lists[which].tail].next = j
    S.lists[which].tail = j


@njit
def push_front(S: Any, which: int, j: int) -> None:
    """Put a request at the front of a list."""
    S.q[j].next = S.lists[which].head
    if S.lists[which].head < 0:
        S.lists[which].tail = j
    S.lists[which].head = j


@njit
def pop(S: Any, which: int) -> int:
    """Take the first request of a list, which must have one."""
    j = S.lists[which].head
    S.lists[which].head = S.q[j].next
    return int(j)


@njit
def remove(S: Any, which: int, j: int) -> bool:
    """Take a request out of a list; says whether it was there."""
    before, i = -1, S.lists[which].head
    while i >= 0 and i != j:
        before, i = i, S.q[i].next
    if i < 0:
        return False
    if before < 0:
        S.lists[which].head = S.q[j].next
    else:
        S.q[before].next = S.q[j].next
    if S.lists[which].tail == j:
        S.lists[which].tail = before
    return True


@njit
def to_state(S: Any, j: int, state: int) -> None:
    """Change a request's state."""
    S.sums[COUNT + S.q[j].state] -= 1
    S.sums[COUNT + state] += 1
    S.q[j].state = state
