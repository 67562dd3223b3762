"""Faults of a scenario: read one by one, checked against the cluster, applied like overrides."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from simdeep.spec.fault_schema import Fault
from simdeep.spec.overrides import Override, read_items
from simdeep.spec.topology import Topology
from simdeep.spec.validate import Reporter

_KEY = "faults"
_EXAMPLE = "{gpu: 5, speed: 0.8}, ..."


def read_faults(data: dict[str, Any], report: Reporter) -> None:
    """Check each fault of a scenario's `data` by itself; the good ones take the list's place."""
    data[_KEY] = tuple(read_items(data.get(_KEY), Fault, (_KEY,), _EXAMPLE, report).values())


def check_faults(
    faults: Sequence[Fault], topology: Topology, ranks: int, fold: bool, report: Reporter
) -> None:
    """Report faults of what the cluster does not have, or the simulation would not see.

    Args:
        faults: those that are right by themselves.
        topology: the cluster without them.
        ranks: GPUs that the layout uses, the first ones.
        fold: whether one GPU stands for all its peers.
        report: where problems go.
    """
    counts = {"gpu": topology.gpus, "nic": topology.gpus, "nvlink": topology.gpus}
    counts["node"] = topology.nodes
    times: Counter[tuple[str, int]] = Counter()
    sound = []
    wrong = {path[1] for path in report.tainted if path[:1] == (_KEY,) and len(path) > 1}
    places = (i for i in itertools.count() if i not in wrong)
    for i, fault in zip(places, faults, strict=False):
        kind, number = fault.element
        at = (_KEY, i, kind)
        times[kind, number] += 1
        used = ranks if kind != "node" else -(-ranks // topology.gpus_per_node)
        if number >= counts[kind]:
            report.add(at, f"is {number}; {topology.name} has {kind} 0 to {counts[kind] - 1}")
        elif number >= used:
            report.add(at, f"is {number}; the layout uses {kind} 0 to {used - 1} only")
        elif times[kind, number] > 1:
            report.add(at, f"is {number}; this {kind} is listed before")
        else:
            sound.append(fault)
            _check_bandwidth(fault, i, topology, report)
    report.rule(
        "faults simulate.fold",
        "slow and broken parts are seen only where every GPU is simulated: set simulate.fold=false",
        fold and any(not fault.lost for fault in sound),
    )
    if not fold:
        _check_what_is_left(with_faults(topology, sound), ranks, report)


def _check_bandwidth(fault: Fault, i: int, topology: Topology, report: Reporter) -> None:
    kind, _ = fault.element
    whole = topology.nic_bw if kind == "nic" else topology.nvlink_bw
    if fault.bandwidth is not None and fault.bandwidth > whole:
        given, normal = (f"{value / 1e9:g} GB/s" for value in (fault.bandwidth, whole))
        report.add((_KEY, i, "bandwidth"), f"is {given}; a fault leaves at most {normal}")


def _check_what_is_left(topology: Topology, ranks: int, report: Reporter) -> None:
    """Every GPU of the job must run and reach a NIC of its node."""
    dead = np.flatnonzero(topology.gpu_speeds()[:ranks] == 0)
    if len(dead):
        report.add(("topology",), f"gpu {dead[0]} is down, but the layout uses it")
    per_node = topology.gpus_per_node
    if ranks <= per_node:
        return
    best = topology.nic_bandwidths().reshape(-1, per_node).max(axis=1)
    for node in np.flatnonzero(best[: -(-ranks // per_node)] == 0)[:8].tolist():
        report.add((_KEY,), f"node {node} has no NIC left; lose the node instead")


def with_faults(topology: Topology, faults: Sequence[Fault]) -> Topology:
    """The cluster with slow and broken parts as overrides; a lost node is replaced by a spare."""
    more = _overrides(faults)
    return replace(topology, overrides=(*topology.overrides, *more)) if more else topology


def without_faults(topology: Topology, faults: Sequence[Fault]) -> Topology:
    """The cluster that `with_faults` made this one of."""
    more = len(_overrides(faults))
    return replace(topology, overrides=topology.overrides[:-more]) if more else topology


def _overrides(faults: Sequence[Fault]) -> list[Override]:
    found = []
    for fault in faults:
        kind, number = fault.element
        if kind != "node":
            # The values have been read; an override would want them as text again.
            said: dict[str, Any] = {k: getattr(fault, k) for k in ("speed", "bandwidth", "down")}
            found.append(Override.model_construct(element=f"{kind} {number}", **said))
    return found
