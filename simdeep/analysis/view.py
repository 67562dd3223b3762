"""A smaller timeline out of a large one, for charts and tables that cannot show every GPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simdeep.analysis.attribution import idle_pieces
from simdeep.analysis.booking import IdlePieces
from simdeep.engine.timeline import Timeline


def one_of_each(timeline: Timeline, peers: int) -> Timeline:
    """The first GPU of every pipeline rank, renumbered; dependencies on others are left out."""
    if peers == 1:
        return timeline
    priced, program = timeline.priced, timeline.program
    rows = np.flatnonzero(program.rank % peers == 0)
    new = np.full(program.n, -1, np.int64)
    new[rows] = np.arange(len(rows))
    owner = np.repeat(np.arange(program.n), np.diff(program.dep_ptr))
    inside = (new[owner] >= 0) & (new[program.dep_idx] >= 0)
    counts = np.bincount(new[owner[inside]], minlength=len(rows))
    columns = {
        name: getattr(program, name)[rows]
        for name in (
            *("stream", "kind", "action", "component", "stage", "layer", "microbatch", "block"),
            *("work", "case", "mem_take", "mem_free"),
        )
    }
    peer = program.peer[rows]
    small = replace(
        program,
        n_ranks=program.n_ranks // peers,
        rank=program.rank[rows] // peers,
        peer=np.where(peer >= 0, peer // peers, -1).astype(np.int32),
        group=np.full(len(rows), -1, np.int32),
        dep_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        dep_idx=new[program.dep_idx[inside]],
        **columns,
    )
    costs = {
        name: getattr(priced, name)[rows]
        for name in (
            *("sm_ns", "mem_ns", "fixed_ns", "sm_want", "sm_drag", "mem_drag", "port", "port_ns"),
            *("floor_ns", "latency_ns", "sms", "draw_milli"),
        )
    }
    return replace(
        timeline,
        priced=replace(priced, program=small, **costs),
        start_ns=timeline.start_ns[rows],
        end_ns=timeline.end_ns[rows],
    )


def idle_of_each(timeline: Timeline, peers: int) -> IdlePieces:
    """Idle intervals of the GPUs that `one_of_each` keeps, numbered as there.

    Their reasons are those of the whole timeline: without the other GPUs, waiting for one of them
    would look like waiting for the pipeline.
    """
    found = idle_pieces(timeline)
    kept = found.rank % peers == 0
    return IdlePieces(
        parts=found.parts,
        code=found.code[kept],
        rank=found.rank[kept] // peers,
        start_ns=found.start_ns[kept],
        end_ns=found.end_ns[kept],
    )
