"""Dispatches: what routing draws cause, from which loads and traffic matrices are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simdeep.program.routing.counts import Counts
from simdeep.program.routing.kernels import F64
from simdeep.program.routing.loads import Loads
from simdeep.program.routing.placement import Placement
from simdeep.program.routing.traffic import TrafficMatrix, expand

ROW_PADDING = 128
"""Rows of an expert are padded to multiples of this: the M tile of the grouped FP8 GEMM."""


@dataclass(frozen=True, eq=False)
class Dispatches:
    """Counts of tokens for each of several dispatches of one group, float64.

    Whole numbers, unless a sample was scaled up or expectations were taken.
    """

    placement: Placement
    tokens: F64
    """[draws, ranks] tokens each rank sends."""
    slot_tokens: F64
    """[draws, slots] (token, expert) pairs of each expert slot."""
    landed: F64
    """[draws, ranks, nodes] tokens of a source rank with experts on a node, its own included."""
    forwarded: F64
    """[draws, ranks, GPUs a node] tokens landed on a rank with experts on a GPU of its node."""

    @property
    def draws(self) -> int:
        """Number of dispatches."""
        return len(self.tokens)

    def traffic(self, draw: int) -> TrafficMatrix:
        """Copies of one dispatch over both networks."""
        return expand(self.landed[draw], self.forwarded[draw], self.placement.gpus_per_node)

    def loads(self) -> Loads:
        """The same dispatches, summed up by rank."""
        place = self.placement
        draws, ranks, nodes = self.landed.shape
        per_node = ranks // nodes
        rank = np.arange(ranks)
        away = self.landed.copy()
        away[:, rank, rank // place.gpus_per_node] = 0
        onward = self.forwarded.copy()
        onward[:, rank, rank % place.gpus_per_node] = 0
        # A copy lands on the GPU of its source's index, and is forwarded inside its node.
        landing = away.reshape(draws, nodes, per_node, nodes).sum(axis=1)
        by_node = (draws, nodes, per_node, per_node)
        rows = np.zeros((ranks, draws), dtype=np.float64)
        padded = np.ceil(self.slot_tokens / ROW_PADDING) * ROW_PADDING
        np.add.at(rows, place.slot_rank, padded.T)
        sent = self.tokens.sum(axis=1)
        return Loads(
            tokens=self.tokens,
            rows=np.ascontiguousarray(rows.T),
            unique=self.forwarded.reshape(by_node).sum(axis=2).reshape(draws, ranks),
            ib_out_copies=away.sum(axis=2),
            ib_in_copies=landing.transpose(0, 2, 1).reshape(draws, ranks),
            nvl_out_copies=onward.sum(axis=2),
            nvl_in_copies=onward.reshape(by_node).sum(axis=2).reshape(draws, ranks),
            nodes_per_token=self.landed.sum(axis=(1, 2)) / sent,
            gpus_per_token=self.forwarded.sum(axis=(1, 2)) / sent,
            expert_tokens=np.add.reduceat(self.slot_tokens, place.slot_ptr[:-1], axis=1),
        )


def from_counts(counts: Sequence[Counts], tokens: F64, scale: F64 | float = 1.0) -> Dispatches:
    """Dispatches of one placement from their counts, each times its `scale` [draws].

    `tokens` [draws, ranks] are those sent, scaled already.
    """

    def stack(name: str) -> F64:
        values: F64 = np.stack([getattr(c, name) for c in counts]).astype(np.float64)
        factor = np.broadcast_to(np.asarray(scale, dtype=np.float64), len(counts))
        return values * factor.reshape(-1, *(1,) * (values.ndim - 1))

    return Dispatches(
        counts[0].placement, tokens, stack("slot_tokens"), stack("landed"), stack("forwarded")
    )
