"""Distinct pieces of work: what cost prices once and tasks refer to by index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from simdeep.program.routing.loads import Loads
from simdeep.program.workload.kernel import Kernel

AllToAllKind = Literal["dispatch", "dispatch_cached", "combine"]
CollectiveKind = Literal["all_reduce", "all_gather", "reduce_scatter"]


@dataclass(frozen=True, slots=True)
class Nothing:
    """No work: a barrier or a join."""


@dataclass(frozen=True, slots=True)
class KernelWork:
    """Kernels that run back to back on the compute stream; fields may be arrays over cases.

    The GPU waits `host_s` seconds for the host besides.
    """

    kernels: tuple[Kernel, ...]
    host_s: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class AllToAllWork:
    """Expert dispatch or combine of a group whose routing draws are `loads`.

    Folded, a case is a draw and costs what its busiest rank needs; `by_rank`, each (draw, rank) is
    a case with its own bytes.
    """

    kind: AllToAllKind
    hidden: int
    dtype: str
    loads: Loads
    gpus_per_node: int
    by_rank: bool = False


@dataclass(frozen=True, slots=True)
class CollectiveWork:
    """A collective over a group with `ranks_per_node` members on each of `nodes` nodes.

    `bytes` as nccl-tests counts: what a rank has for an all-reduce, the whole (gathered) buffer
    for an all-gather or reduce-scatter.
    """

    kind: CollectiveKind
    bytes: float
    nodes: int
    ranks_per_node: int


@dataclass(frozen=True, slots=True)
class P2pWork:
    """Activations or their gradients to a neighbouring stage, in bytes, over NVLink or the NIC.

    With `gather`, ranks of a tensor parallel group that have received a part each gather the whole.
    """

    bytes: float
    same_node: bool
    gather: CollectiveWork | None = None


@dataclass(frozen=True, slots=True)
class CollectivesWork:
    """Collectives one after the other in one task."""

    parts: tuple[CollectiveWork, ...]


Work = Nothing | KernelWork | AllToAllWork | P2pWork | CollectivesWork


@dataclass(eq=False)
class Works:
    """Collects works under a key, so that equal work is priced once."""

    items: list[Work] = field(default_factory=lambda: [Nothing()])
    index: dict[object, int] = field(default_factory=dict)

    def add(self, key: object, work: Work) -> int:
        """Index of the work under `key`, adding it when it is new."""
        if key not in self.index:
            self.index[key] = len(self.items)
            self.items.append(work)
        return self.index[key]
