"""Prices a program: every distinct work once, then by index into columns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from simdeep.cost.alltoall import price_alltoall
from simdeep.cost.calibration import Calibration
from simdeep.cost.collectives import Group, Links, TransferPrice, collective, point_to_point
from simdeep.cost.kernels import price
from simdeep.cost.moe import from_loads
from simdeep.cost.unequal import PORTS, Unequal, common_pace, port_ids
from simdeep.program.columns import Kind, Priced, Program
from simdeep.program.lower.works import (
    AllToAllWork,
    CollectivesWork,
    CollectiveWork,
    KernelWork,
    Nothing,
    P2pWork,
    Work,
)
from simdeep.program.workload.kernel import F
from simdeep.spec.hardware import Gpu

F64 = npt.NDArray[np.float64]
_NS = 1e9


@dataclass(frozen=True, slots=True)
class Machine:
    """What a program is priced for: a GPU with its links, and how SMs are split.

    `host_launch_s` is the host's time for one launch: kernels that run back to back take no less.
    """

    gpu: Gpu
    links: Links
    calibration: Calibration
    comm_sms: int
    static_split: bool
    collective_sms: int = 0
    host_launch_s: float = 0.0

    @property
    def compute_sms(self) -> int:
        """SMs that a kernel is launched for."""
        return self.gpu.sms - self.reserved_sms

    @property
    def reserved_sms(self) -> int:
        """SMs that compute never gets."""
        return self.comm_sms + self.collective_sms if self.static_split else 0


@dataclass(frozen=True, slots=True)
class Jitter:
    """Kernel times vary between the `peers` that a folded GPU stands for.

    The folded GPU is as slow as the slowest of them: 1 + cv x the largest of `peers` standard
    normal draws, drawn anew for every task. A GPU that stands for itself alone computes as long in
    all as without jitter, so that what jitter costs is the waiting it makes and not luck.
    """

    cv: float = 0.0
    peers: int = 1
    seed: int = 0

    def factors(self, program: Program, work_ns: F64) -> F64:
        """A factor for each task, 1 for what does not compute.

        Args:
            program: the tasks.
            work_ns: their time without jitter.
        """
        factors = np.ones(program.n)
        if self.cv == 0.0:
            return factors
        slowest = _slowest_of(self.seed, self.peers).first(program.n)
        computes = program.kind == Kind.COMPUTE
        factors[computes] += self.cv * slowest[computes]
        if self.peers == 1:
            rank, n = program.rank, program.n_ranks
            added = np.bincount(rank, weights=work_ns * (factors - 1.0), minlength=n)
            total = np.bincount(rank, weights=work_ns, minlength=n)
            excess = added / np.maximum(total, 1.0)
            factors[computes] -= excess[rank[computes]]
        kept: F64 = np.maximum(factors, 0.0)
        return kept


_ROWS = 1 << 16
"""Tasks whose peers are drawn at a time."""


class _Slowest:
    """The largest of `peers` standard normal draws, for one task after the other.

    A longer program continues the draws of a shorter one, so what was drawn is kept.
    """

    def __init__(self, seed: int, peers: int):
        self.rng = np.random.default_rng([seed, 0x717])
        self.peers = peers
        self.drawn = np.zeros(0, np.float32)

    def first(self, n: int) -> npt.NDArray[np.float32]:
        """The maxima of the first `n` tasks."""
        parts = [self.drawn]
        for start in range(len(self.drawn), n, _ROWS):
            size = (min(_ROWS, n - start), self.peers)
            parts.append(self.rng.standard_normal(size, dtype=np.float32).max(axis=1))
        self.drawn = np.concatenate(parts)
        return self.drawn[:n]


@lru_cache(maxsize=16)
def _slowest_of(seed: int, peers: int) -> _Slowest:
    return _Slowest(seed, peers)


def price_program(
    program: Program,
    machine: Machine,
    jitter: Jitter | None = None,
    unequal: Unequal | None = None,
) -> Priced:
    """Price every task of a program on one machine type, whose GPUs may be `unequal`."""
    table = _Table(program.works, machine)
    column = table.rows(program.work, program.case)
    factor = np.ones(program.n)
    if jitter is not None:
        factor = jitter.factors(program, column["sm"] + column["mem"])
    times = np.stack([column[name] for name in _PORT_COLUMNS], axis=1)
    port, port_ns = port_ids(program, times, unequal)
    floor_ns = column["floor"]
    if unequal is not None:
        factor = factor / unequal.speed[program.rank]
        if unequal.links_differ:
            floor_ns = common_pace(program, port_ns, floor_ns)
    return Priced(
        program=program,
        sm_ns=column["sm"] * factor,
        mem_ns=column["mem"] * factor,
        fixed_ns=column["fixed"],
        sm_want=np.where(program.kind == Kind.COMPUTE, machine.compute_sms, 0).astype(np.int32),
        sm_drag=column["sm_drag"],
        mem_drag=column["mem_drag"],
        port=port,
        port_ns=port_ns,
        floor_ns=floor_ns,
        latency_ns=column["latency"],
        sms=column["sms"].astype(np.int32),
        draw_milli=np.rint(column["draw"] * 1000).astype(np.int32),
        n_ports=program.n_ranks * PORTS,
        hardware_sms=machine.gpu.sms,
        comm_sms=machine.reserved_sms if machine.static_split else machine.comm_sms,
        static_split=machine.static_split,
    )


_PORT_COLUMNS = tuple(f"port{i}" for i in range(PORTS))
_COMPUTE_COLUMNS = ("sm", "mem", "fixed", "sm_drag", "mem_drag")
_COLUMNS = (*_COMPUTE_COLUMNS, "floor", "latency", "sms", "draw", *_PORT_COLUMNS)


class _Table:
    """Prices of all works in nanoseconds, the cases of a work one below the other."""

    def __init__(self, works: tuple[Work, ...], machine: Machine):
        priced = [price_work(work, machine) for work in works]
        sizes = np.array([max((np.size(v) for v in p.values()), default=1) for p in priced])
        self.first = np.concatenate([[0], np.cumsum(sizes)])
        self.sizes = sizes
        self.columns = {
            name: np.concatenate(
                [
                    np.broadcast_to(np.asarray(p.get(name, 0.0), float), size)
                    for p, size in zip(priced, sizes, strict=True)
                ]
            )
            for name in _COLUMNS
        }

    def rows(self, work: npt.NDArray[np.int32], case: npt.NDArray[np.int32]) -> dict[str, F64]:
        """The columns of tasks with this work in this case."""
        at = self.first[work] + np.where(self.sizes[work] > 1, case, 0)
        return {name: values[at] for name, values in self.columns.items()}


def price_work(work: Work, machine: Machine) -> dict[str, F]:
    """Nanoseconds, drags and SMs of one work by column of `Priced`; absent ones are 0.

    Figures are one number each, or one for each case.
    """
    match work:
        case Nothing():
            return {}
        case KernelWork():
            p = price(work.kernels, machine.gpu, machine.calibration, machine.compute_sms)
            host_s = machine.host_launch_s * sum(kernel.launches for kernel in work.kernels)
            return {
                "sm": p.sm_s * _NS,
                "mem": p.mem_s * _NS,
                "fixed": (np.maximum(p.fixed_s, host_s - p.sm_s - p.mem_s) + work.host_s) * _NS,
                "sm_drag": p.sm_drag,
                "mem_drag": p.mem_drag,
            }
        case AllToAllWork():
            return _columns(
                price_alltoall(
                    work.kind,
                    from_loads(work.loads, work.gpus_per_node),
                    machine.links,
                    machine.calibration,
                    sms=machine.comm_sms,
                    hidden=work.hidden,
                    dtype=work.dtype,
                    by_rank=work.by_rank,
                )
            )
        case P2pWork():
            sent = point_to_point(
                work.bytes, machine.links, machine.calibration, same_node=work.same_node
            )
            behind = [] if work.gather is None else [_collective(work.gather, machine)]
            return _columns(_one_after_the_other([sent, *behind]))
        case CollectivesWork():
            prices = [_collective(part, machine) for part in work.parts]
            return _columns(_one_after_the_other(prices))


def _collective(part: CollectiveWork, machine: Machine) -> TransferPrice:
    """One collective over its group."""
    return collective(
        part.kind,
        part.bytes,
        Group(part.nodes, part.ranks_per_node),
        machine.links,
        machine.calibration,
        sms=machine.collective_sms,
    )


def _one_after_the_other(prices: list[TransferPrice]) -> TransferPrice:
    """One price for transfers in a row; each is as slow as its busiest port."""
    if len(prices) == 1:
        return prices[0]
    total = {
        field.name: sum(getattr(p, field.name) for p in prices)
        for field in dataclasses.fields(TransferPrice)
        if field.name.endswith("_s")
    }
    moving = sum(p.moving_s for p in prices)
    total["floor_s"] = moving
    return TransferPrice(**total, sms=max(p.sms for p in prices), draw=max(p.draw for p in prices))


def _columns(p: TransferPrice) -> dict[str, F]:
    ports = {f"port{i}": seconds * _NS for i, seconds in enumerate(p.ports)}
    return {
        **ports,
        "floor": p.floor_s * _NS,
        "latency": p.latency_s * _NS,
        "sms": p.sms,
        "draw": p.draw,
    }
