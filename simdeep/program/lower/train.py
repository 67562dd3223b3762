"""A scenario as a program: the recipe of all lowering passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.errors import InputError, Problem
from simdeep.program.columns import Program
from simdeep.program.lower.build import Sends, build
from simdeep.program.lower.cases import Cases, drawn_cases, replayed_cases
from simdeep.program.lower.draft import Draft
from simdeep.program.lower.draws import kept_loads
from simdeep.program.lower.finish import WHOLE_STAGE, Bucket, StepEnd, add_step_end
from simdeep.program.lower.stage_costs import (
    BYTES,
    Workshop,
    linear_params,
    rank_params,
    unit_params,
)
from simdeep.program.lower.unfold import unfold
from simdeep.program.lower.units import Unit, layer_unit, stage_units
from simdeep.program.lower.works import (
    CollectiveKind,
    CollectivesWork,
    CollectiveWork,
    KernelWork,
    Nothing,
    P2pWork,
    Works,
)
from simdeep.program.remember import remembered
from simdeep.program.routing import EXAMPLE, TRACE, parse_popularity
from simdeep.program.routing.recorded import DIRECTIONS
from simdeep.program.schedule.table import Table
from simdeep.program.workload.optimizer import optimizer_kernels
from simdeep.program.workload.shape import Shape
from simdeep.spec.model import MoeFfn
from simdeep.spec.scenario import Scenario

Stages = tuple[tuple[Unit, ...], ...]

_ACTIVATION_BYTES = 2.0


@dataclass(frozen=True, slots=True)
class Effects:
    """What of a real step to simulate; a contribution is the difference that one of these makes.

    `edges`: embedding, head, MTP and dense layers; without them every stage has the same number of
    layers of the model's last kind. `sends`: transfers between stages take time. `step_end`:
    gradient reduction, optimizer, parameter gathering. `imbalance`: experts get different loads.
    """

    edges: bool = True
    sends: bool = True
    step_end: bool = True
    imbalance: bool = True


ALL_EFFECTS = Effects()


@dataclass(frozen=True, eq=False)
class Lowered:
    """A program with what the passes knew: the schedule, the units of each stage, the cases."""

    program: Program
    table: Table
    stages: Stages
    cases: Cases | None


def moe_ffn(scenario: Scenario) -> MoeFfn | None:
    """The routed feed-forward part of the model, if it has one."""
    layers = (*scenario.model.layers, *scenario.model.mtp)
    return next((layer.ffn for layer in layers if isinstance(layer.ffn, MoeFfn)), None)


def lower(scenario: Scenario, table: Table, effects: Effects = ALL_EFFECTS) -> Lowered:
    """Lower a training step (or a pair of chunks) under a schedule table."""
    model, layout, train = scenario.model, scenario.layout, scenario.train
    n_layers = model.n_layers + model.mtp_layers
    if scenario.kind == "fb-pair":
        stages: Stages = (tuple(layer_unit(model, index) for index in scenario.layers),)
    else:
        stages = tuple(stage_units(model, stage) for stage in layout.stages)
        if not effects.edges:
            stages = _equal_stages(scenario)
    cases = routing_cases(scenario, table.n_microbatches, effects.imbalance)
    works = Works()
    gpus_per_node = scenario.topology.gpus_per_node
    fold = scenario.simulate.fold
    shape = rank_shape(scenario, cases)
    workshop = Workshop(
        model, layout, train, gpus_per_node, shape, cases, works, fold, table.param_copies
    )
    draft = build(
        table,
        stages,
        [workshop.costs(units) for units in stages],
        _sends(scenario, works, effects.sends),
        _case_table(cases, n_layers, table.n_microbatches),
    )
    if scenario.kind == "train" and effects.step_end:
        draft = _step_end(scenario, table, stages, workshop, draft)
    program = draft.program(works)
    if not fold:
        program = unfold(program, layout, cases)
    return Lowered(program, table, stages, cases)


def _equal_stages(scenario: Scenario) -> Stages:
    """Every stage as many layers of the model's last kind as the middle stages have."""
    model, layout = scenario.model, scenario.layout
    counts = sorted(len(stage.layers) for stage in layout.stages)
    unit = layer_unit(model, model.n_layers - 1)
    return ((unit,) * counts[len(counts) // 2],) * layout.n_stages


def rank_shape(scenario: Scenario, cases: Cases | None) -> Shape:
    """What one rank sees of a micro-batch; without cases, no rows of experts."""
    layout, train = scenario.layout, scenario.train
    moe = moe_ffn(scenario)
    return _same_shape(
        train.mbs * train.seq_len // layout.cp,
        train.seq_len,
        layout.tp,
        layout.sp,
        layout.cp,
        layout.ep,
        0.0 if cases is None else cases.rows,
        0.0 if cases is None else cases.unique,
        1 if moe is None else moe.experts // layout.ep,
    )


# One object for equal shapes: kernels are remembered by it.
_same_shape = remembered(maxsize=256)(Shape)


def routing_cases(scenario: Scenario, microbatches: int, imbalance: bool = True) -> Cases | None:
    """The routing of every layer and micro-batch; None for a model without experts."""
    moe = moe_ffn(scenario)
    if moe is None:
        return None
    model, routing = scenario.model, scenario.routing
    kind = routing.kind if imbalance else "balanced"
    # Tensor parallel ranks each route a part of the sequence to the experts.
    shards = scenario.layout.cp * scenario.layout.tp
    tokens = max(1, scenario.train.mbs * scenario.train.seq_len // shards)
    per_node = _expert_ranks_per_node(scenario)
    group = (moe, scenario.layout.ep, per_node, tokens)
    seed = scenario.simulate.seed
    n_layers = model.n_layers + model.mtp_layers
    if kind == "recorded" and scenario.kind == "fb-pair":
        file = scenario.routing_file or TRACE
        forward, backward = (
            kept_loads(*group, kind, file=file, direction=direction) for direction in DIRECTIONS
        )
        # The record tells of one rank; its peers are drawn from a gate as uneven as the record.
        peers = kept_loads(*group, "gate", None, forward.draws + backward.draws, seed)
        return replayed_cases(forward, backward, peers, scenario.layers)
    file = scenario.routing_file or EXAMPLE
    skew = None if routing.skew is None else parse_popularity(routing.skew)
    drawn = kept_loads(*group, kind, skew, routing.draws, seed, file=file)
    groups = None if scenario.simulate.fold else scenario.layout.edp
    return drawn_cases(drawn, n_layers, microbatches, seed, groups)


def _expert_ranks_per_node(scenario: Scenario) -> int:
    """Ranks of an expert-parallel group on a node; refuses groups that straddle nodes unevenly."""
    ep, per_node = scenario.layout.ep, scenario.topology.gpus_per_node
    if per_node % ep and ep % per_node:
        fits = [d for d in range(1, ep + 1) if per_node % d == 0 or d % per_node == 0]
        message = (
            f"is {ep}; groups would straddle NVLink domains of {per_node} GPUs. It must divide "
            f"{per_node} or be a multiple of it, as {fits[-1]} is"
        )
        raise InputError([Problem("", "layout.ep", message)])
    return min(per_node, ep)


def _case_table(cases: Cases | None, n_layers: int, microbatches: int) -> np.ndarray:
    return np.zeros((n_layers, microbatches), np.int32) if cases is None else cases.of[..., 0]


def _sends(scenario: Scenario, works: Works, take_time: bool) -> Sends:
    """Transfers between pipeline ranks: BF16 hidden states, under sequence parallelism a tp-th.

    Without it every rank of a tensor parallel group has the whole: `scattered`, each sends a tp-th
    and they gather the rest from each other.
    """
    layout, train = scenario.layout, scenario.train
    tokens = train.mbs * train.seq_len / layout.cp
    whole = tokens * scenario.model.hidden * _ACTIVATION_BYTES
    scattered = layout.tp > 1 and not layout.sp and "scattered" in train.sends
    nbytes = whole / (layout.tp if layout.sp or scattered else 1)
    gather = None
    if scattered:
        span = layout.span("tp", scenario.topology.gpus_per_node)
        gather = CollectiveWork("all_gather", whole, span.nodes, span.ranks_per_node)
    per_node = scenario.topology.gpus_per_node

    def work(source: int, target: int) -> int:
        if not take_time:
            return 0
        # Peers send at the same time and wait for each other: one pair on two nodes sets the pace.
        peers = np.arange(layout.stage_size)
        nodes = [(rank * layout.stage_size + peers) // per_node for rank in (source, target)]
        item = P2pWork(nbytes, bool((nodes[0] == nodes[1]).all()), gather)
        return works.add(item, item)

    return Sends(work, awaited="awaited" in train.sends)


def _step_end(
    scenario: Scenario,
    table: Table,
    stages: Stages,
    workshop: Workshop,
    draft: Draft,
) -> Draft:
    """Works of reducing, updating and gathering what each rank holds."""
    model, layout, dtypes = scenario.model, scenario.layout, scenario.train.dtypes
    works, copies = workshop.works, table.param_copies

    def works_of(kind: CollectiveKind, size: tuple[float, float], each: float) -> list[int]:
        """A work for the dense and one for the expert parameters."""
        parts = workshop.over_replicas(kind, size, each, copies)
        return [works.add((part,), CollectivesWork((part,))) for part in parts]

    def layer_buckets(kind: CollectiveKind, stage: int, beside: list[Unit]) -> list[Bucket]:
        """Buckets of each unit, last unit first, as the backward makes them ready."""
        sizes = unit_params(model, layout, stages[stage], beside)
        return [
            Bucket(work, unit.layer)
            for unit, size in reversed(list(zip(stages[stage], sizes, strict=True)))
            for work in works_of(kind, size, BYTES[dtypes.grads])
        ]

    host_s = scenario.train.host_step_ms * 1e-3
    sharded = layout.zero >= 1
    reduce_kind: CollectiveKind = "reduce_scatter" if sharded else "all_reduce"
    ends = []
    for held in table.stages_of:
        sizes = dict(
            zip(held, rank_params(model, layout, [stages[stage] for stage in held]), strict=True)
        )
        dense, expert = (sum(size[i] for size in sizes.values()) for i in (0, 1))
        owned = dense + expert
        if sharded:
            owned = dense / (layout.size("dp_cp") * copies) + expert / (layout.edp * copies)
        linear = sum(linear_params(model, layout, stages[stage]) for stage in held)
        kernels = optimizer_kernels(
            owned,
            dense + expert,
            moments=dtypes.moments,
            fp8_weights=linear if scenario.train.precision == "fp8" else 0.0,
        )
        reduce: dict[int, list[Bucket]] = {}
        gather: dict[int, list[int]] = {}
        for place, stage in enumerate(held):
            if scenario.train.grad_sync == "overlap":
                beside = [unit for other in held[:place] for unit in stages[other]]
                reduce[stage] = layer_buckets(reduce_kind, stage, beside)
            else:
                whole = works_of(reduce_kind, sizes[stage], BYTES[dtypes.grads])
                reduce[stage] = [Bucket(work, WHOLE_STAGE) for work in whole]
            gather[stage] = works_of("all_gather", sizes[stage], BYTES[dtypes.params])
        ends.append(
            StepEnd(
                reduce=reduce if layout.zero <= 1 else {},
                gather=gather if sharded and layout.zero <= 2 else {},
                optimizer=works.add(("optimizer", kernels), KernelWork(kernels, host_s)),
                norm=_norm(scenario, workshop),
                waits=scenario.train.optimizer_sync == "step",
            )
        )
    return add_step_end(draft, table.stages_of, ends)


def _norm(scenario: Scenario, workshop: Workshop) -> int:
    """The all-reduce of the gradient norm, four bytes over all GPUs."""
    if scenario.layout.n_ranks == 1:
        return workshop.works.add("no norm", Nothing())
    per_node = min(workshop.gpus_per_node, scenario.layout.n_ranks)
    part = CollectiveWork("all_reduce", 4.0, -(-scenario.layout.n_ranks // per_node), per_node)
    return workshop.works.add((part,), CollectivesWork((part,)))
