"""Small fleets and requests for the request simulation, and generators of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from simdeep.serving.sim.fleet import (
    Cache,
    Event,
    Fleet,
    Grid,
    Requests,
    Role,
    Timed,
    UnitKind,
)

MS = 1_000_000
GRID = Grid.linear(1e-3, 1e-6, 1e-5, 1e-8)


def prefill(**changes) -> UnitKind:
    given = {"units": 2, "nodes": 2, "ranks": 4, "kv_tokens": 5000, "max_rows": 0}
    given |= {"chunk_tokens": 512, "grid": GRID} | changes
    return UnitKind(Role.PREFILL, **given)


def decode(**changes) -> UnitKind:
    given = {"units": 2, "nodes": 2, "ranks": 3, "kv_tokens": 3000, "max_rows": 8}
    given |= {"chunk_tokens": 0, "grid": GRID} | changes
    return UnitKind(Role.DECODE, **given)


def mixed(**changes) -> UnitKind:
    given = {"units": 2, "nodes": 1, "ranks": 2, "kv_tokens": 2500, "max_rows": 6}
    given |= {"chunk_tokens": 256, "grid": GRID} | changes
    return UnitKind(Role.MIXED, **given)


def some_requests(n: int, seed: int, span_ns: int = 200 * MS, longest: int = 1500) -> Requests:
    rng = np.random.default_rng(seed)
    inputs = rng.integers(1, longest, n)
    outputs = rng.integers(1, 120, n)
    prefix = rng.integers(-1, 6, n)
    return Requests.of(
        np.sort(rng.integers(0, span_ns, n)),
        inputs,
        outputs,
        cached_tokens=rng.integers(0, inputs),
        prefix=prefix,
        prefix_tokens=rng.integers(0, inputs + 1),
        delivered=np.where(rng.random(n) < 0.1, rng.integers(0, outputs), 0),
    )


@st.composite
def fleets(draw) -> Fleet:
    draft = draw(st.sampled_from([0, 0, 1, 2]))
    change = {"draft_tokens": draft, "acceptance": 0.7}
    equal = draw(st.sampled_from([0.0, 700.0]))
    if draw(st.booleans()):
        kinds = (mixed(equal_context=equal, **change),)
    else:
        rate = draw(st.sampled_from([1e9, 400e9]))
        shared = {"node_bytes_per_s": rate, "rank_bytes_per_s": rate / 2}
        most = draw(st.sampled_from([0, 1, 2]))
        kinds = (
            prefill(max_prompts=most, equal_context=equal, **shared),
            decode(**change, **shared),
        )
    units = sum(kind.units for kind in kinds)
    timed = []
    for unit in draw(st.lists(st.integers(0, units - 1), max_size=3, unique=True)):
        at = draw(st.integers(0, 150)) * MS
        back = at + draw(st.integers(1, 60)) * MS
        if draw(st.booleans()):
            timed += [Timed(at, Event.FAIL, unit), Timed(back, Event.REPAIR, unit)]
        else:
            timed += [Timed(at, Event.SCALE, unit, False), Timed(back, Event.SCALE, unit, True)]
    return Fleet(
        kinds,
        kv_bytes=70000.0,
        move_latency_ns=draw(st.sampled_from([0, 5000])),
        swap=draw(st.booleans()),
        by_rows=draw(st.booleans()),
        watermark=draw(st.sampled_from([0.0, 0.05])),
        cache=Cache(
            by_prefix=draw(st.booleans()),
            ram_tokens=draw(st.sampled_from([0, 2000])),
            ssd_tokens=draw(st.sampled_from([1000, 10**9])),
            latency_ns=draw(st.sampled_from([0, 100_000])),
        ),
        rebalance_ns=50 * MS,
        phase_ns=20 * MS,
        drift=draw(st.sampled_from([0.0, 0.2])),
        pause_ns=draw(st.sampled_from([0, 3 * MS])),
        timed=tuple(sorted(timed, key=lambda entry: entry.at_ns)),
        sample_ns=10 * MS,
        measure_ns=(20 * MS, 150 * MS),
        end_ns=draw(st.sampled_from([120 * MS, 2**62])),
        seed=draw(st.integers(0, 5)),
    )
