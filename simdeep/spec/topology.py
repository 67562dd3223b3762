"""Clusters: a GPU type, how many, the links in and between nodes, and what an hour costs."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from simdeep.errors import InputError
from simdeep.spec.fabric import Fabric, FabricPlan, LinkSpeeds, build_graph
from simdeep.spec.hardware import (
    Bandwidth,
    Capacity,
    Count,
    FileSection,
    Gpu,
    Latency,
    load_gpu,
    mapping_of,
)
from simdeep.spec.messages import explain
from simdeep.spec.resources import catalogue, find_resource, nearest
from simdeep.spec.validate import Reporter, Source, check_fields
from simdeep.spec.yamlio import load_document

if TYPE_CHECKING:
    import networkx as nx

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class NvlinkFields(FileSection):
    """NVLink inside a node (an NVLink domain)."""

    bandwidth: Bandwidth | None = Field(
        default=None, description="one GPU, one direction, usable; default: the GPU's"
    )
    latency: Latency = Field(
        default=0.0, description="from GPU to GPU through the switch, small message"
    )
    switches: Count = Field(default=1, description="NVSwitch chips of a node")


class NicFields(FileSection):
    """The NIC each GPU has."""

    bandwidth: Bandwidth = Field(description="one GPU, one direction", examples=["400 Gbit/s"])
    latency: Latency = Field(
        default=0.0, description="from GPU to GPU under one leaf, small message"
    )


class Override(FileSection):
    """One element that differs: `gpu 5`, `nic 5`, `nvlink 5`, `leaf 3`, `leaf 3 - spine 1`.

    A switch's bandwidth and latency are set on all its links, a NIC's on its link to the leaf.
    """

    element: str = Field(description="name of the element")
    bandwidth: Bandwidth | None = Field(default=None, description="of each of its links")
    latency: Latency | None = Field(default=None, description="of each of its links")
    speed: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="gpu: share of its normal clock (a hot GPU)"
    )
    down: bool = Field(default=False, description="the element is broken")

    @model_validator(mode="after")
    def _says_something(self) -> Override:
        if self.bandwidth is None and self.latency is None and self.speed is None and not self.down:
            raise ValueError("changes nothing; give bandwidth, latency, speed or down: true")
        is_gpu = self.element.startswith("gpu ")
        if self.speed is not None and not is_gpu:
            raise ValueError("only a gpu has a speed")
        if is_gpu and (self.bandwidth is not None or self.latency is not None):
            raise ValueError("a gpu has no bandwidth or latency; name its nic or its nvlink")
        return self


class TopologyFile(FileSection):
    """A topology file, field by field."""

    description: str = Field(default="", description="one line on what it is")
    gpu: str = Field(description="GPU: shipped name, or path of a GPU file", examples=["h800"])
    gpus: Count = Field(description="GPUs of the cluster", examples=[8])
    gpus_per_node: Count = Field(description="GPUs of one NVLink domain", examples=[8])
    nvlink: NvlinkFields = Field(default=NvlinkFields(), description="links inside a node")
    nic: NicFields = Field(
        description="link of each GPU to the fabric", examples=[{"bandwidth": "400 Gbit/s"}]
    )
    fabric: Fabric = Field(
        description="switches between nodes", examples=[{"kind": "rail-fat-tree"}]
    )
    host_memory: Capacity | None = Field(default=None, description="host memory of a node")
    usd_per_gpu_hour: Annotated[float, Field(ge=0)] = Field(
        description="US dollars for a GPU-hour", examples=[2.0]
    )
    overrides: tuple[Override, ...] = Field(default=(), description="elements that differ")
    sources: dict[str, str] = Field(default={}, description="where figures are from, by key path")


@dataclass(frozen=True)
class Topology:
    """A cluster in SI base units: B/s for one GPU and direction, s, B.

    GPU r is GPU r % gpus_per_node of node r // gpus_per_node. `nvlink_latency_s` is from GPU to GPU
    of a node, `nic_latency_s` to one under the same leaf; each further switch adds
    `fabric.hop_latency`.
    """

    name: str
    description: str
    gpu: Gpu
    gpus: int
    gpus_per_node: int
    nvlink_bw: float
    nvlink_latency_s: float
    nvswitches_per_node: int
    nic_bw: float
    nic_latency_s: float
    fabric: Fabric
    host_memory_bytes: float | None
    usd_per_gpu_hour: float
    overrides: tuple[Override, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """Number of nodes (NVLink domains)."""
        return self.gpus // self.gpus_per_node

    @cached_property
    def plan(self) -> FabricPlan:
        """The fabric sized for this cluster."""
        return FabricPlan(self.fabric, self.gpus, self.gpus_per_node)

    @cached_property
    def _graph(self) -> nx.Graph[str]:
        import networkx as nx

        speeds = LinkSpeeds(
            nvlink_bw=self.nvlink_bw,
            nvlink_latency=self.nvlink_latency_s,
            pcie_bw=self.gpu.pcie_bw or self.gpu.host_link_bw,
            nic_bw=self.nic_bw,
            nic_latency=self.nic_latency_s,
            nvswitches_per_node=self.nvswitches_per_node,
        )
        graph = build_graph(self.plan, speeds)
        for override in self.overrides:
            _apply(graph, override, self.gpus_per_node)
        frozen: nx.Graph[str] = nx.freeze(graph)
        return frozen

    def graph(self) -> nx.Graph[str]:
        """GPUs, NVSwitches, NICs, leaves and spines with overrides applied; frozen, built once."""
        return self._graph

    def counts(self) -> dict[str, int]:
        """GPUs, nodes, NICs, switches and links between switches, broken ones counted too."""
        return self.plan.counts() | {"nvswitches": self.nodes * self.nvswitches_per_node}

    def nic_bandwidths(self) -> F64:
        """Bandwidth of each GPU's NIC (B/s, one direction), overrides applied; 0 when down."""
        return self._ports("nic", self.nic_bw)

    def nvlink_bandwidths(self) -> F64:
        """NVLink bandwidth of each GPU (B/s, one direction), overrides applied; 0 when down."""
        return self._ports("nvlink", self.nvlink_bw)

    def gpu_speeds(self) -> F64:
        """Clock of each GPU as a share of its normal one, overrides applied; 0 when down."""
        speeds = np.ones(self.gpus)
        for override, index in self._overrides_of("gpu"):
            speeds[index] = 0.0 if override.down else override.speed
        return speeds

    def _ports(self, kind: str, bandwidth: float) -> F64:
        ports = np.full(self.gpus, bandwidth)
        for override, index in self._overrides_of(kind):
            if override.bandwidth is not None:
                ports[index] = override.bandwidth
            if override.down:
                ports[index] = 0.0
        return ports

    def _overrides_of(self, kind: str) -> list[tuple[Override, int]]:
        named = [(o, o.element.split()) for o in self.overrides]
        return [(o, int(words[1])) for o, words in named if words[0] == kind and len(words) == 2]

    def latency_between(self, a: npt.ArrayLike, b: npt.ArrayLike) -> F64:
        """Small-message latency (s) between GPUs, overrides apart; arrays broadcast.

        Between planes a message first goes over NVLink to the GPU of the node on the other plane.
        """
        a, b = np.asarray(a), np.asarray(b)
        leaf = self.plan.leaf_of_gpu
        per_plane = self.plan.leaves_per_plane
        same_plane = leaf[a] // per_plane == leaf[b] // per_plane
        beyond = np.where(leaf[a] == leaf[b], 0.0, 2 * self.fabric.hop_latency)
        # Another plane is reached through the GPU of the own node that has the peer's index.
        across = leaf[a - a % self.gpus_per_node + b % self.gpus_per_node]
        detour = self.nvlink_latency_s + np.where(
            across == leaf[b], 0.0, 2 * self.fabric.hop_latency
        )
        between = self.nic_latency_s + np.where(same_plane, beyond, detour)
        same_node = a // self.gpus_per_node == b // self.gpus_per_node
        found = np.where(same_node, self.nvlink_latency_s, between)
        return np.where(a == b, 0.0, found)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON data, in SI base units."""
        plain = {k: v for k, v in vars(self).items() if k in self.__dataclass_fields__}
        gpu = vars(self.gpu) | {"peak": dict(self.gpu.peak), "sources": dict(self.gpu.sources)}
        return plain | {
            "gpu": gpu,
            "fabric": self.fabric.model_dump(),
            "overrides": [o.model_dump(exclude_defaults=True) for o in self.overrides],
            "sources": dict(self.sources),
        }


def load_topology(name_or_path: str | Path, base: Path | None = None) -> Topology:
    """A shipped topology by name, or one from a file (relative to `base`); all problems at once."""
    path = find_resource("topologies", name_or_path, base)
    document = load_document(path)
    data = copy.deepcopy(mapping_of(document))
    report: Reporter = Reporter(Source(document))
    overrides = _read_overrides(data.pop("overrides", None), report)
    file = check_fields(TopologyFile, data, report)
    gpu = _read_gpu(file.gpu, path.parent, report)
    rule = f"is {file.gpus}; must be a multiple of gpus_per_node = {file.gpus_per_node}"
    whole = report.rule("gpus gpus_per_node", rule, bool(file.gpus % file.gpus_per_node))
    plan = FabricPlan(file.fabric, file.gpus, file.gpus_per_node)
    if whole and all(path[:1] != ("fabric",) for path in report.tainted):
        problem = plan.problem()
        if problem is None:
            _check_elements(overrides, plan, report)
        else:
            report.add(("fabric", problem[0]), problem[1])
    if report.problems or gpu is None:
        raise InputError(report.problems)
    return Topology(
        name=path.stem,
        description=file.description,
        gpu=gpu,
        gpus=file.gpus,
        gpus_per_node=file.gpus_per_node,
        nvlink_bw=file.nvlink.bandwidth or gpu.nvlink_bw,
        nvlink_latency_s=file.nvlink.latency,
        nvswitches_per_node=file.nvlink.switches,
        nic_bw=file.nic.bandwidth,
        nic_latency_s=file.nic.latency,
        fabric=file.fabric,
        host_memory_bytes=file.host_memory,
        usd_per_gpu_hour=file.usd_per_gpu_hour,
        overrides=tuple(overrides.values()),
        sources=file.sources,
    )


def topology_catalogue() -> tuple[str, ...]:
    """Names of the shipped topologies."""
    return tuple(catalogue("topologies"))


def _read_gpu(name: str, base: Path, report: Reporter) -> Gpu | None:
    if ("gpu",) in report.tainted:
        return None
    try:
        return load_gpu(name, base)
    except InputError as error:
        for problem in error.problems:
            report.add_problem(problem, at=("gpu",))
    return None


def _read_overrides(raw: Any, report: Reporter) -> dict[int, Override]:
    """Valid overrides by their place in the list, each item checked by itself."""
    if raw is None:
        return {}
    if not isinstance(raw, list):
        report.add(("overrides",), f"is {raw!r}; must be a list such as [{{element: nic 5, ...}}]")
        return {}
    found = {}
    for i, item in enumerate(raw):
        try:
            found[i] = Override.model_validate(item)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                loc = detail["loc"]
                report.add(("overrides", i, *loc), explain(detail, loc, Override))
    return found


_ELEMENT = re.compile(r"(gpu|nic|nvlink|leaf|spine) (\d+)")


def _check_elements(overrides: Mapping[int, Override], plan: FabricPlan, report: Reporter) -> None:
    """Every override must name an element that is there."""
    counts = dict.fromkeys(("gpu", "nic", "nvlink"), plan.gpus)
    counts |= {"leaf": plan.leaves, "spine": plan.spines}
    for i, override in overrides.items():
        key = ("overrides", i, "element")
        parts = override.element.split(" - ")
        matches = [_ELEMENT.fullmatch(part) for part in parts]
        kinds = [m[1] for m in matches if m]
        if len(kinds) != len(parts) or (len(parts) > 1 and kinds != ["leaf", "spine"]):
            word = override.element.split(" ")[0]
            near = nearest(word, tuple(counts))
            hint = f"; did you mean {near!r}?" if near and near != word else ""
            rule = "must be such as 'gpu 5', 'nic 5', 'nvlink 5', 'leaf 3', 'leaf 3 - spine 1'"
            report.add(key, f"is {override.element!r}; {rule}{hint}")
            continue
        missing = [m for m in matches if m and int(m[2]) >= counts[m[1]]]
        for match in missing:
            kind, n = match[1], counts[match[1]]
            there = f"{kind} 0 to {n - 1}" if n else f"no {kind}"
            report.add(key, f"is {match[0]!r}; the cluster has {there}")
        if len(parts) == 2 and not missing:
            leaf, spine = (int(m[2]) for m in matches if m)
            if spine not in plan.links_to_spines(leaf):
                report.add(key, f"is {override.element!r}; the two are not linked")


def _apply(graph: nx.Graph[str], override: Override, gpus_per_node: int) -> None:
    """Change one element of the graph in place."""
    element = override.element
    kind, _, number = element.partition(" ")
    edges: list[tuple[str, str]]
    if " - " in element:
        leaf, spine = element.split(" - ")
        edges = [(leaf, spine)] if graph.has_edge(leaf, spine) else []
    elif kind == "nvlink":
        switch = f"nvswitch {int(number) // gpus_per_node}"
        edges = [(f"gpu {number}", switch)] if graph.has_edge(f"gpu {number}", switch) else []
    elif element not in graph:  # taken out by an earlier override
        return
    elif override.down:
        graph.remove_node(element)
        return
    elif kind == "gpu":
        graph.nodes[element]["speed"] = override.speed
        return
    else:
        edges = [e for e in graph.edges(element) if graph.edges[e]["kind"] != "pcie"]
    if override.down:
        graph.remove_edges_from(edges)
        return
    for edge in edges:
        attributes = graph.edges[edge]
        if override.bandwidth is not None:
            attributes["bandwidth"] = override.bandwidth * attributes["links"]
        if override.latency is not None:
            attributes["latency"] = override.latency
