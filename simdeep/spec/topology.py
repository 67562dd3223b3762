"""Clusters: a GPU type, how many, the links in and between nodes, and what an hour costs."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from simdeep.errors import InputError
from simdeep.spec.changes import NO_CHANGES, SOURCE, Changes, described, inside_section, within
from simdeep.spec.fabric import Edge, Fabric, FabricPlan, plan_fabric
from simdeep.spec.fabric_graph import LinkSpeeds, build_graph, disconnected, list_gpus
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
from simdeep.spec.overrides import (
    Override,
    apply_override,
    check_elements,
    overrides_of,
    read_items,
)
from simdeep.spec.resources import catalogue, find_resource
from simdeep.spec.validate import Reporter, Source, check_fields, set_value
from simdeep.spec.yamlio import join_key, load_document

if TYPE_CHECKING:
    import networkx as nx

    from simdeep.spec.links import LinkTable

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


class TopologyFile(FileSection):
    """A topology file, field by field."""

    description: str = Field(default="", description="one line on what it is")
    gpu: str = Field(description="GPU: shipped name, or path of a GPU file", examples=["h800"])
    gpus: Count = Field(description="GPUs of the cluster", examples=[8])
    gpus_per_node: Count = Field(description="GPUs of one NVLink domain", examples=[8])
    gpus_per_host: Count | None = Field(
        default=None, description="GPUs of one server; default: an NVLink domain is one server"
    )
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

    GPU r is GPU r % gpus_per_node of node r // gpus_per_node. A node is an NVLink domain; it may be
    several servers of `gpus_per_host` (NVL72: 18 of 4). `nvlink_latency_s` is from GPU to GPU
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
    gpus_per_host: int = 0

    @property
    def nodes(self) -> int:
        """Number of nodes (NVLink domains)."""
        return self.gpus // self.gpus_per_node

    @cached_property
    def plan(self) -> FabricPlan:
        """The fabric sized for this cluster."""
        return plan_fabric(self.fabric, self.gpus, self.gpus_per_node, self.gpus_per_host or None)

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
            apply_override(graph, override, self.gpus_per_node)
        frozen: nx.Graph[str] = nx.freeze(graph)
        return frozen

    def graph(self) -> nx.Graph[str]:
        """GPUs, NVSwitches, NICs and switches with overrides applied; frozen, built once."""
        return self._graph

    @cached_property
    def _link_table(self) -> LinkTable:
        from simdeep.spec.links import build_link_table

        return build_link_table(self.graph(), self.gpus, self.gpus_per_node)

    def link_table(self) -> LinkTable:
        """Every link of the graph, one direction each, as arrays for routing; built once."""
        return self._link_table

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
        for override, index in overrides_of(self.overrides, "gpu"):
            speeds[index] = 0.0 if override.down else override.speed
        return speeds

    def _ports(self, kind: str, bandwidth: float) -> F64:
        ports = np.full(self.gpus, bandwidth)
        for override, index in overrides_of(self.overrides, kind):
            if override.bandwidth is not None:
                ports[index] = override.bandwidth
            if override.down:
                ports[index] = 0.0
        return ports

    def latency_between(self, a: npt.ArrayLike, b: npt.ArrayLike) -> F64:
        """Small-message latency (s) between GPUs by the straight route; arrays broadcast.

        Between planes a message first goes over NVLink to the GPU of the node on the other plane.
        """
        from simdeep.spec.paths import route

        src, dst = np.broadcast_arrays(a, b)
        paths = route(self, src.ravel(), dst.ravel(), forward="spine")
        return paths.latency(self.link_table()).reshape(src.shape)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything in it."""
        text = json.dumps(self.to_dict(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

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


def load_topology(
    name_or_path: str | Path, base: Path | None = None, changes: Changes = NO_CHANGES
) -> Topology:
    """A shipped topology by name, or one from a file (relative to `base`); all problems at once.

    `changes` are values that differ from the file's, by key path; those inside `gpu` are the GPU's.
    """
    path = find_resource("topologies", name_or_path, base)
    document = load_document(path)
    data = copy.deepcopy(mapping_of(document))
    report: Reporter = Reporter(Source(document))
    of_gpu = within(changes, "gpu")
    for key, value in changes.items():
        inside_gpu = key[0] == "gpu" and len(key) > 1
        if not inside_gpu and (problem := set_value(data, key, value)):
            report.add(key, problem)
    changed = "{element: nic 5, ...}"
    overrides = read_items(data.pop("overrides", None), Override, ("overrides",), changed, report)
    edges = _read_edges(data, report)
    file = check_fields(TopologyFile, data, report)
    gpu = _read_gpu(file.gpu, path.parent, of_gpu, report)
    fabric = file.fabric.model_copy(update={"edges": edges})
    host = file.gpus_per_host or file.gpus_per_node
    rule = f"is {file.gpus}; must be a multiple of gpus_per_node = {file.gpus_per_node}"
    whole = report.rule("gpus gpus_per_node", rule, bool(file.gpus % file.gpus_per_node))
    rule = f"is {host}; must divide gpus_per_node = {file.gpus_per_node}"
    whole &= report.rule("gpus_per_host gpus_per_node", rule, bool(file.gpus_per_node % host))
    plan = plan_fabric(fabric, file.gpus, file.gpus_per_node, host)
    if whole and all(path[:1] != ("fabric",) for path in report.tainted):
        problems = plan.problems()
        for key, message in problems:
            report.add(("fabric", *key), message)
        if not problems:
            check_elements(overrides, plan, report)
    if report.problems or gpu is None:
        raise InputError(report.problems)
    topology = Topology(
        name=described(path.stem, changes),
        description=file.description,
        gpu=gpu,
        gpus=file.gpus,
        gpus_per_node=file.gpus_per_node,
        nvlink_bw=file.nvlink.bandwidth or gpu.nvlink_bw,
        nvlink_latency_s=file.nvlink.latency,
        nvswitches_per_node=file.nvlink.switches,
        nic_bw=file.nic.bandwidth,
        nic_latency_s=file.nic.latency,
        fabric=fabric,
        host_memory_bytes=file.host_memory,
        usd_per_gpu_hour=file.usd_per_gpu_hour,
        overrides=tuple(overrides.values()),
        sources=file.sources | {join_key(key): SOURCE for key in changes},
        gpus_per_host=host,
    )
    _check_connected(topology, report)
    return topology


def topology_catalogue() -> tuple[str, ...]:
    """Names of the shipped topologies."""
    return tuple(catalogue("topologies"))


def _read_gpu(name: str, base: Path, changes: Changes, report: Reporter) -> Gpu | None:
    if ("gpu",) in report.tainted:
        return None
    try:
        return load_gpu(name, base, changes)
    except InputError as error:
        for problem in error.problems:
            report.add_problem(inside_section(problem, "gpu", changes), at=("gpu",))
    return None


def _read_edges(data: dict[str, Any], report: Reporter) -> tuple[Edge, ...]:
    """The fabric's edges, taken out of `data` so that each is checked by itself."""
    fabric = data.get("fabric")
    raw = fabric.pop("edges", None) if isinstance(fabric, dict) else None
    example = "{ends: [nic 0-7, switch 0]}"
    return tuple(read_items(raw, Edge, ("fabric", "edges"), example, report).values())


def _check_connected(topology: Topology, report: Reporter) -> None:
    """Refuse a cluster in pieces; what the shipped builders make without faults is whole."""
    faulty = any(override.down for override in topology.overrides)
    if not faulty and topology.fabric.kind != "edge-list":
        return
    first, *others = disconnected(topology.graph()) or [[]]
    if not first:
        report.add(("overrides",), "every gpu is down")
    for piece in others[:8]:
        key = ("overrides",) if faulty else ("fabric", "edges")
        message = f"disconnected: no way between {list_gpus(piece)} and {list_gpus(first)}"
        report.add(key, message)
    if report.problems:
        raise InputError(report.problems)
