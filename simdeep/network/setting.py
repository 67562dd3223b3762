"""What one all-to-all is: whose tokens, on which GPUs, by which kernels, over which fabric."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from simdeep.cost.moe import Direction, Mode
from simdeep.errors import InputError, Problem
from simdeep.program.routing import Gate, GateSpec, Popularity, parse_popularity
from simdeep.program.routing.gate import check_gate
from simdeep.program.routing.kernels import I64
from simdeep.program.routing.trace_file import is_trace
from simdeep.spec.model import Model, MoeFfn
from simdeep.spec.paths import Policy
from simdeep.spec.resources import catalogue, find_resource
from simdeep.spec.topology import Topology

DIRECTIONS: tuple[Direction, ...] = ("dispatch", "combine")
PLACEMENTS = ("contiguous", "eplb", "search")
"""Placements by name; anything else is a file."""

TRACE_DRAWS = 16
"""Dispatches of a trace that are simulated where no number is given."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One expert-parallel group of `ep` GPUs whose every GPU sends `tokens` tokens.

    The group fills nodes of the cluster, every `node_stride`-th from the first on, or part of one
    node. A token uses at most `max_nodes` of them; None: what the model's own gate `moe` allows.
    `routing` is the popularity of experts that a gate's tokens are drawn with, or a trace of
    tokens. `placement` is a name of `PLACEMENTS` or a file of experts by rank; `redundant` replicas
    are placed beside the experts. `comm_sms` count in mode `normal` only. `draws` routing draws
    (dispatches of a trace) are simulated one by one and averaged; None: one, or `TRACE_DRAWS`.
    """

    model: str
    hidden: int
    moe: GateSpec
    topology: Topology
    ep: int
    tokens: int
    routing: Popularity | Path
    max_nodes: int | None = None
    mode: Mode = "normal"
    comm_sms: int = 20
    placement: str | Path = "contiguous"
    redundant: int = 0
    ecmp: Policy = "static"
    node_stride: int = 1
    dtype: Literal["fp8", "bf16"] = "fp8"
    draws: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise InputError(Problem("", key, message) for key, message in problems)
        check_gate(self.gate)

    @property
    def per_node(self) -> int:
        """GPUs of the group on a node."""
        return min(self.ep, self.topology.gpus_per_node)

    @cached_property
    def gate(self) -> Gate:
        """The gate that tokens go through."""
        return limited_gate(self.moe, self.nodes, self.max_nodes)

    @property
    def nodes(self) -> int:
        """Nodes the group is on."""
        return self.ep // self.per_node

    @property
    def gpus(self) -> I64:
        """The cluster's GPU of each rank of the group, [ep]."""
        rank = np.arange(self.ep)
        node = rank // self.per_node * self.node_stride
        return np.asarray(node * self.topology.gpus_per_node + rank % self.per_node)

    @property
    def routing_text(self) -> str:
        """The routing as `--routing` takes it."""
        if isinstance(self.routing, Path):
            return str(self.routing)
        if self.routing.value == 0:
            return "uniform"
        return f"{self.routing.kind}:{self.routing.value:g}"

    def _problems(self) -> list[tuple[str, str]]:
        found = []
        size, cluster = self.topology.gpus_per_node, self.topology.gpus
        for key, least in (("ep", 2), ("tokens", 1), ("node_stride", 1), ("redundant", 0)):
            value = getattr(self, key)
            if value < least:
                found.append((key, f"is {value}; must be at least {least}"))
        if self.draws is not None and self.draws < 1:
            found.append(("draws", f"is {self.draws}; must be at least 1"))
        if found:
            return found
        if self.ep > size and self.ep % size:
            message = (
                f"is {self.ep}; must be a multiple of the {size} GPUs of a node, or fit in one"
            )
            found.append(("ep", message))
        elif self.nodes and (self.nodes - 1) * self.node_stride >= self.topology.nodes:
            where = f" with node_stride {self.node_stride}" if self.node_stride > 1 else ""
            message = f"is {self.ep}{where}, but {self.topology.name} has only {cluster} GPUs"
            found.append(("ep", message))
        if self.mode == "normal" and not 2 <= self.comm_sms < self.topology.gpu.sms:
            message = (
                f"is {self.comm_sms}; normal kernels need at least 2 and less than the "
                f"{self.topology.gpu.sms} SMs of {self.topology.gpu.name}"
            )
            found.append(("comm_sms", message))
        return found


def moe_of(model: Model) -> MoeFfn:
    """The routed experts of a model's layers."""
    for layer in model.layers:
        if isinstance(layer.ffn, MoeFfn):
            return layer.ffn
    message = f"{model.name} has no experts to send tokens to"
    raise InputError([Problem("", "model", message)])


def limited_gate(moe: GateSpec, nodes: int, max_nodes: int | None) -> Gate:
    """The model's gate, or with `max_nodes` one whose tokens stay on so many of `nodes` nodes.

    A node's experts are then a group, of which a token uses the best `max_nodes`.
    """
    if max_nodes is None:
        return Gate(moe.experts, moe.topk, moe.n_groups, moe.topk_groups, moe.scoring)
    if max_nodes < 1:
        raise InputError([Problem("", "max_nodes", f"is {max_nodes}; must be at least 1")])
    if moe.experts % nodes:
        message = f"{moe.experts} experts do not divide over {nodes} nodes, so none can be limited"
        raise InputError([Problem("", "max_nodes", message)])
    limit = min(nodes, max_nodes)
    if limit * (moe.experts // nodes) < moe.topk:
        message = f"is {max_nodes}; {moe.topk} experts of a token do not fit on so few nodes"
        raise InputError([Problem("", "max_nodes", message)])
    return Gate(moe.experts, moe.topk, nodes, limit, moe.scoring)


def parse_routing(text: str, base: Path | None = None) -> Popularity | Path:
    """`uniform`, `zipf:1.2`, a number, or a trace of tokens: a file or a shipped name."""
    shipped = text in catalogue("routing")
    if shipped or is_trace(text) or "/" in text:
        path = find_resource("routing", text, base)
        if not is_trace(path):
            message = "holds loads of one rank, which do not say what the others move; give a trace"
            raise InputError([Problem(str(path), "", message)])
        return path
    try:
        return parse_popularity(text)
    except InputError as error:
        more = " or a trace of tokens (.npz, .parquet)"
        raise InputError(Problem("", "routing", p.message + more) for p in error.problems) from None
