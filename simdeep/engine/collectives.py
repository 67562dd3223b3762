"""Collectives on a real cluster: messages routed over its links and run as flows.

Bandwidths are printed as nccl-tests does (its doc/PERFORMANCE.md): algbw = S/t, and busbw = algbw x
2(N-1)/N for all-reduce, x (N-1)/N for all-gather, reduce-scatter and all-to-all, x 1 for a send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.cost.collectives.algorithms import algorithms_for, messages
from simdeep.cost.collectives.messages import SWITCH, Algorithm, Messages, Operation
from simdeep.engine.flows import Csr, FlowResult, simulate
from simdeep.engine.flows_input import F64, I64, PathLike
from simdeep.errors import InputError

if TYPE_CHECKING:
    from simdeep.cost.calibration import Calibration
    from simdeep.spec.paths import Policy
    from simdeep.spec.topology import Topology


@dataclass(frozen=True, eq=False)
class Network:
    """The links of a cluster as collectives see them.

    `bandwidth` (B/s, achieved) and `latency` (s) are by link; `routes` gives the links from GPUs to
    GPUs; `nvlink_out` and `nvlink_in` are the NVLink of each GPU, to and from its switch.
    """

    bandwidth: F64
    latency: F64
    routes: Callable[[I64, I64], PathLike]
    nvlink_out: npt.NDArray[np.integer]
    nvlink_in: npt.NDArray[np.integer]
    gpus_per_node: int
    nvls: bool
    name: Callable[[int], str]

    @classmethod
    def of(
        cls,
        topology: Topology,
        policy: Policy = "static",
        seed: int = 0,
        calibration: Calibration | None = None,
    ) -> Network:
        """A topology's links, with the shares of their bandwidth a calibration found, if given.

        GPUs on different rails meet as NCCL has it: over NVLink first, then along the peer's rail.
        """
        from simdeep.spec.paths import route

        table = topology.link_table()
        bandwidth = table.bandwidth
        if calibration is not None:
            curve = calibration.collective
            inside = np.zeros(len(bandwidth), bool)
            inside[table.of_kind("nvlink-out", "nvlink-in")] = True
            bandwidth = bandwidth * np.where(inside, curve.nvl_fraction, curve.nic_fraction)
        return cls(
            bandwidth=bandwidth,
            latency=table.latency,
            routes=lambda src, dst: route(topology, src, dst, policy, seed, forward="pxn"),
            nvlink_out=table.nvlink_out,
            nvlink_in=table.nvlink_in,
            gpus_per_node=topology.gpus_per_node,
            nvls=topology.gpu.nvls,
            name=table.name,
        )

    def grid(self, ranks: npt.ArrayLike) -> I64:
        """Ranks as [nodes, GPUs of a node]: as many in each node, else all in one column."""
        gpus = np.asarray(ranks, np.int64)
        repeated = gpus[np.flatnonzero(np.bincount(gpus)[gpus] > 1)]
        if len(repeated) or not len(gpus):
            what = f"names gpu {repeated[0]} twice" if len(repeated) else "is empty"
            raise InputError(f"the group of a collective {what}")
        nodes, width = np.unique(gpus // self.gpus_per_node, return_counts=True)
        if (width != width[0]).any():
            return gpus[:, None]
        return np.sort(gpus).reshape(len(nodes), width[0])


@dataclass(frozen=True, slots=True, eq=False)
class CollectiveRun:
    """One collective: S bytes on N ranks, and what it took. Bandwidths in B/s."""

    operation: Operation
    algorithm: Algorithm
    nbytes: float
    ranks: int
    seconds: float
    bottleneck: str
    flows: FlowResult

    @property
    def algbw(self) -> float:
        """S/t."""
        return self.nbytes / self.seconds if self.seconds else 0.0

    @property
    def busbw(self) -> float:
        """What nccl-tests calls bus bandwidth."""
        n = self.ranks
        factor = {"all_reduce": 2 * (n - 1) / n, "send": 1.0}.get(self.operation, (n - 1) / n)
        return self.algbw * factor


def run(
    network: Network,
    operation: Operation,
    nbytes: float,
    ranks: npt.ArrayLike,
    algorithm: Algorithm | None = None,
    *,
    stepped: bool = False,
    overhead_s: float = 0.0,
) -> CollectiveRun:
    """A collective with nothing beside it; without an algorithm, by the fastest there is.

    `overhead_s` is what setting up a message takes.
    """
    grid = network.grid(ranks)
    possible = algorithms_for(operation, grid, nvls=network.nvls)
    if algorithm is not None and algorithm not in possible:
        raise InputError(
            f"{operation} of {grid.size} GPUs on {len(grid)} node(s) cannot be done by "
            f"{algorithm!r}; here it can by {', '.join(possible)}"
        )
    runs = []
    for name in (algorithm,) if algorithm else possible:
        sends = messages(operation, name, grid, nbytes, stepped=stepped)
        flows = run_messages(network, sends, overhead_s)
        busiest = int(flows.utilisation.argmax()) if len(flows.utilisation) else 0
        hot = network.name(busiest) if flows.link_bytes.any() else ""
        runs.append(CollectiveRun(operation, name, nbytes, grid.size, flows.makespan_s, hot, flows))
    return min(runs, key=lambda r: r.seconds)


def run_messages(
    network: Network, sends: Messages, overhead_s: float = 0.0, resolution: float = 0.0
) -> FlowResult:
    """Messages routed and run."""
    hops = _hop_links(network, sends)
    per_hop = np.diff(hops.ptr)
    paths = Csr(hops.ptr[sends.ptr], np.asarray(hops.links, np.int64))
    hop_of_link = np.repeat(np.arange(len(per_hop)), per_hop)
    message_of_link = np.repeat(np.arange(sends.n), np.diff(paths.ptr))
    waits = network.latency[paths.links] * sends.latency_weight[hop_of_link]
    latency = np.bincount(message_of_link, weights=waits, minlength=sends.n)
    slowest = np.full(sends.n, np.inf)
    np.minimum.at(slowest, message_of_link, network.bandwidth[paths.links])
    capped = np.isfinite(sends.share)
    cap = np.full(sends.n, np.inf)
    cap[capped] = sends.share[capped] * slowest[capped]
    return simulate(
        paths,
        sends.nbytes,
        0.0,
        latency,
        network.bandwidth,
        overhead_s=overhead_s,
        rate_cap=cap,
        after=Csr(sends.after_ptr, sends.after) if len(sends.after) else None,
        resolution=resolution,
    )


def _hop_links(network: Network, sends: Messages) -> PathLike:
    """Links of each hop: a route, or one NVLink where one end is the switch itself."""
    out, back = sends.dst == SWITCH, sends.src == SWITCH
    whole = ~(out | back)
    # Equal hops are many (rings repeat them step by step) and are routed once.
    pair = sends.src[whole] * (1 + int(sends.dst.max(initial=0))) + sends.dst[whole]
    _, first, again = np.unique(pair, return_index=True, return_inverse=True)
    routes = network.routes(sends.src[whole][first], sends.dst[whole][first])
    if not (out.any() or back.any()):
        return _rows(np.asarray(routes.ptr), np.asarray(routes.links), again.ravel())
    ports = np.concatenate([network.nvlink_out[sends.src[out]], network.nvlink_in[sends.dst[back]]])
    if (ports < 0).any():
        raise InputError("a GPU of the group has a broken NVLink; the switch cannot reduce for it")
    row = np.empty(len(sends.src), np.int64)
    n = len(routes.ptr) - 1
    row[whole] = again.ravel()
    row[out] = n + np.arange(out.sum())
    row[back] = n + out.sum() + np.arange(back.sum())
    ptr = np.concatenate([routes.ptr, routes.ptr[-1] + 1 + np.arange(len(ports))])
    return _rows(ptr, np.concatenate([routes.links, ports]), row)


def _rows(ptr: npt.NDArray[np.integer], links: npt.NDArray[np.integer], rows: I64) -> Csr:
    """Some rows of a CSR, in their order."""
    length = np.diff(ptr)[rows]
    out = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    inside = np.arange(out[-1]) - np.repeat(out[:-1], length)
    return Csr(out, links[np.repeat(ptr[rows], length) + inside].astype(np.int64))


def sweep(
    network: Network,
    operation: Operation,
    sizes: Iterable[float],
    ranks: npt.ArrayLike,
    algorithm: Algorithm | None = None,
) -> tuple[CollectiveRun, ...]:
    """The collective for each size."""
    return tuple(run(network, operation, size, ranks, algorithm) for size in sizes)


def format_table(runs: Iterable[CollectiveRun]) -> str:
    """Rows as nccl-tests prints them: bytes, microseconds, GB/s (1e9 B/s)."""
    lines = [
        f"# {'size':>12}  {'op':<14}  {'algorithm':<12}  {'ranks':>5}  {'time':>10}  "
        f"{'algbw':>8}  {'busbw':>8}  busiest link",
        f"# {'(B)':>12}  {'':<14}  {'':<12}  {'':>5}  {'(us)':>10}  {'(GB/s)':>8}  {'(GB/s)':>8}",
    ]
    for r in runs:
        lines.append(
            f"  {r.nbytes:>12.0f}  {r.operation:<14}  {r.algorithm:<12}  {r.ranks:>5}  "
            f"{r.seconds * 1e6:>10.2f}  {r.algbw / 1e9:>8.2f}  {r.busbw / 1e9:>8.2f}  "
            f"{r.bottleneck}"
        )
    return "\n".join(lines)
