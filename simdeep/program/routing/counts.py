"""What the routed tokens of one dispatch cause: tokens of each expert slot, copies of each hop."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from simdeep.errors import InputError
from simdeep.program.routing.kernels import I16, I32, I64, compiled, count_kernel
from simdeep.program.routing.placement import Placement


@dataclass(eq=False)
class Counts:
    """Sums over the tokens added so far; whole numbers.

    `slot_tokens` [slots]: (token, expert) pairs of each slot. `landed` [ranks, nodes]: tokens of a
    source rank that have experts on a node, its own included. `forwarded` [ranks, GPUs a node]:
    tokens that landed on a rank (or began there) and have experts on a GPU of its node, itself
    included.
    """

    placement: Placement
    tokens: int = 0
    slot_tokens: I64 = field(init=False)
    landed: I64 = field(init=False)
    forwarded: I64 = field(init=False)
    turn: I32 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        place = self.placement
        self.slot_tokens = np.zeros(place.slots, dtype=np.int64)
        self.landed = np.zeros((place.ranks, place.nodes), dtype=np.int64)
        self.forwarded = np.zeros((place.ranks, place.ranks // place.nodes), dtype=np.int64)
        self.turn = np.zeros(place.experts, dtype=np.int32)

    def add(self, experts: I16, source: I32) -> None:
        """Add tokens: their distinct experts [tokens, topk] and the rank each comes from [tokens].

        Inputs are trusted; `check_experts` is for those from elsewhere.
        """
        place = self.placement
        compiled(count_kernel)(
            experts,
            source,
            place.slot_ptr,
            place.slot_rank,
            place.gpus_per_node,
            self.turn,
            self.slot_tokens,
            self.landed,
            self.forwarded,
        )
        self.tokens += len(experts)

    @property
    def nodes_per_token(self) -> float:
        """Nodes that hold a token's experts; mean over tokens."""
        return int(self.landed.sum()) / self.tokens

    @property
    def gpus_per_token(self) -> float:
        """GPUs that hold a token's experts; mean over tokens."""
        return int(self.forwarded.sum()) / self.tokens


def check_experts(experts: I16, n_experts: int) -> None:
    """Refuse tokens that name an unknown expert or one expert twice."""
    unknown = (experts < 0) | (experts >= n_experts)
    if unknown.any():
        token, k = np.argwhere(unknown)[0]
        raise InputError(
            f"token {token} names expert {experts[token, k]}; experts are 0 to {n_experts - 1}"
        )
    repeated = np.flatnonzero(repeats(experts))
    if len(repeated):
        raise InputError(f"token {repeated[0]} names an expert twice")


def repeats(experts: I16) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which tokens [tokens, topk] name an expert twice."""
    ordered = np.sort(experts, axis=1)
    return np.asarray((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
