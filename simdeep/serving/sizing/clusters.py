"""The scenario on the GPU types to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from simdeep.errors import InputError, Problem
from simdeep.spec.resources import catalogue, nearest
from simdeep.spec.scenario_schema import Price
from simdeep.spec.topology import load_topology

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario


def scenarios_on(scenario: ServeScenario, gpus: Sequence[str]) -> tuple[ServeScenario, ...]:
    """The scenario on each GPU type: its own cluster, or the largest shipped one of that type.

    A scenario's own price counts on its own GPU type only.

    Raises:
        InputError: naming the nearest type where one is not known.
    """
    if not gpus:
        return (scenario,)
    own = scenario.topology.gpu.id
    known = _largest()
    problems = []
    for name in gpus:
        if name != own and name not in known:
            near = nearest(name, (own, *known))
            hint = f"; did you mean {near}?" if near else ""
            text = f"no shipped cluster of {name!r}; there are {', '.join(sorted(known))}{hint}"
            problems.append(Problem("--gpu", "", text))
    if problems:
        raise InputError(problems)
    named = dict.fromkeys(gpus)
    return tuple(scenario if name == own else _on(scenario, known[name]) for name in named)


def _largest() -> dict[str, str]:
    """The largest shipped cluster of each type whose name says type and size alone."""
    found: dict[str, tuple[int, str]] = {}
    for name in catalogue("topologies"):
        gpu, _, size = name.rpartition("-")
        if size.isdecimal() and "-" not in gpu:
            found[gpu] = max(found.get(gpu, (0, "")), (int(size), name))
    return {gpu: name for gpu, (_, name) in found.items()}


def _on(scenario: ServeScenario, name: str) -> ServeScenario:
    topology = load_topology(name)
    fields = scenario.fields.model_copy(
        update={
            "topology": name,
            "price": Price(usd_per_gpu_hour=topology.usd_per_gpu_hour),
        }
    )
    return replace(scenario, topology=topology, fields=fields)
