"""Scale-out fabrics: what a file says of one, and what every sized fabric can tell.

Every GPU has one NIC. The NICs of the GPUs of equal index modulo `rails` form a rail; in a fat tree
a leaf serves one rail only (rail-optimised). The kinds, each with its plan:

- `single-switch`, `rail-fat-tree` (two layers) and `multi-plane` (several two-layer trees that meet
  only inside a node, over NVLink; arXiv 2505.09343 sec 5.1): `fabric_trees`
- `three-layer-fat-tree` (leaves and spines in pods, cores between pods): `fabric_three_layer`
- `dragonfly` (groups of fully linked switches, every group linked to every other), `edge-list`
  (what the file says, link by link): `fabric_dragonfly`, `fabric_edges`

A plan is plain arithmetic on arrays. The graph of the whole cluster, with NVLink and overrides, is
made from it in `fabric_graph`; prices are in `fabric_cost`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from simdeep.spec.hardware import Bandwidth, Count, FileSection, Latency
from simdeep.spec.yamlio import KeyPath

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
FabricKind = Literal[
    "single-switch",
    "rail-fat-tree",
    "multi-plane",
    "three-layer-fat-tree",
    "dragonfly",
    "edge-list",
]


class Edge(FileSection):
    """One link of an `edge-list` fabric, or alike ones of a range of NICs."""

    ends: Annotated[list[str], Field(min_length=2, max_length=2)] = Field(
        description="what it joins: a NIC, or a range of them, and a switch; or two switches",
        examples=[["nic 0-7", "switch 0"], ["switch 0", "switch 1"]],
    )
    links: Count = Field(default=1, description="parallel cables between two switches")
    bandwidth: Bandwidth | None = Field(
        default=None, description="of each cable, one direction; default: as in other fabrics"
    )
    latency: Latency | None = Field(
        default=None, description="of one crossing; default: as in other fabrics"
    )


class Fabric(FileSection):
    """The switches between nodes."""

    kind: FabricKind = Field(description="shape of the fabric", examples=["rail-fat-tree"])
    planes: Count = Field(default=1, description="separate fat trees; divides the rails")
    rails: Count | None = Field(
        default=None, description="GPUs of a host with leaves of their own; default: all of them"
    )
    ports_per_switch: Annotated[int, Field(ge=2, le=4096)] = Field(
        default=64, description="ports of one switch"
    )
    oversubscription: Annotated[float, Field(ge=1, le=64)] = Field(
        default=1.0, description="bandwidth of a leaf down over up"
    )
    endpoints_per_switch: Count | None = Field(
        default=None, description="dragonfly: NICs on a switch; default: a quarter of its ports"
    )
    switches_per_group: Count | None = Field(
        default=None, description="dragonfly: switches of a group; default: half of its ports"
    )
    global_links: Count | None = Field(
        default=None, description="dragonfly: a switch's links to other groups; default: a quarter"
    )
    edges: tuple[Edge, ...] = Field(default=(), description="edge-list: every link")
    hop_latency: Latency = Field(
        default=0.0, description="time to cross one more switch and its cable"
    )
    switch_link_bandwidth: Bandwidth | None = Field(
        default=None, description="link between switches, one direction; default: the NIC's"
    )


@dataclass(frozen=True, eq=False)
class Cables:
    """Bundles of links between switches `a` and `b` (numbered over all tiers), arrays [bundles].

    `links` are the parallel cables of a bundle; `kind` says what they are for. A bandwidth (B/s,
    of one cable and direction) or latency (s) that is NaN is the fabric's default.
    """

    a: I64
    b: I64
    links: I64
    kind: tuple[str, ...]
    bandwidth: F64
    latency: F64

    @staticmethod
    def join(*groups: tuple[str, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]) -> Cables:
        """Bundles of default speed from groups of (kind, a, b, links)."""
        sides = [[np.asarray(x, dtype=np.int64).ravel() for x in g[1:]] for g in groups]
        none = np.empty(0, dtype=np.int64)
        a, b, links = (np.concatenate([none, *(s[i] for s in sides)]) for i in range(3))
        kind = tuple(g[0] for g, s in zip(groups, sides, strict=True) for _ in s[0])
        default = np.full(len(a), np.nan)
        return Cables(a, b, links, kind, default, default)


@dataclass(frozen=True)
class FabricPlan(ABC):
    """A fabric sized for a number of GPUs: plain arithmetic, no graph.

    `gpus_per_node` is that of an NVLink domain, `gpus_per_host` that of one server in it.
    """

    fabric: Fabric
    gpus: int
    gpus_per_node: int
    gpus_per_host: int

    @abstractmethod
    def problems(self) -> list[tuple[KeyPath, str]]:
        """Why the fabric cannot be built, as (key path inside `fabric`, message)."""

    @property
    @abstractmethod
    def tiers(self) -> Mapping[str, int]:
        """How many switches there are of each kind; switches are numbered in this order."""

    @abstractmethod
    def find_leaves(self) -> I64:
        """Switch each GPU's NIC hangs on, shape [gpus]; -1 for a NIC without one."""

    @abstractmethod
    def find_cables(self) -> Cables:
        """Every bundle of links between switches."""

    @property
    def rails(self) -> int:
        """Rails over all planes."""
        return self.fabric.rails or self.gpus_per_host

    @property
    def switches(self) -> int:
        """Switches of every tier."""
        return sum(self.tiers.values())

    @cached_property
    def leaf_of_gpu(self) -> I64:
        """Switch each GPU's NIC hangs on, shape [gpus]; -1 for a NIC without one."""
        return self.find_leaves()

    @cached_property
    def cables(self) -> Cables:
        """Every bundle of links between switches."""
        return self.find_cables()

    @cached_property
    def switch_names(self) -> tuple[str, ...]:
        """`leaf 0`, ... in the order of switch numbers."""
        return tuple(f"{kind} {i}" for kind, count in self.tiers.items() for i in range(count))

    def plane_of_switch(self, kind: str, index: int) -> int:
        """Plane a switch belongs to."""
        return index * self.fabric.planes // self.tiers[kind]

    def counts(self) -> dict[str, int]:
        """How many there are; `switches` of all tiers, `links` those between them."""
        return {
            "gpus": self.gpus,
            "nodes": self.gpus // self.gpus_per_node,
            "hosts": self.gpus // self.gpus_per_host,
            "nics": self.gpus,
            "switches": self.switches,
            "links": int(self.cables.links.sum()),
        }


