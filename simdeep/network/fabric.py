"""One dispatch or combine as flows over every link of the cluster.

The kernel model (`simdeep.cost.moe`) knows each GPU's ports and SMs; what lies between the ports it
takes as free of contention. Here the same tokens cross the links of the graph: NVLink, PCIe, NIC,
leaf and spine, along routes that ECMP, faults and overrides decide.

- A flow is all token copies that take the same way: out of a source's NIC to where they land and on
  over NVLink to the expert's GPU, both hops at one pace as the kernels pipeline them. A token that
  more than one GPU of a node wants crosses the NIC once; its further copies begin where it landed.
  Which of the landed tokens go on to which GPU is spread evenly over their sources; the bytes of
  every link are those of the real tokens. Above `PIPELINED_FLOWS` ways the hops are flows of their
  own, and the second ends no sooner than the first.
- Sharing is fair by token, not by flow: a sender takes its tokens in turn and its buffers are
  short, so a destination with twice the tokens gets twice the rate.
- The SMs of a GPU are one more link, which every copy it forwards crosses, with the rate that the
  kernel model finds for them and the NVLink port they queue for. The kernels' fixed time, and the
  part of the shorter hop that cannot be hidden, come from there as well.

Links have the achieved share of their bandwidth that the kernels' data show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from simdeep.cost.moe import (
    AllToAll,
    Direction,
    HopCopies,
    Kernels,
    PortLinks,
    dispatch_combine,
    token_bytes,
)
from simdeep.cost.moe.constants import PAIR_HEADER_BYTES
from simdeep.engine.flows import Csr, FlowResult, simulate
from simdeep.network.setting import Setting
from simdeep.program.routing.kernels import F64, I64
from simdeep.spec.links import KINDS, LinkTable
from simdeep.spec.paths import Forward, Paths, route

PIPELINED_FLOWS = 60_000
"""More ways than this and each hop is a flow of its own."""

_EXACT_FLOWS = 20_000
_RESOLUTION = 0.002
_ENDLESS = 1e18
"""A bandwidth in B/s that limits nothing."""


@dataclass(frozen=True, slots=True)
class HotLink:
    """A busy link: what of its achieved bandwidth is used from start to end."""

    name: str
    kind: str
    nbytes: float
    utilisation: float


@dataclass(frozen=True, slots=True, eq=False)
class FabricRun:
    """When each GPU of the group is done, [ranks] in seconds, and the links by how busy they are.

    `hot` are the busiest links, and the busiest between switches where there are any; `link_bytes`
    those over every link of the cluster's table.
    """

    finish_s: F64
    flows: int
    hot: tuple[HotLink, ...]
    hot_between_switches: tuple[HotLink, ...]
    link_bytes: F64

    @property
    def time_s(self) -> float:
        """When the last GPU is done."""
        return float(self.finish_s.max())


@dataclass(frozen=True, slots=True, eq=False)
class _Flows:
    """Flows in the making: ranks each touches, its links, and its copies."""

    ranks: tuple[I64, ...]
    paths: Csr
    copies: F64


def kernel_links(setting: Setting) -> PortLinks:
    """The ports of the group's GPUs; broken ones count as whole, their detour is the fabric's."""
    topology, gpus = setting.topology, setting.gpus
    nvlink = topology.nvlink_bandwidths()[gpus]
    nic = topology.nic_bandwidths()[gpus]
    return PortLinks(
        nvlink_bw=np.where(nvlink > 0, nvlink, topology.nvlink_bw),
        nic_bw=np.where(nic > 0, nic, topology.nic_bw),
        nvlink_latency_s=topology.nvlink_latency_s,
        nic_latency_s=topology.nic_latency_s,
    )


def run_normal(
    setting: Setting,
    copies: HopCopies,
    landed: F64,
    forwarded: F64,
    direction: Direction,
    kernels: Kernels,
    draw: int,
) -> FabricRun:
    """High-throughput kernels; `landed` and `forwarded` are one draw's (see `Dispatches`)."""
    table = setting.topology.link_table()
    size = token_bytes(direction, setting.hidden, setting.dtype)
    bandwidth = _achieved(table, kernels.nic_efficiency, kernels.nvlink_efficiency)
    copying, unhidden, fixed = _kernel_parts(setting, copies, direction, kernels, draw)
    work = forwarded.sum(axis=1) * size
    rate = np.divide(work, copying, out=np.full(setting.ep, _ENDLESS), where=copying * work > 0)
    hops = _Hops(setting, landed, direction, first_engine=len(table))
    joined = setting.ep * setting.nodes * setting.per_node <= PIPELINED_FLOWS
    flows = hops.pipelined(landed, forwarded) if joined else hops.apart(landed, forwarded)
    result = _simulate(table, flows, size, np.concatenate([bandwidth, rate]))
    end = result.end if joined else _second_after_first(result.end, flows, direction, setting.ep)
    finish = _last_of(flows.ranks, end, setting.ep) + unhidden + fixed
    return _run(setting, table, finish, result)


