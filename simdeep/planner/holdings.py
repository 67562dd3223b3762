"""Parameters and memory of every rank, all candidates of a group at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.cost.memory import FP8_SCALE
from simdeep.planner.candidates import Candidates
from simdeep.planner.groups import Group, PriceTable
from simdeep.planner.kinds import Kinds
from simdeep.planner.pipelines import chunks_held
from simdeep.program.lower.stage_costs import BYTES, state_bytes
from simdeep.spec.params import ParamCount

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Holdings:
    """[candidates, ranks] parameters a rank holds, vocabulary tables among the dense ones.

    `linear` leaves the tables out; `shard` is what a rank owns when replicas share them out.
    `run_*`, without tables, are weighted with the share of micro-batches that runs through them.
    """

    dense: F64
    expert: F64
    linear: F64
    shard: F64
    run_dense: F64
    run_expert: F64


def holdings(
    group: Group, candidates: Candidates, table: PriceTable, kinds: Kinds, count: ParamCount
) -> Holdings:
    """What the ranks of a group's candidates hold."""
    rows = group.rows
    on_rank = (group.share > 0) @ group.counts
    if group.pipeline.share is None:
        on_rank = group.share @ group.counts
    prices = {name: table.columns[name][table.of[rows]] for name in ("dense", "expert")}
    dense, expert = (prices[name] @ on_rank.T for name in ("dense", "expert"))
    linear = dense + expert
    tp = candidates["tp"][rows][:, None]
    if group.pipeline.share is not None:
        dense = dense + _tables(on_rank, kinds, count) / tp
    replicas = (candidates["dp"] * candidates["cp"])[rows][:, None]
    edp = replicas * tp // candidates["ep"][rows][:, None]
    shard = (dense / replicas + expert / edp) / group.pipeline.copies
    run = group.share @ group.counts
    run_dense, run_expert = (prices[name] @ run.T for name in ("dense", "expert"))
    return Holdings(dense, expert, linear, shard, run_dense, run_expert)


def _tables(on_rank: F64, kinds: Kinds, count: ParamCount) -> F64:
    """[ranks] entries of the vocabulary tables: each is held once a rank."""
    names = [unit.component for unit in kinds.units]
    head_is_embedding = count.head == 0
    embedding = np.array(
        [n in ("embed", "mtp_in") or (n == "head" and head_is_embedding) for n in names]
    )
    head = np.array([n == "head" and not head_is_embedding for n in names])
    held = np.stack([(on_rank[:, own] > 0).any(axis=1) for own in (embedding, head)], axis=1)
    found: F64 = held @ np.array([count.embedding, count.head], float)
    return found


def bound_memory(group: Group, candidates: Candidates, table: PriceTable, held: Holdings) -> F64:
    """Bytes that the fullest rank of each candidate needs at least.

    Parameters, gradients and optimizer state as the simulation counts them, pipeline buffers, and
    the activations of as many chunks as the schedule keeps, each as small as the rank's smallest.
    """
    rows, train = group.rows, group.scenario.train
    dtypes = train.dtypes
    zero = candidates["zero"][rows][:, None]
    whole = held.dense + held.expert
    fp8 = np.array([p == "fp8" for p in candidates.space.values["precision"]])
    narrow = fp8[candidates["precision"][rows]][:, None] * (1 + FP8_SCALE) * held.linear
    part = held.shard / np.maximum(whole, 1.0)
    fixed = np.where(zero == 3, part, 1.0) * (whole * BYTES[dtypes.params] + narrow)
    fixed += np.where(zero >= 2, held.shard, whole) * BYTES[dtypes.grads]
    fixed += np.where(zero >= 1, held.shard, whole) * state_bytes(dtypes)
    fixed += train.reserved_gib * 2**30
    tokens = (candidates["mbs"] / candidates["cp"])[rows][:, None] * train.seq_len
    if group.pp > 1:
        fixed += 4 * tokens * group.scenario.model.hidden * 2.0
    kept = table.columns["kept"][table.of[rows]] @ group.counts.T
    if group.pipeline.share is None:
        least: F64 = (fixed + kept.min(axis=1, keepdims=True)).max(axis=1)
        return least
    smallest = np.stack([kept[:, np.flatnonzero(r)].min(axis=1) for r in group.share], axis=1)
    m = candidates["microbatches"][rows]
    values, which = np.unique(m, return_inverse=True)
    chunks = np.array(
        [chunks_held(group.schedule, group.pp, group.vpp, int(v)) for v in values], dtype=float
    )[which.reshape(-1)]
    peak: F64 = (fixed + chunks * smallest).max(axis=1)
    return peak