def plan_fabric(
    fabric: Fabric, gpus: int, gpus_per_node: int, gpus_per_host: int | None = None
) -> FabricPlan:
    """The fabric sized for a cluster; ask `problems()` before anything else of it."""
    from simdeep.spec.fabric_dragonfly import DragonflyPlan
    from simdeep.spec.fabric_edges import EdgeListPlan
    from simdeep.spec.fabric_three_layer import ThreeLayerPlan
    from simdeep.spec.fabric_trees import SingleSwitchPlan, TwoLayerPlan

    plans: dict[FabricKind, type[FabricPlan]] = {
        "single-switch": SingleSwitchPlan,
        "rail-fat-tree": TwoLayerPlan,
        "multi-plane": TwoLayerPlan,
        "three-layer-fat-tree": ThreeLayerPlan,
        "dragonfly": DragonflyPlan,
        "edge-list": EdgeListPlan,
    }
    return plans[fabric.kind](fabric, gpus, gpus_per_node, gpus_per_host or gpus_per_node)


_ONLY = {
    "planes": ("multi-plane",),
    "rails": ("rail-fat-tree", "multi-plane", "three-layer-fat-tree"),
    "oversubscription": ("rail-fat-tree", "multi-plane", "three-layer-fat-tree"),
    "endpoints_per_switch": ("dragonfly",),
    "switches_per_group": ("dragonfly",),
    "global_links": ("dragonfly",),
    "edges": ("edge-list",),
}
_NO_EFFECT = {"planes": 1, "rails": 1, "oversubscription": 1.0}


def misplaced_keys(fabric: Fabric) -> list[tuple[KeyPath, str]]:
    """Keys that say something which a fabric of this kind does not have."""
    found: list[tuple[KeyPath, str]] = []
    for key, kinds in _ONLY.items():
        value = getattr(fabric, key)
        said = value not in (None, (), _NO_EFFECT.get(key))
        if said and fabric.kind not in kinds:
            shown = f"is {value:g}; " if isinstance(value, int | float) else ""
            found.append(((key,), f"{shown}only a {' or '.join(kinds)} fabric has {key}"))
    return found


def deal(dealers: int, each: int, piles: int) -> I64:
    """Cards that each of `dealers` gives each of `piles`, one after another; [dealers, piles]."""
    whole, rest = divmod(each, piles)
    first = (np.arange(dealers) * each + whole * piles) % piles
    extra = (np.arange(piles)[None, :] - first[:, None]) % piles < rest
    dealt: I64 = whole + extra.astype(np.int64)
    return dealt
