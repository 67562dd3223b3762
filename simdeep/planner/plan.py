"""A plan from a scenario: candidates, search, and what there is to say about the best ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep import api
from simdeep.analysis.blame import GROUPS
from simdeep.analysis.money import run_cost
from simdeep.analysis.utilisation import utilisation
from simdeep.errors import InputError, Problem
from simdeep.planner.candidates import Candidates, enumerate_candidates
from simdeep.planner.judge import Choice, Judged, scenario_of
from simdeep.planner.objective import Limits, Objective
from simdeep.planner.search import GIB, Found, Report, Search
from simdeep.planner.sensitivity import Effect, sensitivity
from simdeep.planner.space import Space, space_of
from simdeep.spec.flops import flops_per_token

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario

NEAR = 0.15
"""A plan that needs at most this share more memory than there is nearly fits."""
SHOWN = 200
"""Plans behind the proved ranking that are still listed in JSON."""
Stage = Callable[[str], Report | None]


@dataclass(frozen=True, eq=False)
class Plan:
    """One plan: what was chosen, what the engine says of it, what it costs.

    `parts` are seconds of a step, mean over ranks, by `GROUPS` of the analysis; empty for plans
    behind the ranking. `mfu` counts as the run command does (non-causal, dense BF16 peak).
    """

    scenario: Scenario
    judged: Judged
    usd_per_ttoken: float
    days_per_ttoken: float
    mfu: float
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def choice(self) -> Choice:
        """What it chooses."""
        return self.judged.choice


@dataclass(frozen=True, eq=False)
class PlanResult:
    """Everything a planning run found.

    `plans` best first; the first `proved` of them are the best of the whole space. `own` is the
    scenario's own layout, if the simulator takes it on the first cluster. `near` did not fit.
    """

    scenario: Scenario
    space: Space
    objective: Objective
    clusters: tuple[Scenario, ...]
    combinations: int
    candidates: int
    refused_by_rule: dict[str, int]
    found: Found
    plans: tuple[Plan, ...]
    pareto: tuple[Plan, ...]
    near: tuple[Plan, ...]
    own: Plan | None
    effects: tuple[Effect, ...]
    tightest: str

    @property
    def proved(self) -> int:
        """How many plans at the head of the ranking are proved to be the best."""
        if self.found.proved:
            return min(self.space.keep, len(self.plans))
        values = [self.objective.of_judged(plan.judged) for plan in self.plans]
        return sum(value <= self.found.open_bound for value in values)

    @property
    def gap(self) -> float:
        """By which share an unsimulated candidate could at most beat the winner."""
        if not self.plans or self.found.proved:
            return 0.0
        best = self.objective.of_judged(self.plans[0].judged)
        return max(0.0, 1.0 - self.found.open_bound / best)


def make_plan(
    scenario: Scenario,
    clusters: Sequence[Scenario] | None = None,
    limits: Limits | None = None,
    jobs: int = 1,
    stage: Stage | None = None,
) -> PlanResult:
    """Search the space of a training scenario.

    Args:
        scenario: with or without a `plan:` section.
        clusters: the scenario on every cluster to choose from (default: its own).
        limits: a budget or a deadline.
        jobs: processes that simulate.
        stage: told what is being done; returns who counts simulations.

    Raises:
        InputError: if the scenario is no folded training step.
    """
    _check(scenario)
    clusters = tuple(clusters or (scenario,))
    space = space_of(scenario)
    objective = Objective.of(clusters, limits or Limits())
    tell = stage or (lambda text: None)
    tell("listing candidates")
    candidates = enumerate_candidates(clusters, space)
    report = tell("bounding and simulating")
    search = Search(clusters, candidates, objective, jobs, report)
    found = search.run() if candidates.n else Found(proved=True)
    tell("explaining")
    fitting, over = _split(found, search)
    fitting.sort(key=lambda judged: objective.of_judged(judged))
    legal = [j for j in fitting if np.isfinite(objective.of_judged(j))]
    plans = [
        _plan(clusters, judged, detailed=place < space.keep)
        for place, judged in enumerate(legal[:SHOWN])
    ]
    best = plans[0] if plans else None
    near = _near(search, found, over, legal) if candidates.n else []
    return PlanResult(
        scenario=scenario,
        space=space,
        objective=objective,
        clusters=clusters,
        combinations=space.size * len(clusters),
        candidates=candidates.n,
        refused_by_rule=candidates.refused,
        found=found,
        plans=tuple(plans),
        pareto=_pareto(clusters, legal),
        near=tuple(_plan(clusters, judged) for judged in near),
        own=_own(scenario),
        effects=sensitivity(best.scenario) if best else (),
        tightest="" if plans else _tightest(candidates, search, fitting),
    )


def _check(scenario: Scenario) -> None:
    problems = []
    if scenario.kind != "train":
        problems.append(Problem("", "kind", f"is {scenario.kind}; a plan is for kind train"))
    elif not scenario.simulate.fold:
        message = "is false; plans compare folded steps, in which peers are alike"
        problems.append(Problem("", "simulate.fold", message))
    if scenario.faults or scenario.topology.overrides:
        message = "has slow or broken elements, which a folded step cannot have; plan without them"
        problems.append(Problem("", "topology", message))
    if problems:
        raise InputError(problems)


def _split(found: Found, search: Search) -> tuple[list[Judged], list[Judged]]:
    fitting: list[Judged] = []
    over: list[Judged] = []
    for judged in found.judged:
        fits = judged.memory_peak_gib * GIB <= search.capacity_of(judged)
        (fitting if fits else over).append(judged)
    return fitting, over


def _plan(clusters: Sequence[Scenario], judged: Judged, detailed: bool = False) -> Plan:
    scenario = scenario_of(clusters[judged.choice.cluster], judged.choice)
    topology = scenario.topology
    cost = run_cost(
        step_time_s=judged.step_time_s,
        tokens_per_step=scenario.tokens_per_step,
        gpus=topology.gpus,
        usd_per_gpu_hour=scenario.usd_per_gpu_hour,
    )
    full, causal = (
        flops_per_token(scenario.model, scenario.train.seq_len, part) for part in (False, True)
    )
    use = utilisation(
        flops_per_token=full,
        flops_per_token_causal=causal,
        tokens_per_step=scenario.tokens_per_step,
        step_time_s=judged.step_time_s,
        gpus=topology.gpus,
        peak_bf16_flops=topology.gpu.peak["bf16"],
    )
    parts = parts_of(scenario) if detailed else {}
    return Plan(scenario, judged, cost.usd, cost.days, use.mfu, parts)


def parts_of(scenario: Scenario) -> dict[str, float]:
    """Seconds of a step by what a rank's compute stream does, mean over ranks."""
    attribution = api.simulate(scenario).attribution
    return {group: float(attribution.group_ns(group).mean()) / 1e9 for group in GROUPS}


