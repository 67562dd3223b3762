"""Elements of a cluster that differ from the others: slow, far, hot or broken ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from simdeep.spec.fabric import FabricPlan
from simdeep.spec.hardware import Bandwidth, Count, FileSection, Latency
from simdeep.spec.messages import explain
from simdeep.spec.resources import nearest
from simdeep.spec.validate import Reporter
from simdeep.spec.yamlio import KeyPath

if TYPE_CHECKING:
    import networkx as nx

S = TypeVar("S", bound=FileSection)


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
    links: Count | None = Field(
        default=None, description="of two switches: how many of their links are down; default: all"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Override:
        if self.bandwidth is None and self.latency is None and self.speed is None and not self.down:
            raise ValueError("changes nothing; give bandwidth, latency, speed or down: true")
        is_gpu = self.element.startswith("gpu ")
        if self.speed is not None and not is_gpu:
            raise ValueError("only a gpu has a speed")
        if is_gpu and (self.bandwidth is not None or self.latency is not None):
            raise ValueError("a gpu has no bandwidth or latency; name its nic or its nvlink")
        if self.links is not None and not (self.down and " - " in self.element):
            raise ValueError("links goes with down: true of two switches, as leaf 3 - spine 1")
        return self


def read_items(
    raw: Any, model: type[S], at: KeyPath, example: str, report: Reporter
) -> dict[int, S]:
    """Valid items of a list by their place in it, each checked by itself."""
    if raw is None:
        return {}
    if not isinstance(raw, list):
        report.add(at, f"is {raw!r}; must be a list such as [{example}]")
        return {}
    found = {}
    for i, item in enumerate(raw):
        try:
            found[i] = model.model_validate(item)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                loc = detail["loc"]
                report.add((*at, i, *loc), explain(detail, loc, model))
    return found


PORTS = ("gpu", "nic", "nvlink", "pcie")
"""Elements of which every GPU has one."""

_SWITCHES = ("leaf", "spine", "core", "switch")
_ELEMENT = re.compile(rf"({'|'.join((*PORTS, *_SWITCHES))}) (\d{{1,8}})")
_RULE = "must be such as 'gpu 5', 'nic 5', 'nvlink 5', 'leaf 3', 'leaf 3 - spine 1'"
_LINKED = (["leaf", "spine"], ["spine", "core"], ["switch", "switch"])


def check_elements(overrides: Mapping[int, Override], plan: FabricPlan, report: Reporter) -> None:
    """Every override must name an element that is there."""
    counts = dict.fromkeys(PORTS, plan.gpus) | dict.fromkeys(_SWITCHES, 0) | dict(plan.tiers)
    bundles: dict[frozenset[str], int] = {}
    if any(" - " in override.element for override in overrides.values()):
        bundles = _bundles(plan)
    for i, override in overrides.items():
        key = ("overrides", i, "element")
        parts = override.element.split(" - ")
        matches = [m for part in parts if (m := _ELEMENT.fullmatch(part))]
        kinds = [m[1] for m in matches]
        if len(kinds) != len(parts) or (len(parts) > 1 and kinds not in _LINKED):
            word = override.element.split(" ")[0]
            near = nearest(word, tuple(counts))
            hint = f"; did you mean {near!r}?" if near and near != word else ""
            report.add(key, f"is {override.element!r}; {_RULE}{hint}")
            continue
        missing = [m for m in matches if int(m[2]) >= counts[m[1]]]
        for match in missing:
            kind, n = match[1], counts[match[1]]
            there = f"{kind} 0 to {n - 1}" if n else f"no {kind}"
            report.add(key, f"is {match[0]!r}; the cluster has {there}")
        if len(parts) == 2 and not missing:
            links = bundles.get(frozenset(f"{m[1]} {int(m[2])}" for m in matches), 0)
            if links == 0:
                report.add(key, f"is {override.element!r}; the two are not linked")
            elif (override.links or 0) > links:
                message = f"is {override.links}; the two have {links} link(s)"
                report.add(("overrides", i, "links"), message)


def _bundles(plan: FabricPlan) -> dict[frozenset[str], int]:
    names, cables = plan.switch_names, plan.cables
    ends = zip(cables.a.tolist(), cables.b.tolist(), cables.links.tolist(), strict=True)
    return {frozenset((names[a], names[b])): links for a, b, links in ends}


def overrides_of(overrides: Iterable[Override], kind: str) -> list[tuple[Override, int]]:
    """The overrides of single elements of a kind, each with the element's number."""
    named = [(o, o.element.split()) for o in overrides]
    return [(o, int(words[1])) for o, words in named if words[0] == kind and len(words) == 2]


def apply_override(graph: nx.Graph[str], override: Override, gpus_per_node: int) -> None:
    """Change one element of the graph in place."""
    edges = _edges(graph, override.element, gpus_per_node)
    if edges is None:  # a node: a GPU, NIC or switch
        _change_node(graph, override)
        return
    for a, b in edges:
        attributes = graph.edges[a, b]
        left = attributes["links"] - (override.links or attributes["links"])
        if override.down and left <= 0:
            graph.remove_edge(a, b)
        elif override.down:
            attributes["bandwidth"] *= left / attributes["links"]
            attributes["links"] = left
        else:
            _change_edge(attributes, override)


def _edges(graph: nx.Graph[str], element: str, gpus_per_node: int) -> list[tuple[str, str]] | None:
    """The edge that an element is, if still there; None for an element that is a node."""
    kind, _, number = element.partition(" ")
    if " - " in element:
        a, b = (" ".join((w[0], str(int(w[1])))) for w in map(str.split, element.split(" - ")))
    elif kind == "nvlink":
        a, b = f"gpu {int(number)}", f"nvswitch {int(number) // gpus_per_node}"
    elif kind == "pcie":
        a, b = f"gpu {int(number)}", f"nic {int(number)}"
    else:
        return None
    return [(a, b)] if graph.has_edge(a, b) else []


def _change_node(graph: nx.Graph[str], override: Override) -> None:
    kind, _, number = override.element.partition(" ")
    name = f"{kind} {int(number)}"
    if name not in graph:  # taken out by an earlier override
        return
    if override.down:
        graph.remove_node(name)
    elif kind == "gpu":
        graph.nodes[name]["speed"] = override.speed
    else:
        for edge in graph.edges(name):
            if graph.edges[edge]["kind"] != "pcie":
                _change_edge(graph.edges[edge], override)


def _change_edge(attributes: dict[str, Any], override: Override) -> None:
    if override.bandwidth is not None:
        attributes["bandwidth"] = override.bandwidth * attributes["links"]
    if override.latency is not None:
        attributes["latency"] = override.latency
