"""A fabric given link by link: NICs to switches and switches to switches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simdeep.spec.fabric import F64, I64, Cables, Edge, FabricPlan, misplaced_keys
from simdeep.spec.yamlio import KeyPath

MAX_SWITCHES = 1 << 16
_END = re.compile(r"(nic|switch) (\d{1,8})(?:-(\d{1,8}))?")


@dataclass(frozen=True)
class _Link:
    """An edge read: either a range of NICs and a switch, or two switches (`nics` is None)."""

    edge: Edge
    nics: range | None
    switches: tuple[int, ...]


class EdgeListPlan(FabricPlan):
    """What the file's edges say, checked."""

    @property
    def rails(self) -> int:
        """Nothing is known of rails."""
        return 1

    @cached_property
    def _links(self) -> list[_Link]:
        return [link for _, link in self._read() if isinstance(link, _Link)]

    @cached_property
    def tiers(self) -> Mapping[str, int]:
        """Switches, up to the highest number named."""
        return {"switch": 1 + max((s for link in self._links for s in link.switches), default=-1)}

    @property
    def nics(self) -> Iterator[tuple[int, int, Edge]]:
        """Every NIC that has a link, with its switch and the edge that says so."""
        for link in self._links:
            for nic in link.nics or ():
                yield nic, link.switches[0], link.edge

    def problems(self) -> list[tuple[KeyPath, str]]:
        """Edges that name nothing real, NICs without a link or with two, ports that run out."""
        found = misplaced_keys(self.fabric)
        if not self.fabric.edges:
            return [*found, (("edges",), "is empty; an edge-list fabric needs its links here")]
        wrong = [(("edges", i, "ends"), what) for i, what in self._read() if isinstance(what, str)]
        if wrong:
            return found + [(tuple(path), text) for path, text in wrong]
        taken: dict[int, int] = {}
        for nic, switch, _ in self.nics:
            if nic in taken:
                message = f"nic {nic} is on switch {taken[nic]} and on switch {switch}; a NIC has 1"
                found.append((("edges",), message))
            taken[nic] = switch
        missing = sorted(set(range(self.gpus)) - taken.keys())
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            found.append((("edges",), f"nic {missing[0]}{more}: no link to a switch"))
        return found + self._port_problems()

    def _port_problems(self) -> list[tuple[KeyPath, str]]:
        ports = np.zeros(self.switches, dtype=np.int64)
        for link in self._links:
            used = link.edge.links if link.nics is None else len(link.nics)
            np.add.at(ports, list(link.switches), used)
        most = self.fabric.ports_per_switch
        return [
            (("ports_per_switch",), f"is {most}; switch {s} has {ports[s]} links")
            for s in np.flatnonzero(ports > most)[:3]
        ]

    def find_leaves(self) -> I64:
        """As the edges say."""
        leaf = np.full(self.gpus, -1, dtype=np.int64)
        for nic, switch, _ in self.nics:
            leaf[nic] = switch
        return leaf

    def find_cables(self) -> Cables:
        """As the edges say."""
        between = [link for link in self._links if link.nics is None]
        ends = np.array([link.switches for link in between], dtype=np.int64).reshape(-1, 2)
        return Cables(
            ends[:, 0],
            ends[:, 1],
            np.array([link.edge.links for link in between], dtype=np.int64),
            ("fabric",) * len(between),
            _or_nan([link.edge.bandwidth for link in between]),
            _or_nan([link.edge.latency for link in between]),
        )

    def _read(self) -> Iterator[tuple[int, _Link | str]]:
        """Each edge by its place in the list, read, or what is wrong with it."""
        seen: set[frozenset[int]] = set()
        for i, edge in enumerate(self.fabric.edges):
            link = self._read_edge(edge)
            if isinstance(link, _Link) and link.nics is None:
                pair = frozenset(link.switches)
                if pair in seen:
                    link = f"is {edge.ends}; the two are joined already; say links: 2 there"
                seen.add(pair)
            yield i, link

    def _read_edge(self, edge: Edge) -> _Link | str:
        matches = [_END.fullmatch(end) for end in edge.ends]
        ends = sorted((m for m in matches if m), key=lambda m: m[1])
        shape = [m[1] for m in ends]
        if shape not in (["nic", "switch"], ["switch", "switch"]) or ends[-1][3]:
            rule = "must be such as [nic 0-7, switch 0] or [switch 0, switch 1]"
            return f"is {edge.ends}; {rule}"
        switches = tuple(int(m[2]) for m in ends if m[1] == "switch")
        if max(switches) >= MAX_SWITCHES:
            return f"is {edge.ends}; switches are numbered below {MAX_SWITCHES}"
        if shape[0] == "switch":
            if ends[0][3] or switches[0] == switches[1]:
                return f"is {edge.ends}; two different switches, one each, are needed"
            return _Link(edge, None, switches)
        low, high = int(ends[0][2]), int(ends[0][3] or ends[0][2])
        if high >= self.gpus or low > high:
            return f"is {edge.ends}; the cluster has nic 0 to {self.gpus - 1}"
        if edge.links != 1:
            return f"is {edge.ends}; a NIC has one link, not {edge.links}"
        return _Link(edge, range(low, high + 1), switches)


def _or_nan(values: list[float | None]) -> F64:
    return np.array([np.nan if value is None else value for value in values])
