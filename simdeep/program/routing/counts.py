"""What routed tokens cause on each rank: rows, unique tokens and copies over both networks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from simdeep.errors import InputError
from simdeep.program.routing.kernels import F64, I16, I32, I64, compiled, count_kernel
from simdeep.program.routing.placement import Placement

ROW_PADDING = 128
"""Rows of an expert are padded to multiples of this: the M tile of the grouped FP8 GEMM."""


@dataclass(eq=False)
class Counts:
    """Sums over the tokens added so far; whole numbers.

    `slot_tokens` [slots] (token, expert) pairs of each slot; `copies` [6, ranks]: unique tokens
    received, copies out and in over InfiniBand, copies out and in over NVLink (see `Loads`), and
    tokens that landed or began here and have experts on this node.
    """

    placement: Placement
    tokens: int = 0
    slot_tokens: I64 = field(init=False)
    copies: I64 = field(init=False)

    def __post_init__(self) -> None:
        self.slot_tokens = np.zeros(len(self.placement.slot_rank), dtype=np.int64)
        self.copies = np.zeros((6, self.placement.ranks), dtype=np.int64)

    def add(self, experts: I16, source: I32) -> None:
        """Add tokens: their distinct experts [tokens, topk] and the rank each comes from [tokens].

        Inputs are trusted; `check_experts` is for those read from a file.
        """
        place = self.placement
        compiled(count_kernel)(
            experts,
            source,
            place.slot_ptr,
            place.slot_rank,
            place.gpus_per_node,
            self.slot_tokens,
            self.copies,
        )
        self.tokens += len(experts)

    def expert_tokens(self) -> I64:
        """Tokens of each expert over its replicas, [experts]."""
        return np.add.reduceat(self.slot_tokens, self.placement.slot_ptr[:-1])

    def rows(self, scale: float) -> F64:
        """Rows the experts of each rank work on, [ranks]: scaled, then padded slot by slot."""
        rows = np.zeros(self.placement.ranks, dtype=np.float64)
        padded = np.ceil(self.slot_tokens * scale / ROW_PADDING) * ROW_PADDING
        np.add.at(rows, self.placement.slot_rank, padded)
        return rows

    @property
    def nodes_per_token(self) -> float:
        """Nodes that hold a token's experts; mean over tokens."""
        return int(self.copies[5].sum()) / self.tokens

    @property
    def gpus_per_token(self) -> float:
        """GPUs that hold a token's experts; mean over tokens."""
        return int(self.copies[0].sum()) / self.tokens


def check_experts(experts: I16, n_experts: int) -> None:
    """Refuse recorded tokens that name an unknown expert or one expert twice."""
    unknown = (experts < 0) | (experts >= n_experts)
    if unknown.any():
        token, k = np.argwhere(unknown)[0]
        raise InputError(
            f"token {token} names expert {experts[token, k]}; experts are 0 to {n_experts - 1}"
        )
    ordered = np.sort(experts, axis=1)
    repeated = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if len(repeated):
        raise InputError(f"token {repeated[0]} names an expert twice")
