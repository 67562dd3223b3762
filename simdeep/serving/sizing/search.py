"""Which deployments are worth simulating: all are judged by the estimate, memory first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from simdeep.serving.deployment import Role
from simdeep.serving.sizing.candidates import Miss, Tally, describe, designs
from simdeep.serving.sizing.demand import Demand
from simdeep.serving.sizing.estimate import Priced, Pricer, units_that_fit
from simdeep.serving.sizing.front import Deployment, deploy, not_beaten
from simdeep.serving.sizing.goal import Goal
from simdeep.spec.serve import ServeScenario
from simdeep.units import fmt_time

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Judged:
    """What the estimate says of everything there is to choose from.

    Attributes:
        deployments: those that meet the goal.
        priced: designs whose iterations were simulated.
        tally: what became of the designs.
        dropped: deployments (combinations of designs and numbers of units) by why not.
        candidates: all deployments that were judged.
        iterations: iterations simulated.
    """

    deployments: tuple[Deployment, ...]
    priced: tuple[Priced, ...]
    tally: Tally
    dropped: Counter[str]
    candidates: int
    iterations: int


def judge(
    scenarios: Sequence[ServeScenario],
    goal: Goal,
    demand: Demand,
    progress: Progress | None = None,
) -> Judged:
    """Judge every deployment of the scenarios (one a GPU type)."""
    tally, pricer, dropped = Tally(), Pricer(demand, goal), Counter[str]()
    legal = [
        design
        for scenario in scenarios
        for design in designs(scenario, demand.longest, demand.row_context, tally)
    ]
    able: list[Priced] = []
    priced: list[Priced] = []
    for done, design in enumerate(legal, 1):
        one = pricer.price(design)
        priced.append(one)
        if _keeps_latency(one, tally):
            able.append(one)
        if progress is not None:
            progress(done, len(legal))
    found: list[Deployment] = []
    total = 0
    for scenario in scenarios:
        own = [p for p in able if p.design.scenario is scenario]
        make = _for_rate if goal.rate is not None else _for_gpus
        made, count = make(own, goal, scenario, dropped, tally)
        found += made
        total += count
    return Judged(tuple(found), tuple(priced), tally, dropped, total, pricer.iterations)


def _keeps_latency(priced: Priced, tally: Tally) -> bool:
    """Whether a unit without any load keeps the latencies."""
    design, goal = priced.design, priced.goal
    name = f"{describe(design.unit)} on {design.scenario.topology.gpu.name}"
    if design.role != "prefill" and goal.tpot_s is not None:
        least = priced.best_tpot()
        if least > goal.tpot_s:
            text = f"{name}: a single row takes {fmt_time(least, 3)} a token"
            tally.drop("tpot", Miss("tpot", design.role, least / goal.tpot_s, text))
            return False
    if design.role != "decode" and goal.ttft_s is not None:
        least = priced.best_ttft()
        if least > goal.ttft_s:
            text = f"{name}: a prompt alone takes {fmt_time(least, 3)}"
            tally.drop("ttft", Miss("ttft", design.role, least / goal.ttft_s, text))
            return False
    return True


def _by_role(able: Sequence[Priced]) -> dict[Role, list[Priced]]:
    found: dict[Role, list[Priced]] = {"prefill": [], "decode": [], "mixed": []}
    for one in able:
        found[one.design.role].append(one)
    return found


def _for_rate(
    able: Sequence[Priced],
    goal: Goal,
    scenario: ServeScenario,
    dropped: Counter[str],
    tally: Tally,
) -> tuple[list[Deployment], int]:
    """Deployments for a rate, and how many were judged.

    A prefill unit decides TTFT, a decode unit TPOT, and cost adds up: a choice of one role that
    another of that role beats in GPUs and latency cannot be in the best deployment of any kind.
    """
    assert goal.rate is not None
    rate, gpus, roles = goal.rate, scenario.topology.gpus, _by_role(able)
    options = {
        role: [x for one in roles[role] for x in _counts(one, rate, gpus, scenario, dropped, tally)]
        for role in roles
    }
    pairs = len(options["prefill"]) * len(options["decode"])
    best = {role: _unbeaten(options[role], rate) for role in ("prefill", "decode")}
    dropped["beaten by other units of the role"] += pairs - len(best["prefill"]) * len(
        best["decode"]
    )
    made: list[Deployment] = []
    for (p, n), (d, m) in product(best["prefill"], best["decode"]):
        if n * p.design.gpus + m * d.design.gpus > gpus:
            dropped["more GPUs than the cluster has"] += 1
        else:
            made.append(deploy({"prefill": p, "decode": d}, {"prefill": n, "decode": m}, rate))
    made += [deploy({"mixed": one}, {"mixed": n}, rate) for one, n in options["mixed"]]
    return made, pairs + len(options["mixed"])


Option = tuple[Priced, int]


def _unbeaten(options: Sequence[Option], rate: float) -> list[Option]:
    if not options:
        return []
    points = [(n * one.design.gpus, *one.latencies(n, rate)) for one, n in options]
    return [options[i] for i in not_beaten(points)]


def _counts(
    one: Priced,
    rate: float,
    gpus: int,
    scenario: ServeScenario,
    dropped: Counter[str],
    tally: Tally,
) -> list[Option]:
    """A design in the numbers of units to try; none where no number within the cluster does."""
    room = units_that_fit(gpus, one.design)
    fewest = one.fewest(rate, room)
    if fewest is not None:
        spare = scenario.fields.size.spare
        counts = dict.fromkeys(math.ceil(fewest * factor - 1e-9) for factor in spare)
        return [(one, count) for count in counts if count <= room]
    tally.drop("gpus")
    most = one.most_of(room) if room else 0.0
    text = (
        f"{describe(one.design.unit)}: all {gpus:,} GPUs of {scenario.topology.name} take "
        f"{most:,.3g} requests/s within the goal"
    )
    by = rate / most if most > 0 else math.inf
    tally.misses.append(Miss("gpus", one.design.role, by, text))
    return []


def _for_gpus(
    able: Sequence[Priced],
    goal: Goal,
    scenario: ServeScenario,
    dropped: Counter[str],
    tally: Tally,
) -> tuple[list[Deployment], int]:
    """Deployments on so many GPUs, each at the highest rate within the goal and below it."""
    assert goal.gpus is not None
    gpus, roles = min(goal.gpus, scenario.topology.gpus), _by_role(able)
    parts: list[dict[Role, Priced]] = [
        {"prefill": p, "decode": d} for p, d in product(roles["prefill"], roles["decode"])
    ]
    parts += [{"mixed": one} for one in roles["mixed"]]
    made: list[Deployment] = []
    for chosen in parts:
        best = _best_split(chosen, gpus)
        if best is None:
            dropped["no split of the GPUs meets the goal"] += 1
            least = sum(one.design.gpus for one in chosen.values())
            if least > gpus:
                names = " with ".join(describe(one.design.unit) for one in chosen.values())
                text = f"{names}: a unit of each takes {least:,} GPUs, given are {gpus:,}"
                tally.misses.append(Miss("gpus", "deployment", least / gpus, text))
            continue
        units, rate = best
        made += [deploy(chosen, units, rate / factor) for factor in scenario.fields.size.spare]
    return made, len(parts)


def _best_split(parts: dict[Role, Priced], gpus: int) -> tuple[dict[Role, int], float] | None:
    """Numbers of units among so many GPUs that take the highest rate, and that rate."""
    if len(parts) == 1:
        role, one = next(iter(parts.items()))
        count = units_that_fit(gpus, one.design)
        rate = one.most_of(count) if count else 0.0
        return ({role: count}, rate) if rate > 0 else None
    prefill, decode = parts["prefill"], parts["decode"]
    low, high = 1, units_that_fit(gpus - decode.design.gpus, prefill.design)
    best: tuple[dict[Role, int], float] | None = None
    # More prefill units take more and leave less to decode: the best is where the two cross.
    while low <= high:
        middle = (low + high) // 2
        rest = units_that_fit(gpus - middle * prefill.design.gpus, decode.design)
        ours, theirs = prefill.most_of(middle), decode.most_of(rest)
        rate = min(ours, theirs)
        if rate > 0 and (best is None or rate > best[1]):
            best = {"prefill": middle, "decode": rest}, rate
        if ours < theirs:
            low = middle + 1
        else:
            high = middle - 1
    return best
