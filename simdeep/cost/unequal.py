"""GPUs that differ from the others: what that does to the times of a priced program's tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.program.columns import F64, I32, I64, Kind, Program

if TYPE_CHECKING:
    from simdeep.spec.topology import Topology

# Ports of a GPU in the order of TransferPrice.ports.
IB_OUT, IB_IN, NVL_OUT, NVL_IN = range(4)
PORTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Unequal:
    """Clock, NIC and NVLink bandwidth of each rank's GPU as shares of the nominal ones [ranks].

    `carrier` is the rank whose NIC takes a rank's traffic between nodes: its own, or the next of
    the node where its own is down. `detour` is the time of a byte on NVLink over that on a NIC.
    """

    speed: F64
    nic: F64
    nvlink: F64
    carrier: I64
    detour: float

    @classmethod
    def of(cls, topology: Topology, ranks: int) -> Unequal:
        """The first `ranks` GPUs of a cluster, overrides applied."""
        nic = topology.nic_bandwidths() / topology.nic_bw
        return cls(
            speed=topology.gpu_speeds()[:ranks],
            nic=nic[:ranks],
            nvlink=topology.nvlink_bandwidths()[:ranks] / topology.nvlink_bw,
            carrier=_carriers(nic > 0, topology.gpus_per_node)[:ranks],
            detour=topology.nic_bw / topology.nvlink_bw,
        )

    @property
    def links_differ(self) -> bool:
        """Whether transfers are slower anywhere."""
        return bool((self.nic != 1).any() or (self.nvlink != 1).any())


def _carriers(alive: npt.NDArray[np.bool_], per_node: int) -> I64:
    """For each GPU the first at or after it in its node, going round, whose NIC is alive."""
    place = np.arange(len(alive))
    node = place - place % per_node
    carrier = place.copy()
    for step in range(1, per_node):
        lost = ~alive[carrier]
        carrier[lost] = (node + (place + step) % per_node)[lost]
    return carrier


def port_ids(program: Program, times: F64, unequal: Unequal | None) -> tuple[I32, F64]:
    """Ports (n, 4) that tasks use, and the times their bytes take there alone.

    A send leaves its own rank and arrives at its peer's ports. Traffic of a dead NIC shares the
    ports of its carrier's and crosses its own GPU's NVLink; what it adds on the carrier's NVLink,
    several times as fast as the NIC behind it, is left out.
    """
    rank = np.repeat(program.rank[:, None].astype(np.int64), PORTS, axis=1)
    arrives = program.peer >= 0
    for port in (IB_IN, NVL_IN):
        rank[arrives, port] = program.peer[arrives]
    if unequal is not None and unequal.links_differ:
        times = times.copy()
        for nic, nvl in ((IB_OUT, NVL_OUT), (IB_IN, NVL_IN)):
            carrier = unequal.carrier[rank[:, nic]]
            moved = carrier != rank[:, nic]
            times[moved, nvl] += times[moved, nic] * unequal.detour
            rank[:, nic] = carrier
            times[:, nic] /= unequal.nic[carrier]
            times[:, nvl] /= unequal.nvlink[rank[:, nvl]]
    ids = np.where(times > 0, rank * PORTS + np.arange(PORTS), -1)
    return ids.astype(np.int32), times


def common_pace(program: Program, times: F64, floor_ns: F64) -> F64:
    """The floor of each task: no member of a collective is done before its slowest port is.

    Ring collectives pass every byte through every member, and an all-to-all's buffers are too small
    for a sender to run far ahead of a slow receiver.
    """
    together = np.flatnonzero((program.group >= 0) & (program.kind == Kind.TRANSFER))
    group = program.group[together]
    slowest = np.zeros(int(group.max(initial=-1)) + 1)
    np.maximum.at(slowest, group, times[together].max(axis=1))
    floor = floor_ns.copy()
    floor[together] = np.maximum(floor[together], slowest[group])
    return floor
