"""(token, expert) messages of the low-latency kernels between every two GPUs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError
from simdeep.program.routing.draws import gate_tokens
from simdeep.program.routing.gate import GateSpec
from simdeep.program.routing.placement import Placement
from simdeep.program.routing.popularity import Popularity
from simdeep.program.routing.traffic import PointToPoint, point_to_point

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PairTraffic:
    """Messages [draws, source, destination] in dispatch direction; combine sends them back."""

    gpus_per_node: int
    pairs: F64

    def __post_init__(self) -> None:
        if self.pairs.ndim != 3 or self.pairs.shape[1] != self.pairs.shape[2]:
            raise InputError(f"messages {self.pairs.shape}: must be [draws, source, destination]")
        if self.ranks > self.gpus_per_node and self.ranks % self.gpus_per_node:
            raise InputError(f"{self.ranks} GPUs do not fill nodes of {self.gpus_per_node}")

    @property
    def ranks(self) -> int:
        """GPUs of the group."""
        return int(self.pairs.shape[1])


def from_tokens(dispatches: Iterable[PointToPoint], gpus_per_node: int) -> PairTraffic:
    """Messages of routed tokens, one draw for each dispatch."""
    return PairTraffic(gpus_per_node, np.stack([d.rows for d in dispatches]).astype(np.float64))


def random_pairs(
    gate: GateSpec,
    placement: Placement,
    tokens_per_rank: int,
    draws: int = 1,
    seed: int = 0,
    skew: float | Popularity = 0.0,
) -> PairTraffic:
    """Messages of tokens drawn from a gate; see `gate_tokens`."""
    if placement.experts != gate.experts:
        raise InputError(f"{placement.experts} experts are placed, the gate has {gate.experts}")
    drawn = (
        gate_tokens(gate, placement.ranks, tokens_per_rank, skew, seed, draw)
        for draw in range(draws)
    )
    return from_tokens(
        (point_to_point(experts, source, placement) for experts, source in drawn),
        placement.gpus_per_node,
    )
