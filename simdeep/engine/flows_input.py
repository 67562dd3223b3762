"""What the flow simulation is given, checked and put in its own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

NS = 1e9
"""Nanoseconds of a second."""


class PathLike(Protocol):
    """Links of each flow: those of flow i are `links[ptr[i]:ptr[i + 1]]`; twice counts twice."""

    @property
    def ptr(self) -> npt.NDArray[Any]:
        """Offsets, shape [flows + 1]."""

    @property
    def links(self) -> npt.NDArray[Any]:
        """Link ids, flow after flow."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Checked flows: times in nanoseconds, rates in bytes a nanosecond."""

    ptr: I64
    links: I64
    nbytes: F64
    start: I64
    overhead: I64
    latency: I64
    cap: F64
    count: F64
    capacity: F64

    @property
    def n(self) -> int:
        """Number of flows."""
        return len(self.ptr) - 1


def check(
    paths: PathLike,
    nbytes: npt.ArrayLike,
    start_s: npt.ArrayLike,
    latency_s: npt.ArrayLike,
    link_bandwidth: npt.ArrayLike,
    overhead_s: npt.ArrayLike,
    rate_cap: npt.ArrayLike,
    count: npt.ArrayLike,
) -> Columns:
    """Flows as columns, or an `InputError` that names the first wrong one."""
    ptr = np.ascontiguousarray(paths.ptr, dtype=np.int64)
    links = np.ascontiguousarray(paths.links, dtype=np.int64)
    bandwidth = np.ascontiguousarray(link_bandwidth, dtype=np.float64)
    n = len(ptr) - 1

    def column(name: str, values: npt.ArrayLike, least: float, finite: bool = True) -> F64:
        filled: F64 = np.ascontiguousarray(np.broadcast_to(np.asarray(values, np.float64), (n,)))
        bad = ~(filled >= least) | (finite & ~np.isfinite(filled))
        if bad.any():
            i = int(bad.argmax())
            rule = f"must be {'a finite number ' if finite else ''}at least {least:g}"
            raise InputError(f"flow {i}: {name} is {filled[i]:g}; {rule}")
        return filled

    if ptr[0] != 0 or (np.diff(ptr) < 0).any() or ptr[-1] != len(links):
        raise InputError("paths: the offsets of the flows' links do not fit the list of links")
    if len(links) and (links.min() < 0 or links.max() >= len(bandwidth)):
        wrong = int(links.min() if links.min() < 0 else links.max())
        raise InputError(f"paths: there is no link {wrong}; links are 0 to {len(bandwidth) - 1}")
    used = np.zeros(len(bandwidth), bool)
    used[links] = True
    dead = used & ~((bandwidth > 0) & np.isfinite(bandwidth))
    if dead.any():
        link = int(dead.argmax())
        flow = int(np.searchsorted(ptr, np.flatnonzero(links == link)[0], side="right")) - 1
        raise InputError(
            f"flow {flow}: link {link} on its way has a bandwidth of {bandwidth[link]:g} B/s; "
            "must be a finite number above 0 (route around a link that is down)"
        )
    cap = column("rate_cap", rate_cap, 0.0, finite=False)
    if not cap.all():
        raise InputError(f"flow {int(cap.argmin())}: rate_cap is 0; must be above 0")
    return Columns(
        ptr=ptr,
        links=links,
        nbytes=column("nbytes", nbytes, 0.0),
        start=_ns(column("start_s", start_s, 0.0)),
        overhead=_ns(column("overhead_s", overhead_s, 0.0)),
        latency=_ns(column("latency_s", latency_s, 0.0)),
        cap=cap / NS,
        count=column("count", count, 1.0),
        capacity=bandwidth / NS,
    )


def _ns(seconds: F64) -> I64:
    whole: I64 = np.rint(seconds * NS).astype(np.int64)
    return whole


def successors(after: PathLike | None, n: int) -> tuple[I64, I64, I64]:
    """Lists of who waits for each flow, and for how many flows each waits."""
    if after is None:
        return np.zeros(n + 1, np.int64), np.empty(0, np.int64), np.zeros(n, np.int64)
    ptr, before = np.asarray(after.ptr, np.int64), np.asarray(after.links, np.int64)
    if len(ptr) != n + 1 or (len(before) and (before.min() < 0 or before.max() >= n)):
        raise InputError(f"after: must list flows 0 to {n - 1} for each of {n} flows")
    waiting = np.diff(ptr)
    order = np.argsort(before, kind="stable")
    next_ptr = np.concatenate([[0], np.cumsum(np.bincount(before, minlength=n))])
    return next_ptr.astype(np.int64), np.repeat(np.arange(n), waiting)[order], waiting


def cycle(stuck: I64, after: PathLike | None) -> str:
    """Names flows that wait in a circle, found by following any unfinished predecessor."""
    assert after is not None
    waits, seen, flow = set(stuck.tolist()), [], int(stuck[0])
    while flow not in seen:
        seen.append(flow)
        flow = next(p for p in after.links[after.ptr[flow] : after.ptr[flow + 1]] if p in waits)
    circle = [*seen[seen.index(flow) :], flow]
    return f"{len(stuck)} flows never start: flow " + " waits for flow ".join(map(str, circle))
