"""Memory that a rank holds all the time: parameters, gradients, optimizer state, buffers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.program.lower.stage_costs import (
    BYTES,
    linear_params,
    rank_params,
    state_bytes,
    unit_params,
)
from simdeep.program.lower.train import Lowered
from simdeep.program.lower.units import Unit
from simdeep.program.lower.works import AllToAllWork
from simdeep.spec.scenario import Scenario

I64 = npt.NDArray[np.int64]

FP8_SCALE = 4.0 / (128 * 128)
"""FP32 scale of a 128x128 weight block, bytes a parameter (arXiv 2412.19437 sec 3.3.2)."""


@dataclass(frozen=True, eq=False)
class StaticMemory:
    """Bytes by part over pipeline ranks, and what is kept on the host."""

    parts: dict[str, I64]
    host: dict[str, I64]


def static_memory(scenario: Scenario, lowered: Lowered) -> StaticMemory:
    """What every rank holds from start to end of a step.

    DualPipe's ranks hold two stages, hence twice the parameters and gradients; ZeRO-1 shards the
    optimizer state over all replicas, ZeRO-2 gradients, ZeRO-3 parameters too.
    """
    layout, dtypes, table = scenario.layout, scenario.train.dtypes, lowered.table
    fp8 = scenario.train.precision == "fp8"
    model = scenario.model
    on_rank = [[lowered.stages[stage] for stage in stages] for stages in table.stages_of]
    held = np.array([np.sum(rank_params(model, layout, units), axis=0) for units in on_rank])
    quantised = np.array([sum(linear_params(model, layout, u) for u in units) for units in on_rank])
    replicas = np.array([layout.size("dp_cp"), layout.edp]) * table.param_copies
    shard = (held / replicas).sum(axis=1)
    full = held.sum(axis=1)
    zero = layout.zero
    parameters_share = shard / full if zero == 3 else np.ones_like(full)
    parameters = (shard if zero == 3 else full) * BYTES[dtypes.params]
    parts = {
        "parameters": parameters,
        "fp8 weights": parameters_share * quantised * (1 + FP8_SCALE) if fp8 else 0 * full,
        "gradients": (shard if zero >= 2 else full) * BYTES[dtypes.grads],
        "optimizer state": (shard if zero >= 1 else full) * state_bytes(dtypes),
        "gathered": _gathered(scenario, on_rank),
        "buffers": _buffers(scenario, lowered, len(full)),
        "reserved": np.full(len(full), scenario.train.reserved_gib * 2**30),
    }
    host = {"EMA of parameters": full * 4.0} if dtypes.ema else {}
    return StaticMemory(
        {name: np.rint(part).astype(np.int64) for name, part in parts.items()},
        {name: np.rint(part).astype(np.int64) for name, part in host.items()},
    )


def _gathered(scenario: Scenario, on_rank: list[list[tuple[Unit, ...]]]) -> npt.NDArray[np.float64]:
    """What ZeRO-2 and 3 hold of a layer while it runs: its whole gradients, and from ZeRO-3 on its
    parameters and those of the layer gathered ahead of it."""
    layout, dtypes = scenario.layout, scenario.train.dtypes
    model = scenario.model
    largest = np.array(
        [
            max(sum(size) for units in stages for size in unit_params(model, layout, units))
            for stages in on_rank
        ]
    )
    each = 0.0
    if layout.zero >= 2:
        each += BYTES[dtypes.grads]
    if layout.zero == 3:
        each += 2 * BYTES[dtypes.params]
    return largest * each


def _buffers(scenario: Scenario, lowered: Lowered, ranks: int) -> npt.NDArray[np.float64]:
    """Receive buffers of one dispatch and one combine, and of both pipeline directions."""
    tokens = scenario.train.mbs * scenario.train.seq_len / scenario.layout.cp
    hidden = tokens * scenario.model.hidden * 2.0
    pipeline = 4 * hidden if scenario.layout.pp > 1 else 0.0
    expert = 0.0
    if lowered.cases is not None and any(
        isinstance(work, AllToAllWork) for work in lowered.program.works
    ):
        expert = 2 * float(lowered.cases.unique.max()) * scenario.model.hidden * 2.0
    return np.full(ranks, pipeline + expert)
