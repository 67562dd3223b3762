"""A schedule table with replayed times as a timeline, so that the pipeline chart can draw it."""

from __future__ import annotations

import numpy as np

from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I32, I64, Action, Kind, Priced, Program
from simdeep.program.schedule import Spans, Table, acts_of

UNIT_NS = 1e9
"""Nanoseconds that stand for one unit of the costs."""

_ACTIONS = {"F": (Action.F,), "I": (Action.I,), "W": (Action.W,), "B": (Action.I, Action.W)}


def timeline_of(table: Table, spans: Spans) -> Timeline:
    """One compute task for each F, I and W; the parts of a cell share its time equally."""
    acts: list[tuple[int, ...]] = []
    times: list[tuple[float, float]] = []
    for rank, cells in enumerate(table.rows):
        for block, cell in enumerate(cells):
            parts = [(act, action) for act in acts_of(cell) for action in _ACTIONS[act.kind]]
            edges = np.linspace(spans.start[rank][block], spans.end[rank][block], len(parts) + 1)
            acts += [(rank, block, act.stage, act.mb, action) for act, action in parts]
            times += zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    columns = np.array(acts, np.int32).reshape(-1, 5).T
    ns: I64 = np.rint(np.array(times).reshape(-1, 2).T * UNIT_NS).astype(np.int64)
    return Timeline(_priced(_program(table, columns)), ns[0], ns[1], "replay", 0.0)


def _program(table: Table, columns: I32) -> Program:
    """Tasks without work or dependencies: only the columns that a chart looks at are filled."""
    rank, block, stage, microbatch, action = columns
    n = len(rank)
    none, zero = np.full(n, -1, np.int32), np.zeros(n, np.int32)
    return Program(
        n_ranks=table.n_ranks,
        streams=("compute",),
        components=("chunk",),
        works=(),
        rank=rank,
        stream=zero.astype(np.int8),
        kind=np.full(n, Kind.COMPUTE, np.int8),
        action=action.astype(np.int8),
        component=zero,
        stage=stage,
        layer=none,
        microbatch=microbatch,
        block=block,
        work=zero,
        case=zero,
        peer=none,
        group=none,
        dep_ptr=np.zeros(n + 1, np.int64),
        dep_idx=np.zeros(0, np.int64),
        mem_take=np.zeros(n, np.int64),
        mem_free=np.zeros(n, np.int64),
    )


def _priced(program: Program) -> Priced:
    zero, none = np.zeros(program.n), np.zeros(program.n, np.int32)
    return Priced(
        program=program,
        sm_ns=zero,
        mem_ns=zero,
        fixed_ns=zero,
        sm_want=none,
        sm_drag=zero,
        mem_drag=zero,
        port=np.full((program.n, 4), -1, np.int32),
        port_ns=np.zeros((program.n, 4)),
        floor_ns=zero,
        latency_ns=zero,
        sms=none,
        draw_milli=none,
        n_ports=0,
        hardware_sms=1,
        comm_sms=0,
        static_split=False,
    )
