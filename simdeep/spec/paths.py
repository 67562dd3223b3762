"""Routes of flows over a cluster's graph, as arrays of link ids.

A flow inside a node (NVLink domain) rides NVLink. Between nodes it leaves by one NIC and enters by
one, GPU i's NIC being NIC i; `forward` says which when the peer has another index in its node:

- `rail`: out of the sender's own NIC to the GPU of the same index in the peer's node, then over
  NVLink (DeepSeek's dispatch, arXiv 2412.19437 sec 3.2.2)
- `pxn`: over NVLink first to the GPU with the peer's index, then over its rail (NCCL's PXN)
- `spine`: straight to the peer's NIC across the fabric; between planes, which have no way across,
  as `pxn`

Between the two NICs the way is a shortest one (in links); which of several is the `policy`:

- `static`: by destination, as InfiniBand's forwarding tables: the digits of the destination's place
  choose at each switch (d-mod-k), so in a whole fat tree without oversubscription flows to
  different NICs of a leaf never meet on the way down, and those of one leaf to distinct places
  never on the way up
- `hashed`: equal-cost multi-path: by a hash of flow and seed at each switch, among all its cables
- `adaptive`: the least loaded link given the flows routed so far, one switch looked ahead

Where a NIC, switch or cable is broken, what is left is used: traffic moves over NVLink to the NIC
of a peer in the node. What cannot be reached at all is an `InputError` that names the GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError
from simdeep.spec.fabric_graph import list_gpus
from simdeep.spec.links import F64, I32, I64, KINDS, LinkTable, SwitchLinks

if TYPE_CHECKING:
    from simdeep.spec.topology import Topology

__all__ = ["KINDS", "Forward", "LinkTable", "Paths", "Policy", "SwitchLinks", "route"]

Policy = Literal["static", "hashed", "adaptive"]
Forward = Literal["rail", "pxn", "spine"]
_POLICIES = ("static", "hashed", "adaptive")
_FORWARDS = ("rail", "pxn", "spine")


@dataclass(frozen=True, eq=False)
class Paths:
    """Routes in CSR form: flow i crosses `links[ptr[i]:ptr[i+1]]` in this order."""

    ptr: I64
    links: I32

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def of(self, flow: int) -> I32:
        """Link ids of one flow."""
        return self.links[self.ptr[flow] : self.ptr[flow + 1]]

    @property
    def hops(self) -> I64:
        """Links that each flow crosses, [flows]."""
        found: I64 = np.diff(self.ptr)
        return found

    def latency(self, table: LinkTable) -> F64:
        """Seconds a small message takes on the links of each flow, [flows]."""
        flow = np.repeat(np.arange(len(self)), self.hops)
        total = np.bincount(flow, weights=table.latency[self.links], minlength=len(self))
        return np.asarray(total, dtype=np.float64)

    def link_bytes(self, table: LinkTable, flow_bytes: npt.ArrayLike) -> F64:
        """Bytes that cross each link when the flows carry `flow_bytes`, [links]."""
        each = np.repeat(np.broadcast_to(flow_bytes, len(self)), self.hops)
        total = np.bincount(self.links, weights=each, minlength=len(table))
        return np.asarray(total, dtype=np.float64)


def route(
    topology: Topology,
    src: npt.ArrayLike,
    dst: npt.ArrayLike,
    policy: Policy = "static",
    seed: int = 0,
    *,
    forward: Forward = "rail",
    weight: npt.ArrayLike = 1.0,
    flow: npt.ArrayLike = 0,
) -> Paths:
    """Routes of flows from GPUs `src` to GPUs `dst` (arrays of equal length).

    `weight` (say, bytes) is what adaptive routing balances; `flow` tells flows between the same two
    GPUs apart for the hash (queue pairs). A flow from a GPU to itself has no links.
    """
    from simdeep.spec import paths_loop as loop

    table = topology.link_table()
    src, dst = _gpus(src, "src", table), _gpus(dst, "dst", table)
    if len(src) != len(dst):
        raise ValueError(f"{len(src)} sources and {len(dst)} destinations")
    piece = np.where(table.leaf >= 0, table.switches.component[table.leaf], -1)
    nic = (table.nic_out >= 0) & (table.pcie_out >= 0)
    nvlink = table.nvlink_out >= 0
    sides = loop.choose_nics(
        src, dst, table.gpus_per_node, _FORWARDS.index(forward), table.alive, nic, nvlink, piece
    )
    out, back = sides
    if (out == loop.UNREACHABLE).any():
        raise InputError(_unreachable(table, src, dst, out == loop.UNREACHABLE))
    used = np.zeros(len(table.switches.ptr) - 1, dtype=bool)
    used[table.leaf[back[back >= 0]]] = True
    row = np.cumsum(used) - 1
    switches = table.switches
    far = loop.distances(np.flatnonzero(used), switches.ptr, switches.to)
    starts = loop.path_starts(src, dst, out, back, row, table.leaf, far)
    code = _POLICIES.index(policy)
    links = loop.fill_paths(
        src,
        dst,
        out,
        back,
        starts,
        code,
        _hashes(src, dst, flow, seed) if code == loop.HASHED else np.empty(0, dtype=np.int64),
        _weights(weight, len(src)) if code == loop.ADAPTIVE else np.empty(0),
        table.place,
        row,
        table.leaf,
        far,
        loop.sole_entries(far, switches.ptr, switches.to),
        np.stack([getattr(table, kind.replace("-", "_")) for kind in KINDS[:6]]),
        table.bandwidth,
        switches.ptr,
        switches.to,
        switches.first,
        switches.count,
    )
    return Paths(starts, links)


def _gpus(numbers: npt.ArrayLike, what: str, table: LinkTable) -> I64:
    found = np.atleast_1d(np.asarray(numbers))
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(f"{what} must be a one-dimensional array of GPU numbers")
    wrong = found[(found < 0) | (found >= table.gpus)]
    if wrong.size:
        raise InputError(f"{what} holds gpu {wrong[0]}; the cluster has gpu 0 to {table.gpus - 1}")
    return found.astype(np.int64)  # a copy: compiled loops know writable arrays only


def _weights(weight: npt.ArrayLike, flows: int) -> F64:
    return np.array(np.broadcast_to(np.asarray(weight, dtype=np.float64), flows))


def _hashes(src: I64, dst: I64, flow: npt.ArrayLike, seed: int) -> I64:
    """One number for each flow and seed; the same whatever else is routed with it."""
    with np.errstate(over="ignore"):
        found = np.full(len(src), seed, dtype=np.int64)
        for part in (src, dst, np.asarray(flow, dtype=np.int64)):
            found = (found ^ part) * np.int64(0x2545F4914F6CDD1D)
            found ^= found >> 29
    hashed: I64 = found
    return hashed


def _unreachable(table: LinkTable, src: I64, dst: I64, cut: npt.NDArray[np.bool_]) -> str:
    """Which GPUs are dead or cut off, for the message."""
    ends = np.concatenate([src[cut], dst[cut]])
    dead = np.unique(ends[~table.alive[ends]])
    if dead.size:
        return f"{list_gpus(dead.tolist())} is down and cannot send or receive"
    pair = f"gpu {src[cut][0]} to gpu {dst[cut][0]}"
    count = int(cut.sum())
    pairs = f"{pair} and {count - 1} more pairs" if count > 1 else pair
    # Whoever is in most of the cut pairs is the one to name first.
    gpus, times = np.unique(ends, return_counts=True)
    worst = gpus[times == times.max()] if len(gpus) > 2 else gpus
    named = list_gpus(worst.tolist())
    return f"unreachable: no way left from {pairs}; {named} cut off by broken links or switches"