def run_low_latency(
    setting: Setting, pairs: F64, direction: Direction, kernels: Kernels
) -> FabricRun:
    """Low-latency kernels: a message for each (token, expert), straight to its GPU's NIC."""
    table, kernel = setting.topology.link_table(), kernels.low_latency
    size = token_bytes(direction, setting.hidden, setting.dtype)
    size += PAIR_HEADER_BYTES if direction == "dispatch" else 0
    bandwidth = _achieved(table, kernel.nic_efficiency, kernel.nvlink_efficiency)
    source, target = np.nonzero(pairs * ~np.eye(setting.ep, dtype=bool))
    count = np.asarray(pairs[source, target])
    if direction == "combine":
        source, target = target, source
    paths = _routes(setting, source, target, count, "spine")
    flows = _Flows((source, target), Csr(paths.ptr, paths.links.astype(np.int64)), count)
    result = _simulate(table, flows, size, bandwidth)
    finish = _last_of(flows.ranks, result.end, setting.ep) + kernel.base_s
    return _run(setting, table, finish, result)


class _Hops:
    """Ways of the two hops: from source to landing GPU, and from there to the expert's GPU."""

    def __init__(self, setting: Setting, landed: F64, direction: Direction, first_engine: int):
        self.setting = setting
        self.direction = direction
        ranks, nodes, per_node = setting.ep, setting.nodes, setting.per_node
        self.first_engine = first_engine
        landing = np.repeat(np.arange(ranks), nodes)
        source = np.tile(np.arange(nodes), ranks) * per_node + landing % per_node
        self.copies_in = _by_landing(landed, per_node)
        self.wire = self._way(source, landing, self.copies_in.ravel())
        where = np.repeat(np.arange(ranks), per_node)
        target = where // per_node * per_node + np.tile(np.arange(per_node), ranks)
        self.onward = self._way(where, target, np.ones(len(where)))
        self.engines = Csr(np.arange(ranks + 1), np.arange(ranks) + first_engine)

    def _way(self, near: I64, far: I64, weight: F64) -> Paths:
        ends = (near, far) if self.direction == "dispatch" else (far, near)
        return _routes(self.setting, *ends, weight, "rail")

    def pipelined(self, landed: F64, forwarded: F64) -> _Flows:
        """Both hops in one flow; copies made where a token landed begin there."""
        setting = self.setting
        share = forwarded / np.maximum(forwarded.sum(axis=1, keepdims=True), 1e-300)
        copies = self.copies_in[:, :, None] * share[:, None, :]
        rank = np.arange(setting.ep)
        copies[rank, rank // setting.per_node] += forwarded - copies.sum(axis=1)
        landing, node, index = np.nonzero(copies > 1e-9 * max(1.0, float(forwarded.max())))
        wire = (self.wire, landing * setting.nodes + node)
        onward = (self.onward, landing * setting.per_node + index)
        source = node * setting.per_node + landing % setting.per_node
        target = landing // setting.per_node * setting.per_node + index
        return _Flows(
            (source, landing, target),
            _joined(wire, onward, (self.engines, landing)),
            np.asarray(copies[landing, node, index]),
        )

    def apart(self, landed: F64, forwarded: F64) -> _Flows:
        """A flow for each hop: first all of the wire's, then all from where tokens landed."""
        setting = self.setting
        away = self.copies_in.copy()
        rank = np.arange(setting.ep)
        away[rank, rank // setting.per_node] = 0
        landing, node = np.nonzero(away)
        where, index = np.nonzero(forwarded)
        source = node * setting.per_node + landing % setting.per_node
        target = where // setting.per_node * setting.per_node + index
        wire = _joined((self.wire, landing * setting.nodes + node))
        onward = _joined((self.onward, where * setting.per_node + index), (self.engines, where))
        paths = Csr(
            np.concatenate([wire.ptr, wire.ptr[-1] + onward.ptr[1:]]),
            np.concatenate([wire.links, onward.links]),
        )
        return _Flows(
            (
                np.concatenate([source, where]),
                np.concatenate([landing, where]),
                np.concatenate([landing, target]),
            ),
            paths,
            np.concatenate([away[landing, node], forwarded[where, index]]),
        )


def _by_landing(landed: F64, per_node: int) -> F64:
    """Copies by landing rank and node of their source, [ranks, nodes]."""
    nodes = landed.shape[1]
    by_index = landed.reshape(nodes, per_node, nodes)  # source node, index, landing node
    return np.ascontiguousarray(by_index.transpose(2, 1, 0)).reshape(landed.shape)


def _kernel_parts(
    setting: Setting, copies: HopCopies, direction: Direction, kernels: Kernels, draw: int
) -> tuple[F64, F64, float]:
    """Of the kernel on each GPU: time to copy what it forwards, unhidden time, fixed time."""
    kernel = kernels.normal(direction)
    links = kernel_links(setting)
    one_node = copies.nodes == 1
    # The latencies of the links are the flows' own.
    fixed = kernel.local_base_s if one_node else kernel.base_s
    latency = links.nvlink_latency_s + (0.0 if one_node else links.nic_latency_s)

    def priced(links: PortLinks, kernels: Kernels) -> AllToAll:
        return dispatch_combine(
            copies,
            links,
            direction,
            sms=setting.comm_sms,
            hidden=setting.hidden,
            dtype=setting.dtype,
            kernels=kernels,
        )

    fine = replace(kernel, chunk_tokens=1e-12)  # hops that hide each other wholly
    dispatch = direction == "dispatch"
    endless = replace(kernels, dispatch=fine) if dispatch else replace(kernels, combine=fine)
    unhidden = priced(links, kernels).finish_s - priced(links, endless).finish_s
    no_wire = priced(replace(links, nic_bw=_ENDLESS), endless)
    copying = np.maximum(no_wire.alone_s - fixed - latency, 0.0)
    return copying[draw], unhidden[draw], fixed


def _achieved(table: LinkTable, nic: float, nvlink: float) -> F64:
    inside = np.zeros(len(table), dtype=bool)
    inside[table.of_kind("nvlink-out", "nvlink-in")] = True
    return np.asarray(table.bandwidth * np.where(inside, nvlink, nic))


def _routes(setting: Setting, source: I64, target: I64, weight: F64, forward: Forward) -> Paths:
    gpus = setting.gpus
    return route(
        setting.topology,
        gpus[source],
        gpus[target],
        setting.ecmp,
        setting.seed,
        forward=forward,
        weight=weight,
    )


def _joined(*parts: tuple[Paths | Csr, I64]) -> Csr:
    """Rows put one behind the other: of each part the listed rows, in their order."""
    lengths = [np.diff(rows.ptr)[index] for rows, index in parts]
    ptr = np.concatenate([[0], np.cumsum(sum(lengths))]).astype(np.int64)
    links = np.empty(ptr[-1], dtype=np.int64)
    at = ptr[:-1].copy()
    for (rows, index), length in zip(parts, lengths, strict=True):
        inside = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        links[np.repeat(at, length) + inside] = rows.links[
            np.repeat(rows.ptr[:-1][index], length) + inside
        ]
        at += length
    return Csr(ptr, links)


def _simulate(table: LinkTable, flows: _Flows, size: float, bandwidth: F64) -> FlowResult:
    """Copies as equal flows, counted together where their way is the same."""
    n = len(flows.copies)
    flow = np.repeat(np.arange(n), np.diff(flows.paths.ptr))
    links = flows.paths.links
    real = links < len(table)
    latency = np.bincount(flow[real], weights=table.latency[links[real]], minlength=n)
    # Shares of a token make counts below one, which then all count in a smaller unit.
    unit = min(1.0, float(flows.copies.min(initial=1.0)))
    return simulate(
        flows.paths,
        size * unit,
        0.0,
        latency,
        bandwidth,
        count=np.maximum(flows.copies / unit, 1.0),
        resolution=_RESOLUTION if n > _EXACT_FLOWS else 0.0,
    )


def _second_after_first(end: F64, flows: _Flows, direction: Direction, ranks: int) -> F64:
    """Ends of flows of single hops: what goes on from a GPU waits for what comes there."""
    near, landing, _ = flows.ranks
    onward = near == landing
    first = ~onward if direction == "dispatch" else onward
    arrived = np.zeros(ranks)
    np.maximum.at(arrived, landing[first], end[first])
    return np.where(first, end, np.maximum(end, arrived[landing]))


def _last_of(ranks: tuple[I64, ...], end: F64, size: int) -> F64:
    finish = np.zeros(size)
    for part in ranks:
        np.maximum.at(finish, part, end)
    return finish


def _run(setting: Setting, table: LinkTable, finish: F64, result: FlowResult) -> FabricRun:
    hot = _hottest(setting, table, result)
    return FabricRun(finish, len(result.end_ns), *hot, result.link_bytes[: len(table)])


def _hottest(
    setting: Setting, table: LinkTable, result: FlowResult, count: int = 5
) -> tuple[tuple[HotLink, ...], tuple[HotLink, ...]]:
    use = result.utilisation
    between = np.zeros(len(use), dtype=bool)
    codes = [KINDS.index(k) for k in KINDS[KINDS.index("leaf-up") :]]
    between[: len(table)] = np.isin(table.kind, codes)
    gpus = setting.gpus

    def named(link: int) -> HotLink:
        if link < len(table):
            name, kind = table.name(link), KINDS[table.kind[link]]
        else:
            name, kind = f"SMs of gpu {gpus[link - len(table)]}", "sm"
        return HotLink(name, kind, float(result.link_bytes[link]), float(use[link]))

    def busiest(among: npt.NDArray[np.bool_]) -> tuple[HotLink, ...]:
        used = np.flatnonzero(among & (use > 0))
        order = used[np.argsort(-use[used], kind="stable")[:count]]
        return tuple(named(int(link)) for link in order)

    return busiest(np.ones(len(use), dtype=bool)), busiest(between)
