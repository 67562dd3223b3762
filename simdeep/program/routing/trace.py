"""Recorded token traces: which experts each token of a run went to, and their replay.

The format is described in docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from simdeep.errors import InputError, Problem
from simdeep.program.routing.counts import Counts
from simdeep.program.routing.dispatches import Dispatches, from_counts
from simdeep.program.routing.kernels import F64, I16, I32, I64
from simdeep.program.routing.placement import Placement


@dataclass(frozen=True, eq=False)
class RoutingTrace:
    """Tokens of a run in the order of dispatches: by layer, then micro-batch, then as recorded."""

    n_experts: int
    layer: I32
    """[rows] the MoE layer."""
    microbatch: I32
    """[rows] the micro-batch; all zero where none is recorded."""
    token: I64
    """[rows] number of the token, unique on its source rank in a layer and micro-batch."""
    experts: I16
    """[rows, topk] its distinct experts."""
    source: I32 | None
    """[rows] the rank it comes from; None where not recorded."""
    path: Path | None = None

    @property
    def topk(self) -> int:
        """Experts of a token."""
        return int(self.experts.shape[1])

    def bounds(self) -> I64:
        """First row of each dispatch (one layer of one micro-batch), and the number of rows."""
        changed = (np.diff(self.layer) != 0) | (np.diff(self.microbatch) != 0)
        return np.concatenate([[0], np.flatnonzero(changed) + 1, [len(self.layer)]])

    def dispatches(self, ranks: int) -> Iterator[tuple[int, int, I16, I32]]:
        """Layer, micro-batch, experts and source ranks of each dispatch.

        Where no source is recorded, the tokens of a dispatch are dealt out evenly, in their order:
        the i-th of n comes from rank `i * ranks // n`.
        """
        where = str(self.path or "")
        if self.source is not None:
            beyond = np.flatnonzero(self.source >= ranks)
            if len(beyond):
                raise InputError(
                    [
                        Problem(
                            where,
                            "source",
                            f"{self.row(int(beyond[0]))} comes from rank {self.source[beyond[0]]}; "
                            f"the expert-parallel group has ranks 0 to {ranks - 1}",
                        )
                    ]
                )
        bounds = self.bounds()
        for first, end in pairwise(bounds):
            rows = slice(int(first), int(end))
            source = self.source
            here = (
                (np.arange(end - first) * ranks // (end - first)).astype(np.int32)
                if source is None
                else source[rows]
            )
            yield int(self.layer[first]), int(self.microbatch[first]), self.experts[rows], here

    def row(self, index: int) -> str:
        """How an error names a row."""
        return f"layer {self.layer[index]}, token {self.token[index]}"


def replay(
    trace: RoutingTrace, placement: Placement, tokens_per_rank: int | None = None
) -> Dispatches:
    """One draw for each layer and micro-batch of the trace, in its order.

    With `tokens_per_rank` the recorded tokens are taken as a sample of so many a rank, and counts
    are scaled to `tokens_per_rank * ranks` tokens; without, they are all there is.
    """
    if trace.n_experts != placement.experts:
        raise InputError(
            [
                Problem(
                    str(trace.path or ""),
                    "n_experts",
                    f"is {trace.n_experts}; {placement.experts} experts are placed",
                )
            ]
        )
    ranks = placement.ranks
    counts = []
    sent = []
    for _, _, experts, source in trace.dispatches(ranks):
        counts.append(Counts(placement))
        counts[-1].add(experts, source)
        sent.append(np.bincount(source, minlength=ranks))
    tokens: F64 = np.stack(sent).astype(np.float64)
    if tokens_per_rank is None:
        return from_counts(counts, tokens)
    scale = tokens_per_rank * ranks / tokens.sum(axis=1)
    return from_counts(counts, tokens * scale[:, None], scale)


def expert_loads(trace: RoutingTrace) -> F64:
    """Tokens of each expert in each dispatch, [dispatches, experts]."""
    bounds = trace.bounds()
    return np.stack(
        [
            np.bincount(trace.experts[a:b].ravel(), minlength=trace.n_experts)
            for a, b in pairwise(bounds)
        ]
    ).astype(np.float64)
