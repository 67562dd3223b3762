"""The end of a step: gradients reduced, their norm agreed on, optimizer, parameters gathered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simdeep.program.columns import Action, Kind
from simdeep.program.lower import template as tpl
from simdeep.program.lower.draft import Draft
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
    `optimizer` updates all the rank's shards and `norm` is the all-reduce of the gradient norm,
    for which the rank `waits` or not.
    """

    reduce: Mapping[int, Sequence[Bucket]]
    gather: Mapping[int, Sequence[int]]
    optimizer: int
    norm: int
    waits: bool = True


def add_step_end(draft: Draft, held: Sequence[Sequence[int]], ends: Sequence[StepEnd]) -> Draft:
    """Append the step end of every rank.

    Args:
        draft: forward and backward of all micro-batches.
        held: stages whose parameters each rank holds; ranks that hold the same stage (DualPipe's
            two copies) reduce and gather together.
        ends: the works of each rank.
    """
    rows = _Rows(draft, held)
    last_weight = _last_weight_rows(draft)
    for rank, (stages, end) in enumerate(zip(held, ends, strict=True)):
        everything = max(row for (r, *_), row in last_weight.items() if r == rank)
        for stage in stages:
            for index, bucket in enumerate(end.reduce.get(stage, ())):
                ready = last_weight.get((rank, stage, bucket.layer), everything)
                rows.collective(rank, Action.GRAD_SYNC, stage, index, bucket.work, ready)
        norm = rows.add(
            everything,
            rank=rank,
            stream=tpl.DATA_PARALLEL,
            kind=Kind.TRANSFER,
            action=Action.GRAD_SYNC,
            component=COMPONENT_ID["grad_norm"],
            work=end.norm,
            group=rows.everyone if end.waits else -1,
        )
        step = rows.add(
            norm,
            rank=rank,
            stream=tpl.COMPUTE,
            kind=Kind.COMPUTE,
            action=Action.OPTIMIZER,
            component=COMPONENT_ID["optimizer"],
            work=end.optimizer,
        )
        for stage in stages:
            for index, work in enumerate(end.gather.get(stage, ())):
                rows.collective(rank, Action.PARAM_SYNC, stage, index, work, step)
    return draft.extended(rows.rows, rows.deps)


_COMPONENT = {Action.GRAD_SYNC: "grad_sync", Action.PARAM_SYNC: "param_sync"}


class _Rows:
    """Rows behind a draft's own, and the rendezvous of ranks that hold the same stage."""

    def __init__(self, draft: Draft, held: Sequence[Sequence[int]]):
        self.first = draft.n
        self.holders = Counter(stage for stages in held for stage in set(stages))
        self.rows: list[dict[str, int]] = []
        self.deps: list[tuple[int, int]] = []
        self.groups: dict[tuple[Action, int, int], int] = {}
        self.everyone = draft.n

    def add(self, after: int, **columns: int) -> int:
        """Append a row that waits for the row `after`."""
        row = self.first + len(self.rows)
        self.rows.append({"block": -1, **columns})
        self.deps.append((row, after))
        return row

    def collective(
        self, rank: int, action: Action, stage: int, index: int, work: int, after: int
    ) -> None:
        """Append a rank's part in the index-th collective of a stage."""
        group = -1
        if self.holders[stage] > 1:
            key = (action, stage, index)
            group = self.groups.setdefault(key, self.everyone + 1 + len(self.groups))
        self.add(
            after,
            rank=rank,
            stream=tpl.DATA_PARALLEL,
            kind=Kind.TRANSFER,
            action=action,
            component=COMPONENT_ID[_COMPONENT[action]],
            stage=stage,
            work=work,
            group=group,
        )


def _last_weight_rows(draft: Draft) -> dict[tuple[int, int, int], int]:
    """Row of the last weight gradient of each (rank, stage, layer)."""
    columns = draft.columns
    rows = np.flatnonzero((columns["action"] == Action.W) & (columns["stream"] == tpl.COMPUTE))
    keys = zip(*(columns[name][rows].tolist() for name in ("rank", "stage", "layer")), strict=True)
    return dict(zip(keys, rows.tolist(), strict=True))
