"""The end of a step: gradients reduced, their norm agreed on, optimizer, parameters gathered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simdeep.program.columns import Action, Kind
from simdeep.program.lower import template as tpl
from simdeep.program.lower.build import Draft
from simdeep.program.lower.template import COMPONENT_ID

WHOLE_STAGE = -2
"""In place of a layer: the bucket of all of a stage's gradients."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Gradients reduced together: the work, and the layer whose last W makes them ready.

    Layer -1 are the edges of the model, `WHOLE_STAGE` everything the rank computes.
    """

    work: int
    layer: int


@dataclass(frozen=True, slots=True)
class StepEnd:
    """Works of a rank's step end.

    `reduce[stage]` are the buckets of that stage's gradients in the order they become ready,
    `gather[stage]` the collectives of its parameters (dense and expert groups differ),
    `optimizer` updates all the rank's shards and `norm` is the all-reduce of the gradient norm.
    """

    reduce: Mapping[int, Sequence[Bucket]]
    gather: Mapping[int, Sequence[int]]
    optimizer: int
    norm: int


def add_step_end(draft: Draft, held: Sequence[Sequence[int]], ends: Sequence[StepEnd]) -> Draft:
    """Append the step end of every rank.

    Args:
        draft: forward and backward of all micro-batches.
        held: stages whose parameters each rank holds; ranks that hold the same stage (DualPipe's
            two copies) reduce and gather together.
        ends: the works of each rank.
    """
    rows: list[dict[str, int]] = []
    deps: list[tuple[int, int]] = []
    last_weight = _last_weight_rows(draft)
    next_group = draft.n

    def add(**columns: int) -> int:
        rows.append({"block": -1, **columns})
        return draft.n + len(rows) - 1

    groups: dict[tuple[str, int, int], int] = {}

    def group_of(name: str, stage: int, index: int) -> int:
        nonlocal next_group
        if sum(stage in stages for stages in held) < 2:
            return -1
        key = (name, stage, index)
        if key not in groups:
            groups[key] = next_group
            next_group += 1
        return groups[key]

    norm_group = -1
    for rank, (stages, end) in enumerate(zip(held, ends, strict=True)):
        everything = max(row for (r, *_), row in last_weight.items() if r == rank)
        for stage in stages:
            for index, bucket in enumerate(end.reduce.get(stage, ())):
                row = add(
                    rank=rank,
                    stream=tpl.DATA_PARALLEL,
                    kind=Kind.TRANSFER,
                    action=Action.GRAD_SYNC,
                    component=COMPONENT_ID["grad_sync"],
                    stage=stage,
                    work=bucket.work,
                    group=group_of("reduce", stage, index),
                )
                ready = last_weight.get((rank, stage, bucket.layer), everything)
                deps.append((row, ready))
        if norm_group < 0:
            norm_group = next_group
            next_group += 1
        norm = add(
            rank=rank,
            stream=tpl.DATA_PARALLEL,
            kind=Kind.TRANSFER,
            action=Action.GRAD_SYNC,
            component=COMPONENT_ID["grad_norm"],
            work=end.norm,
            group=norm_group,
        )
        deps.append((norm, everything))
        step = add(
            rank=rank,
            stream=tpl.COMPUTE,
            kind=Kind.COMPUTE,
            action=Action.OPTIMIZER,
            component=COMPONENT_ID["optimizer"],
            work=end.optimizer,
        )
        deps.append((step, norm))
        for stage in stages:
            for index, work in enumerate(end.gather.get(stage, ())):
                row = add(
                    rank=rank,
                    stream=tpl.DATA_PARALLEL,
                    kind=Kind.TRANSFER,
                    action=Action.PARAM_SYNC,
                    component=COMPONENT_ID["param_sync"],
                    stage=stage,
                    work=work,
                    group=group_of("gather", stage, index),
                )
                deps.append((row, step))
    return draft.extended(rows, deps)


def _last_weight_rows(draft: Draft) -> dict[tuple[int, int, int], int]:
    """Row of the last weight gradient of each (rank, stage, layer)."""
    columns = draft.columns
    rows = np.flatnonzero((columns["action"] == Action.W) & (columns["stream"] == tpl.COMPUTE))
    keys = zip(*(columns[name][rows].tolist() for name in ("rank", "stage", "layer")), strict=True)
    return dict(zip(keys, rows.tolist(), strict=True))
