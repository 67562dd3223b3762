"""What a run gave beside what was predicted of it; plain data, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simdeep.program.columns import F64, I64
from simdeep.program.routing import RoutingTrace
from simdeep.validate.hooks.device import Device
from simdeep.validate.hooks.measurement import Spread
from simdeep.validate.moe.case import Case
from simdeep.validate.moe.curve import Curve, ExpertTime

GRADIENT_TOLERANCE = 1e-5
"""Largest error of a float32 gradient that counts as equal, relative to its largest entry."""

TOLERANCE = 0.25
"""Largest error of a phase's time that counts as agreement."""

PHASES = {
    "dispatch F": "rows to their experts, and how many they are",
    "experts F": "busiest rank's experts",
    "combine F": "outputs back to their tokens",
    "combine B": "gradients of outputs to the experts",
    "experts B": "busiest rank's experts, input and weight gradients",
    "dispatch B": "gradients of rows back to their tokens",
}
"""Phases of an MoE layer in the order of a step; F forward, B backward."""

TRANSFERS = tuple(name for name in PHASES if not name.startswith("experts"))


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a phase in a step, all MoE layers; a transfer counts from its last arrival."""

    predicted_s: float
    measured: Spread

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted_s / self.measured.median_s - 1


@dataclass(frozen=True)
class Point:
    """One number of tokens a rank.

    `routing` is what the gates chose in one process. `predicted_rows` [MoE layers, experts] come
    from it by the simulator's replay, `measured_rows` are those that arrived. Waits are seconds a
    step that ranks stand at combines because another rank's experts are slower, mean over ranks.
    """

    tokens: int
    routing: RoutingTrace
    predicted_rows: F64
    measured_rows: I64
    timings: Mapping[str, Timing]
    """By phase, then `layer F` and `layer B`: from the first dispatch's last arrival to the end."""
    waits: Timing
    bytes_sent: float
    """Of one rank in one all-to-all of rows, to others: mean over ranks and layers."""
    gradient_error: float
    loss: float
    reference_loss: float

    @property
    def rows_elsewhere(self) -> int:
        """Rows that went to another expert than predicted."""
        return int(abs(self.predicted_rows - self.measured_rows).sum()) // 2

    def by_rank(self, rows: F64 | I64, ranks: int) -> F64:
        """Rows of experts added up by rank, [layers, ranks]."""
        summed: F64 = rows.reshape(len(rows), ranks, -1).sum(axis=2).astype(np.float64)
        return summed

    def imbalance(self, rows: F64 | I64, ranks: int) -> float:
        """Rows of the busiest rank over those of the mean one, mean over layers."""
        loads = self.by_rank(rows, ranks)
        return float((loads.max(axis=1) / loads.mean(axis=1)).mean())

    @property
    def worst(self) -> float:
        """Largest error of a phase, either way."""
        return max(abs(self.timings[name].error) for name in PHASES)

    @property
    def equal(self) -> bool:
        """Whether the gradients are those of one process."""
        return self.gradient_error <= GRADIENT_TOLERANCE


@dataclass(frozen=True)
class Outcome:
    """All points of a case, and what they were predicted from."""

    case: Case
    model: str
    device: Device
    losses: tuple[float, ...]
    """Of the gate's training, step by step."""
    alone: tuple[ExpertTime, ...]
    """One expert in a process with the machine to itself; not predicted from, to compare."""
    forward: Curve
    """Seconds of one expert against its rows, while every rank computes."""
    backward: Curve
    transfer: Curve
    """Seconds of an all-to-all against the bytes a rank sends to others."""
    points: tuple[Point, ...]

    def agrees(self, tolerance: float) -> bool:
        """Whether every phase is within the tolerance and every gradient equal."""
        return all(point.worst <= tolerance and point.equal for point in self.points)
