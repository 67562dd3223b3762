"""A plan read back from the JSON that `simdeep plan` wrote."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from simdeep.errors import InputError, Problem
from simdeep.report.inputs import Input
from simdeep.report.plan_json import Origin
from simdeep.spec.jsonio import load_json

if TYPE_CHECKING:
    from simdeep.planner.judge import Choice, Judged
    from simdeep.planner.objective import Objective
    from simdeep.planner.plan import Plan, PlanResult
    from simdeep.planner.search import Found
    from simdeep.planner.space import Space
    from simdeep.spec.scenario import Scenario

_DAY, _TRILLION = 86400.0, 1e12


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """What was read: result, version that wrote it, launch arguments if asked for, and origin.

    The file names models and clusters but does not hold them: scenarios of the result know no more
    than GPUs, price and tokens of a step. `result.found.judged` has as many entries as were
    simulated; those that were not saved are not a number.
    """

    result: PlanResult
    version: str
    launch: str | None
    origin: Origin


@dataclass(frozen=True, slots=True)
class _Gpu:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class _Topology:
    name: str
    gpus: int
    gpu: _Gpu


@dataclass(frozen=True, slots=True)
class _Goal:
    tokens: float | None = None


@dataclass(frozen=True, slots=True)
class _Cluster:
    """As much of a scenario as a saved plan knows."""

    name: str
    topology: _Topology
    tokens_per_step: float
    usd_per_s: float
    goal: _Goal = _Goal()


def read_plan(path: str | Path) -> SavedPlan:
    """Read a plan's JSON.

    Raises:
        InputError: unreadable, or not what `simdeep plan --json` or `--out` writes.
    """
    data = load_json(path).data
    try:
        inputs = tuple(Input(**row) for row in data["inputs"])
        origin = Origin(data["fingerprint"], inputs, str(data["scenario_file"]))
        return SavedPlan(_result(data), str(data["version"]), data["launch"], origin)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        missing = f" (no {error})" if isinstance(error, KeyError) else ""
        message = f"is no plan{missing}; name one that `simdeep plan --out` or --json wrote"
        raise InputError([Problem(str(path), "", message)]) from None


def _result(data: Mapping[str, Any]) -> PlanResult:
    from simdeep.planner.plan import PlanResult
    from simdeep.planner.sensitivity import Effect

    every = [*data["plans"], *data["near"]]
    clusters = _clusters(str(data["name"]), every)

    def listed(key: str) -> tuple[Plan, ...]:
        return tuple(_plan(row, clusters) for row in data[key])

    plans = listed("plans")
    space = data["space"]
    objective = _objective(data, clusters)
    return PlanResult(
        scenario=_as_scenario(clusters[0]),
        space=_space(space["values"], sum(bool(plan.parts) for plan in plans)),
        objective=objective,
        clusters=tuple(_as_scenario(cluster) for cluster in clusters),
        combinations=int(space["combinations"]),
        candidates=int(space["candidates"]),
        refused_by_rule=dict(space["refused_by_rule"]),
        found=_found(data, plans, objective),
        plans=plans,
        pareto=listed("pareto"),
        near=listed("near"),
        own=None if data["own"] is None else _plan(data["own"], clusters),
        effects=tuple(Effect(**row) for row in data["sensitivity"]),
        tightest=data["tightest_constraint"] or "",
    )


def _clusters(name: str, rows: Sequence[Mapping[str, Any]]) -> list[_Cluster]:
    """The clusters of saved plans, each once, in the order of their best plans."""
    found: dict[tuple[str, int], _Cluster] = {}
    for row in rows:
        gpu = _Gpu(row["gpu"], row["gpu"].upper())
        steps_a_day = _DAY / row["step_time_s"]
        tokens = _TRILLION / row["days_per_ttoken"] / steps_a_day
        usd_per_s = row["usd_per_ttoken"] / row["days_per_ttoken"] / _DAY
        topology = _Topology(row["topology"], int(row["gpus"]), gpu)
        key = topology.name, topology.gpus
        found.setdefault(key, _Cluster(name, topology, tokens, usd_per_s))
    unknown = _Cluster(name, _Topology("", 0, _Gpu("", "")), math.nan, math.nan)
    return list(found.values()) or [unknown]


def _as_scenario(cluster: _Cluster) -> Scenario:
    """Who reads a saved plan asks a scenario for nothing that the cluster lacks."""
    return cast("Scenario", cluster)


def _plan(row: Mapping[str, Any], clusters: Sequence[_Cluster]) -> Plan:
    from simdeep.planner.plan import Plan

    where = row["topology"], int(row["gpus"])
    places = [(cluster.topology.name, cluster.topology.gpus) for cluster in clusters]
    # The scenario's own layout may be on a cluster that no plan of the ranking is on.
    at = places.index(where) if where in places else -1
    cluster = clusters[at] if at >= 0 else _clusters(clusters[0].name, [row])[0]
    return Plan(
        scenario=_as_scenario(cluster),
        judged=_judged(row, max(at, 0)),
        usd_per_ttoken=float(row["usd_per_ttoken"]),
        days_per_ttoken=float(row["days_per_ttoken"]),
        mfu=float(row["mfu"]),
        parts=dict(row["parts"]),
    )


def _judged(row: Mapping[str, Any], cluster: int) -> Judged:
    from simdeep.planner.judge import Judged

    peak = float(row["memory_peak_gib"])
    capacity = peak + float(row["memory_headroom_gib"])
    return Judged(_choice(row, cluster), float(row["step_time_s"]), peak, capacity)


def _choice(row: Mapping[str, Any], cluster: int) -> Choice:
    from simdeep.planner.judge import Choice

    stages = row["stages"]
    return Choice(
        cluster=cluster,
        **row["layout"],
        schedule=row["schedule"],
        recompute=tuple(row["recompute"]),
        comm_sms=int(row["comm_sms"]),
        precision=row["precision"],
        stages=stages if isinstance(stages, str) else tuple(stages),
        microbatches=int(row["microbatches"]),
    )


def _space(values: Mapping[str, Sequence[Any]], keep: int) -> Space:
    from simdeep.planner.space import Space

    plain = {
        key: tuple(tuple(v) if isinstance(v, list) else v for v in found)
        for key, found in values.items()
    }
    return Space(plain, tp_within_node=True, headroom_gib=0.0, simulations=0, keep=keep)


def _objective(data: Mapping[str, Any], clusters: Sequence[_Cluster]) -> Objective:
    from simdeep.planner.objective import Limits, Objective

    rates = np.array([cluster.usd_per_s for cluster in clusters])
    return Objective(data["objective"], rates, None, Limits(data["max_usd"], data["deadline_s"]))


def _found(data: Mapping[str, Any], plans: Sequence[Plan], objective: Objective) -> Found:
    from simdeep.planner.judge import Choice, Judged, Refusal
    from simdeep.planner.search import Found

    judged = [plan.judged for plan in plans]
    unsaved = Judged(cast("Choice", None), math.nan, math.nan, math.nan)
    judged += [unsaved] * (int(data["simulated"]) - len(judged))
    best = objective.of_judged(plans[0].judged) if plans else math.inf
    refused = []
    for row in data["refused"]:
        given = row["plan"] | {"recompute": tuple(row["plan"]["recompute"])}
        refused.append(Refusal(Choice(**given), row["reason"]))
    return Found(
        judged=judged,
        refused=refused,
        pruned=Counter(data["pruned"]),
        proved=bool(data["complete"]),
        open_bound=best * (1.0 - float(data["gap"])),
    )
