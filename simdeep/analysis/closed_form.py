"""The published closed form of the bubble, beside the simulated one, and why they differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.engine.timeline import Timeline
from simdeep.program.columns import Action, Kind
from simdeep.program.schedule import Overlap, Table, Uniform, find_schedule
from simdeep.program.search import NAME as SEARCHED


@dataclass(frozen=True, slots=True)
class ClosedFormBubble:
    """A schedule's closed form with the simulated chunk times of a middle rank put in.

    Attributes:
        seconds: the bubble by the formula.
        formula: as published.
        costs: F, I, W and the overlapped F&B in seconds: medians over the middle rank's blocks.
        reasons: why the simulation differs: conditions of the form that do not hold.
    """

    seconds: float
    formula: str
    costs: Uniform
    reasons: tuple[str, ...]


def closed_form_bubble(table: Table, timeline: Timeline) -> ClosedFormBubble | None:
    """Evaluate the closed form; None for a schedule that has none."""
    if table.name == SEARCHED:
        return None
    form = find_schedule(table.name).closed
    if form is None or table.n_ranks < 2:
        return None
    program = timeline.program
    costs = chunk_times(table, timeline, table.n_ranks // 2)
    unmet = form.unmet(table.n_ranks, table.n_microbatches, costs)
    reasons = [f"{condition} does not hold" for condition in unmet]
    if form.own_span:
        reasons.append("the form counts from a rank's own start to its own end")
    sends = (program.action == Action.P2P) & (timeline.end_ns > timeline.start_ns)
    if sends.any():
        reasons.append("transfers between stages take time")
    busy = np.bincount(
        program.rank,
        weights=np.where(
            (program.kind == Kind.COMPUTE) & (program.action <= Action.W),
            timeline.end_ns - timeline.start_ns,
            0,
        ),
        minlength=program.n_ranks,
    )
    if busy.max() > 1.001 * busy.min():
        spread = busy.max() / busy.min() - 1
        reasons.append(f"stages are unequal: the fullest rank computes {spread:.1%} longer")
    return ClosedFormBubble(
        form.bubble(table.n_ranks, costs), form.bubble_text, costs, tuple(reasons)
    )


def chunk_times(table: Table, timeline: Timeline, rank: int) -> Uniform:
    """Median durations of a pipeline rank's blocks by what they do, in seconds.

    Unfolded, the first of its peers is taken. A block lasts from the start of its first task to
    the end of its last, sends apart. Where a schedule has no separate I and W, they share B as
    their compute time does.
    """
    program = timeline.program
    gpu = rank * (program.n_ranks // table.n_ranks)
    rows = np.flatnonzero(
        (program.rank == gpu) & (program.block >= 0) & (program.action != Action.P2P)
    )
    blocks, index = np.unique(program.block[rows], return_inverse=True)
    start = np.full(len(blocks), np.iinfo(np.int64).max)
    end = np.zeros(len(blocks), np.int64)
    np.minimum.at(start, index, timeline.start_ns[rows])
    np.maximum.at(end, index, timeline.end_ns[rows])
    kinds = np.array(
        ["FB" if isinstance(cell, Overlap) else cell.kind for cell in table.rows[rank]]
    )
    lasted = (end - start) / 1e9

    def median(kind: str) -> float | None:
        found = lasted[kinds == kind]
        return float(np.median(found)) if len(found) else None

    f, b, i, w, fb = (median(kind) for kind in ("F", "B", "I", "W", "FB"))
    if b is None:
        b = (i or 0.0) + (w or 0.0)
    if w is None:
        w = b * _weight_share(timeline, gpu)
    return Uniform(f=f or 0.0, i=b - w, w=w, fb=fb)


def _weight_share(timeline: Timeline, rank: int) -> float:
    """Share of W in a rank's backward compute."""
    program = timeline.program
    mine = (program.rank == rank) & (program.kind == Kind.COMPUTE)
    lasted = timeline.end_ns - timeline.start_ns
    w = lasted[mine & (program.action == Action.W)].sum()
    i = lasted[mine & (program.action == Action.I)].sum()
    return float(w / (w + i)) if w + i else 0.0
