"""Lower bounds of a step's time, all candidates at once.

A rank's compute stream runs its chunks one after the other, so the step takes at least

    fill + micro-batches * (what one keeps the stream busy for) + drain + step end

on every rank, where fill and drain are the way of the first and the last micro-batch to and from
the rank. What keeps a stream busy is its compute alone on the GPU, plus the transfers that the data
wait for inside a chunk (no schedule of single chunks can hide them), or, where forwards run beside
backwards, what transfers take from the compute beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.planner.candidates import Candidates
from simdeep.planner.groups import Group, PriceTable
from simdeep.planner.pipelines import INLINE, OVERLAPPED
from simdeep.planner.step_end import StepEndBound

F64 = npt.NDArray[np.float64]

PARTS = ("compute", "bubble", "communication")
"""What a bound is made of: the busiest rank's compute and step end, then fill and drain, then what
transfers add."""


@dataclass(frozen=True, eq=False)
class TimeBounds:
    """Seconds that steps take at least: by compute alone, with the bubble, with communication."""

    compute: F64
    bubble: F64
    total: F64


def bound_times(
    group: Group, candidates: Candidates, table: PriceTable, end: StepEndBound
) -> TimeBounds:
    """Bounds of the candidates of a group, in the order of `group.rows`."""
    rows = group.rows
    m = candidates["microbatches"][rows][:, None].astype(float)
    unit = {name: column[table.of[rows]] for name, column in table.columns.items()}
    free = {
        name: np.zeros_like(value)
        if name.split("_")[0] in ("ahead", "behind", "ring", "comm", "loss")
        else value
        for name, value in unit.items()
    }
    bare = _stage_times(group, free)
    full = _stage_times(group, unit)
    after = end.after[:, None]
    computing = (m * (bare.work @ group.share.T) + after).max(axis=1)
    with_bubble = (_rank_times(group, bare, m, end) + after).max(axis=1)
    total = (_rank_times(group, full, m, end) + after).max(axis=1)
    streams = end.streams + end.after
    return TimeBounds(
        computing, with_bubble, np.maximum.reduce([computing, with_bubble, total, streams])
    )


@dataclass(frozen=True, eq=False)
class _StageTimes:
    """[candidates, stages] seconds a micro-batch: on the stream, W alone, on the way of data."""

    work: F64
    weights: F64
    forward: F64
    backward: F64
    last_weight: F64


def _stage_times(group: Group, u: dict[str, F64]) -> _StageTimes:
    counts, repeats = group.counts.T, group.repeats.T
    attn_f, attn_i = np.maximum(u["attn_f"], u["ring_f"]), np.maximum(u["attn_i"], u["ring_i"])
    forward = (attn_f + u["ahead_f"] + u["mlp_f"] + u["behind_f"]) @ counts
    weights = (u["attn_w"] + u["mlp_w"]) @ counts
    steady = u["attn_f"] + u["mlp_f"] + u["attn_i"] + u["mlp_i"]
    if group.schedule in OVERLAPPED:
        work = (
            steady @ counts
            + weights
            + ((u["comm_f"] + u["comm_i"]) * _least_loss(group, u)) @ counts
        )
        backward = (u["mlp_i"] + u["ahead_i"] + attn_i + u["behind_i"]) @ counts
        # One micro-batch's data go through a block one step after the other.
        alone = forward - u["behind_f"].max(axis=1, keepdims=True)
        work = np.maximum(work, alone)
        work = np.maximum(work, backward - u["behind_i"].max(axis=1, keepdims=True))
        return _StageTimes(work, weights, forward, backward, 0 * work)
    last = u["behind_f"].max(axis=1, keepdims=True)
    inside = u["mlp_i"] + np.maximum(u["mlp_w"], u["ahead_i"]) + attn_i
    work = np.maximum(forward - last, (attn_f + u["mlp_f"]) @ counts)
    work += (inside + u["attn_w"]) @ counts
    work += np.maximum(u["behind_i"] - u["attn_w"], 0.0) @ repeats
    if group.schedule in INLINE:
        backward = (inside + u["behind_i"]) @ counts
        backward += np.maximum(u["attn_w"] - u["behind_i"], 0.0) @ repeats
    else:
        backward = (u["mlp_i"] + u["ahead_i"] + attn_i + u["behind_i"]) @ counts
    last_weight = np.broadcast_to(u["attn_w"].max(axis=1, keepdims=True), work.shape)
    return _StageTimes(work, weights, forward, backward, last_weight)


def _least_loss(group: Group, u: dict[str, F64]) -> F64:
    """[candidates, 1] least loss among the kinds of unit that a stage of the group may hold."""
    present = group.counts.sum(axis=0) > 0
    least: F64 = u["loss"][:, present].min(axis=1, keepdims=True)
    return least


def _rank_times(group: Group, stage: _StageTimes, m: F64, end: StepEndBound) -> F64:
    """[candidates, ranks] seconds until the pipeline's work is done, as each rank sees it."""
    share = group.share
    work = m * (stage.work @ share.T)
    if group.pipeline.share is None:
        placed: F64 = work + end.reduce
        return placed
    before = _before(stage.forward)
    behind = _before(stage.backward)
    held = [np.flatnonzero(row) for row in share]
    head = np.stack([before[:, at].min(axis=1) for at in held], axis=1)
    tail = np.stack([behind[:, at].min(axis=1) for at in held], axis=1)
    own = head + work
    if group.schedule in INLINE:
        drained = own + tail - np.stack([stage.last_weight[:, at[0]] for at in held], axis=1)
    else:
        drained = own + tail - m * (stage.weights @ share.T)
    done: F64 = np.maximum(own + end.reduce, drained)
    return done


def _before(times: F64) -> F64:
    """Sum over the stages in front of each."""
    total: F64 = np.cumsum(times, axis=1) - times
    return total