def _own(scenario: Scenario) -> Plan | None:
    """The scenario's own layout, simulated; None if that is not possible."""
    try:
        result = api.simulate(scenario)
    except InputError:
        return None
    layout, train = scenario.layout, scenario.train
    choice = Choice(
        cluster=0,
        **{k: getattr(layout, k) for k in ("tp", "pp", "vpp", "cp", "ep", "dp", "zero")},
        **{k: getattr(train, k) for k in ("mbs", "schedule", "recompute", "comm_sms", "precision")},
        stages=tuple(len(stage.layers) for stage in layout.stages),
        microbatches=scenario.microbatches,
    )
    memory = result.memory
    judged = Judged(choice, result.step_time_s, memory.peak_gib, memory.capacity_gib)
    parts = {g: float(result.attribution.group_ns(g).mean()) / 1e9 for g in GROUPS}
    plain = _plan((scenario,), judged)
    return Plan(scenario, judged, plain.usd_per_ttoken, plain.days_per_ttoken, plain.mfu, parts)


def _pareto(clusters: Sequence[Scenario], legal: list[Judged]) -> tuple[Plan, ...]:
    """Plans that no other one beats in time, dollars and free memory at once, fastest first."""
    if not legal:
        return ()
    rate = np.array([s.topology.gpus * s.usd_per_gpu_hour for s in clusters])
    time = np.array([j.step_time_s for j in legal])
    usd = time * rate[[j.choice.cluster for j in legal]]
    full = np.array([-j.headroom_gib for j in legal])
    figures = np.stack([time, usd, full], axis=1)
    keep = []
    for at, row in enumerate(figures):
        no_worse = (figures <= row).all(axis=1)
        better = no_worse & (figures < row).any(axis=1)
        if not better.any():
            keep.append(at)
    keep.sort(key=lambda at: (time[at], full[at]))
    return tuple(_plan(clusters, legal[at]) for at in keep)


def _near(
    search: Search, found: Found, over: list[Judged], legal: list[Judged], tries: int = 12
) -> list[Judged]:
    """Plans better than the winner that need a little more memory than there is."""
    best = search.objective.of_judged(legal[0]) if legal else np.inf
    extra = search.nearly(1.0 + NEAR, best, tries)
    nearly = [
        judged
        for judged in (*over, *extra)
        if judged.memory_peak_gib * GIB <= search.capacity_of(judged) * (1.0 + NEAR)
        and judged.memory_peak_gib * GIB > search.capacity_of(judged)
        and search.objective.of_judged(judged) < best
    ]
    return sorted(nearly, key=lambda j: search.objective.of_judged(j))[:5]


def _tightest(candidates: Candidates, search: Search, fitting: list[Judged]) -> str:
    """Why there is no plan: the rule, the memory or the limit that ruled out most."""
    if not candidates.n:
        rule, count = max(candidates.refused.items(), key=lambda item: item[1])
        return f"no legal layout: '{rule}' alone rules out {count:,} combinations"
    fits = search.bounds.memory <= search.capacity
    if fitting or fits.any():
        return _over_limit(search, fits)
    least = float(search.bounds.memory.min()) / GIB
    have = float(search.capacity.max()) / GIB
    return (
        f"nothing fits into GPU memory: the smallest of {candidates.n:,} layouts needs at least "
        f"{least:.1f} GiB, a GPU has {have:.1f} GiB"
    )


def _over_limit(search: Search, fits: npt.NDArray[np.bool_]) -> str:
    """What the deadline or the budget would have to be at least."""
    objective, cluster = search.objective, search.candidates["cluster"]
    steps = objective.steps or 0.0
    seconds = search.bounds.total
    parts = []
    if objective.limits.deadline_s is not None:
        days = steps * float(seconds[fits].min()) / 86400
        given = objective.limits.deadline_s / 86400
        parts.append(f"the deadline of {given:.3g} days; no layout can take under {days:.3g}")
    if objective.limits.max_usd is not None:
        usd = steps * float((seconds * objective.usd_per_step_s[cluster])[fits].min())
        parts.append(
            f"the budget of ${objective.limits.max_usd:,.0f}; none can cost under ${usd:,.0f}"
        )
    return "no plan keeps " + ", nor ".join(parts)
