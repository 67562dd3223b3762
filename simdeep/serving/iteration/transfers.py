"""Transfers of an iteration: dispatch and combine, and the collectives of tensor parallelism."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simdeep.cost.alltoall import AllToAllKind, isolated, price_alltoall
from simdeep.cost.collectives import Group, TransferPrice, collective
from simdeep.program.workload.kernel import F
from simdeep.serving.deployment import Unit
from simdeep.serving.iteration.experts import hop_copies, low_latency
from simdeep.serving.iteration.stages import Stages
from simdeep.spec.model import Mla

if TYPE_CHECKING:
    from simdeep.cost.calibration import Calibration


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """Seconds of a transfer: ports (IB out, in, NVLink out, in), copying by SMs, latency."""

    ports: tuple[F, F, F, F]
    floor_s: F
    latency_s: F
    sms: int
    draw: float


NOTHING = Transfer((0.0, 0.0, 0.0, 0.0), 0.0, 0.0, 0, 0.0)


def _of(price: TransferPrice) -> Transfer:
    return Transfer(price.ports, price.floor_s, price.latency_s, price.sms, price.draw)


def alltoall(stages: Stages, direction: str) -> Transfer:
    """Dispatch or combine of a micro-batch's tokens, by the unit's kernels."""
    unit = stages.unit
    if unit.ep == 1:
        return NOTHING
    if unit.mode == "low-latency" or unit.ideal_network:
        return _low_latency(stages, direction)
    kind: AllToAllKind = "combine" if direction == "combine" else "dispatch"
    copies = hop_copies(unit, stages.shard)
    calibration, topology = stages.bench.calibration, unit.topology
    hidden = unit.model.hidden
    if unit.microbatches == 2:
        return _of(
            price_alltoall(
                kind,
                copies,
                topology,
                calibration,
                sms=unit.comm_sms,
                hidden=hidden,
                dtype=unit.dispatch,
            )
        )
    # Nothing computes beside it: the kernel as it runs alone.
    alone = isolated(kind, copies, topology, unit.comm_sms, hidden, unit.dispatch)
    ports = alone.port_s.max(axis=2)
    return Transfer(
        (ports[0], ports[1], ports[2], ports[3]),
        alone.finish_s.max(axis=1),
        alone.notify_s,
        unit.comm_sms,
        1.0,
    )


def _low_latency(stages: Stages, direction: str) -> Transfer:
    """The part of the kernel that holds no SM: what its send and receive kernels do is compute."""
    unit = stages.unit
    found = low_latency(unit, stages.shard, direction)
    fixed = 0.0 if unit.ideal_network else max(0.0, found.fixed_s - _on_sms(stages))
    moved = float(found.port_s.sum(axis=0).max())
    busy = float(found.moving_s.max())
    ports = found.port_s
    draw = _draw(stages.bench.calibration, ports, unit) if busy > 0 and moved > 0 else 0.0
    return Transfer((ports[0], ports[1], ports[2], ports[3]), found.moving_s, fixed, 0, draw)


def _on_sms(stages: Stages) -> float:
    """Seconds of the launches of a send and a receive kernel, part of the measured fixed time."""
    return 2.0 * stages.bench.calibration.memory_curve("copy").floor_s


def _draw(calibration: Calibration, ports: np.ndarray, unit: Unit) -> float:
    """Pull on HBM and L2: bytes a second over all ports, in measured all-to-all transfers."""
    topology = unit.topology
    rates = np.array([topology.nic_bw, topology.nic_bw, topology.nvlink_bw, topology.nvlink_bw])
    busy = float(ports.max())
    moved = float((ports.mean(axis=1) * rates).sum())
    return moved / busy / calibration.draw_reference


def gather(stages: Stages) -> Transfer:
    """Sequence parallelism, before attention's heads: latents, or the hidden state."""
    attention = stages.unit.model.attention
    width = float(stages.hidden)
    if isinstance(attention, Mla):
        width = float((attention.q_lora_rank or stages.hidden) + attention.kv_values)
    return _tensor_parallel(stages, "all_gather", stages.rows * width * 2.0)


def reduce(stages: Stages) -> Transfer:
    """After a layer split over heads or width: sums of all GPUs of the tp group."""
    nbytes = stages.rows * stages.hidden * 2.0
    unit = stages.unit
    split = unit.sp or unit.moe is not None
    return _tensor_parallel(stages, "reduce_scatter" if split else "all_reduce", nbytes)


def regather(stages: Stages) -> Transfer:
    """Tokens split over the tp group joined again: before a split FFN, or after the experts."""
    return _tensor_parallel(stages, "all_gather", stages.rows * stages.hidden * 2.0)


def _tensor_parallel(stages: Stages, kind: str, nbytes: float) -> Transfer:
    """The better of a ring and of everyone reading from everyone in one step (small messages)."""
    unit, topology = stages.unit, stages.unit.topology
    calibration = stages.bench.calibration
    group = Group.of(unit.tp, topology.gpus_per_node)
    if unit.tp == 1:
        return NOTHING
    assert kind in ("all_gather", "reduce_scatter", "all_reduce")
    ring = collective(kind, nbytes, group, topology, calibration)  # type: ignore[arg-type]
    part = nbytes if kind == "all_reduce" else nbytes / unit.tp
    moved = part * (unit.tp - 1)
    one_step = TransferPrice(
        0.0,
        0.0,
        moved / topology.nvlink_bw,
        moved / topology.nvlink_bw,
        0.0,
        topology.nvlink_latency_s,
        0,
        ring.draw,
    )
    return _of(min(ring, one_step, key=lambda p: float(np.max(p.alone_s))))
