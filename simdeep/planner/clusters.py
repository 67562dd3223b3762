"""Clusters to choose from: GPU types and numbers of GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from simdeep.errors import InputError, Problem
from simdeep.spec.changes import Changes, split_named
from simdeep.spec.resources import catalogue, nearest
from simdeep.spec.scenario_schema import Price, TrainScenario
from simdeep.spec.topology import Topology, load_topology

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario


def clusters_of(
    scenario: Scenario, gpu_types: Sequence[str] = (), gpus: Sequence[int] = ()
) -> tuple[Scenario, ...]:
    """The scenario on every cluster asked for, at the price of that cluster.

    A GPU type stands for the shipped cluster of that type, resized. A scenario's own price counts
    on its own GPU type only.
    """
    found = []
    for name in gpu_types or ("",):
        for number in gpus or (0,):
            found.append(_on(scenario, name, number))
    return tuple(found)


def _on(scenario: Scenario, gpu: str, gpus: int) -> Scenario:
    own = scenario.topology
    same = gpu in ("", own.gpu.id)
    if same and gpus in (0, own.gpus):
        return scenario
    fields = scenario.fields
    assert isinstance(fields, TrainScenario)
    named = fields.topology if same else _shipped(gpu)
    base, changes = split_named(named)
    assert base is not None
    topology = _resized(base, {**changes, ("gpus",): gpus or own.gpus})
    price = scenario.price if same else Price(usd_per_gpu_hour=None)
    written = {} if isinstance(named, str) else named
    written = {**written, "base": base, "gpus": topology.gpus}
    changed = fields.model_copy(update={"topology": written, "price": price})
    return replace(scenario, topology=topology, price=price, fields=changed)


def _shipped(gpu: str) -> str:
    """The first shipped cluster of a GPU type whose name says nothing but type and size."""
    names = [n for n in catalogue("topologies") if n.rpartition("-")[2].isdigit()]
    types = {name.rpartition("-")[0]: name for name in reversed(names)}
    if gpu not in types:
        near = nearest(gpu, tuple(types))
        hint = f"; did you mean {near}?" if near else ""
        message = f"no shipped cluster of {gpu!r}; there are {', '.join(sorted(types))}{hint}"
        raise InputError([Problem("--gpu", "", message)])
    return types[gpu]


def _resized(name: str, changes: Changes) -> Topology:
    try:
        return load_topology(name, None, changes)
    except InputError as error:
        raise InputError([Problem("--gpus", "", p.message) for p in error.problems]) from None
