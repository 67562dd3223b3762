"""The end of a step at least: gradients reduced, optimizer, parameters gathered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.cost.kernels import price
from simdeep.planner.candidates import Candidates
from simdeep.planner.groups import Group
from simdeep.planner.holdings import Holdings
from simdeep.program.lower.stage_costs import BYTES
from simdeep.program.workload.optimizer import optimizer_kernels

if TYPE_CHECKING:
    from simdeep.cost.program import Machine

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StepEndBound:
    """Seconds: [candidates, ranks] `reduce` behind a rank's last gradient; [candidates] `after`
    everything is reduced; [candidates] `streams`, what collectives of a whole step take on their
    stream."""

    reduce: F64
    after: F64
    streams: F64


def bound_step_end(
    group: Group, candidates: Candidates, held: Holdings, machine: Machine
) -> StepEndBound:
    """Bounds of the step end of a group's candidates."""
    rows, train = group.rows, group.scenario.train
    zero = candidates["zero"][rows][:, None]
    params, grads = BYTES[train.dtypes.params], BYTES[train.dtypes.grads]
    whole = held.dense, held.expert
    reduced = _replicas(group, candidates, whole, machine, grads)
    gathered = _replicas(group, candidates, whole, machine, params)
    passes = np.where(zero == 0, 2, 1)
    late = train.grad_sync == "after"
    optimizer = _optimizer(group, candidates, held, machine)
    gather = np.where((zero >= 1) & (zero <= 2), gathered, 0.0)
    # From ZeRO-2 on every micro-batch reduces, in ZeRO-3 it gathers twice: one after the other.
    run = held.run_dense, held.run_expert
    scatter = _replicas(group, candidates, run, machine, grads)
    fetch = 2 * _replicas(group, candidates, run, machine, params)
    every = np.maximum(np.where(zero >= 2, scatter, 0.0), np.where(zero == 3, fetch, 0.0))
    every = every * ((candidates["dp"] * candidates["cp"])[rows][:, None] > 1)
    return StepEndBound(
        reduce=np.where(zero <= 1, passes * reduced, 0.0) * late,
        after=(optimizer + gather).max(axis=1),
        streams=(candidates["microbatches"][rows][:, None] * every).max(axis=1),
    )


def _optimizer(group: Group, candidates: Candidates, held: Holdings, machine: Machine) -> F64:
    """[candidates, ranks] seconds; each kernel takes a fixed time and one for each parameter."""
    train = group.scenario.train

    def seconds(owned: float, total: float, fp8: float) -> float:
        kernels = optimizer_kernels(owned, total, moments=train.dtypes.moments, fp8_weights=fp8)
        return float(price(kernels, machine.gpu, machine.calibration, machine.compute_sms).alone_s)

    unit = 1e9
    none = seconds(0.0, 0.0, 0.0)
    each = [(seconds(*(unit * (i == j) for j in range(3))) - none) / unit for i in range(3)]
    zero = candidates["zero"][group.rows][:, None]
    owned = np.where(zero >= 1, held.shard, held.dense + held.expert)
    fp8 = np.array([p == "fp8" for p in candidates.space.values["precision"]])[
        candidates["precision"][group.rows]
    ][:, None]
    # The cast has a launch of its own, so its slope is a little high: leave it out where unsure.
    return none + owned * each[0] + (held.dense + held.expert) * each[1] + 0.0 * fp8


def _replicas(
    group: Group,
    candidates: Candidates,
    held: tuple[F64, F64],
    machine: Machine,
    each: float,
) -> F64:
    """[candidates, ranks] seconds of a ring pass over replicas, for (dense, expert) parameters."""
    rows, per_node = group.rows, group.scenario.topology.gpus_per_node
    copies = group.pipeline.copies
    links, curve = machine.links, machine.calibration.collective
    total = 0.0 * held[0]
    for size, stride, params in (
        (candidates["dp"] * candidates["cp"], candidates["tp"], held[0]),
        (
            candidates["dp"] * candidates["cp"] * candidates["tp"] // candidates["ep"],
            candidates["ep"],
            held[1],
        ),
    ):
        members = size[rows][:, None]
        inside = np.minimum(members, -(-per_node // stride[rows][:, None]))
        nodes = -(-members // inside) * copies
        moved = params * each
        nic = (nodes - 1) / nodes * moved / inside / (links.nic_bw * curve.nic_fraction)
        nvl = (inside - 1) / inside * moved / (links.nvlink_bw * curve.nvl_fraction)
        total = total + np.where(members * copies > 1, np.maximum(nic, nvl), 0.0)
    return total
