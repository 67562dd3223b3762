"""Which layers on which stage: the cut that balances the engine's times within memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simdeep.autoschedule.chunks import folded
from simdeep.cost.memory import FP8_SCALE
from simdeep.cost.program import Machine, price_program
from simdeep.program.columns import F64, Action, Kind
from simdeep.program.lower.stage_costs import BYTES, state_bytes, unit_params
from simdeep.program.lower.train import Effects, Lowered, lower
from simdeep.program.lower.units import EMBED, Unit
from simdeep.program.search import Layers, Partition, Placement, partition_layers, probe_table

if TYPE_CHECKING:
    from simdeep.engine.timeline import Timeline
    from simdeep.spec.scenario import Scenario


@dataclass(frozen=True, eq=False)
class StagePlan:
    """The balanced partition, and the seconds a micro-batch of the stages as they are."""

    balanced: Partition
    seconds_now: F64


def plan_stages(
    scenario: Scenario, machine: Machine, memory_bytes: float | None = None
) -> StagePlan:
    """Decoder layers for each stage, with embedding on the first and head and MTP on the last.

    Memory is reckoned for one stage a rank under 1F1B, whose stage s keeps pp - s micro-batches;
    with more stages a rank, each of a rank's stages has an equal share of it.

    Raises:
        InputError: no cut fits the GPU.
    """
    pp, vpp = scenario.layout.pp, scenario.layout.vpp
    memory = machine.gpu.hbm_bytes if memory_bytes is None else memory_bytes
    fixed = scenario.train.reserved_gib * 2**30
    in_flight = np.minimum(pp - np.arange(pp * vpp) % pp, scenario.microbatches)
    layers = layer_costs(scenario, machine)
    balanced = partition_layers(layers, pp * vpp, in_flight, (memory - fixed) / vpp)
    now = [list(stage.layers) for stage in scenario.layout.stages]
    return StagePlan(balanced, np.array([layers.seconds[held].sum() for held in now]))


def layer_costs(scenario: Scenario, machine: Machine) -> Layers:
    """Cost of every decoder layer; those at the ends have the edges of the model with them.

    The time of a stage's F, I and W goes to its layers as their own tasks take time.
    """
    from simdeep.engine import compiled

    layout = scenario.layout
    table = probe_table(Placement.interleaved(layout.pp, layout.vpp, scenario.microbatches))
    lowered = lower(folded(scenario), table, Effects(step_end=False))
    timeline = compiled.run(price_program(lowered.program, machine))
    n = scenario.model.n_layers
    seconds, kept = _by_layer(timeline, lowered, n)
    return Layers(seconds, _static(scenario, lowered, n), kept)


def _by_layer(timeline: Timeline, lowered: Lowered, n: int) -> tuple[F64, F64]:
    """Seconds of F, I and W, and bytes kept after F, a layer and micro-batch."""
    program, table = timeline.program, lowered.table
    cells = [cell for row in table.rows for cell in row]
    alone = np.array([len(cell) == 3 and cell[0] != "B" for cell in cells])
    firsts, lasts = np.array([_ends(units, n) for units in lowered.stages]).T
    layer = program.layer.astype(np.int64)
    stage = np.maximum(program.stage, 0)
    is_head = np.array([name in ("head", "mtp_in") for name in program.components])
    at_end = (layer >= n) | is_head[program.component]
    layer = np.where(at_end, lasts[stage], np.where(layer < 0, firsts[stage], layer))
    own = alone[program.block] & (program.action != Action.P2P)
    exposed = own & (program.kind != Kind.SYNC)
    took = np.where(exposed, timeline.end_ns - timeline.start_ns, 0)
    runs = np.array([sum(c[0] == "F" and c[1] == s for c in cells) for s in range(len(firsts))])
    turns = runs[np.searchsorted(lasts, np.arange(n))]
    seconds = np.bincount(layer[own], took[own], n) / 1e9 / turns
    forward = own & (program.action == Action.F)
    kept = np.bincount(layer[forward], program.mem_take[forward], n) / turns
    return seconds, kept


def _ends(units: tuple[Unit, ...], n: int) -> tuple[int, int]:
    """First and last decoder layer of a stage."""
    own = [unit.layer for unit in units if 0 <= unit.layer < n]
    if not own:  # only edges: their neighbour is the model's first or last layer
        own = [0 if EMBED in units else n - 1]
    return own[0], own[-1]


def _static(scenario: Scenario, lowered: Lowered, n: int) -> F64:
    """Bytes of parameters, gradients and optimizer state of every layer on one GPU."""
    layout, train = scenario.layout, scenario.train
    static = np.zeros(n)
    shares = np.array([1 / layout.size("dp_cp"), 1 / layout.edp])
    copy = BYTES[train.dtypes.params] + (1 + FP8_SCALE if train.precision == "fp8" else 0.0)
    for units in lowered.stages:
        at, _ = _ends(units, n)
        for unit, size in zip(units, unit_params(scenario.model, layout, units), strict=True):
            if 0 <= unit.layer < n:
                at = unit.layer
            shard = np.array(size) * shares
            held = [sum(size), float(shard.sum())]
            static[at] += held[layout.zero >= 3] * copy
            static[at] += held[layout.zero >= 2] * BYTES[train.dtypes.grads]
            static[at] += held[layout.zero >= 1] * state_bytes(train.dtypes)
    return static
