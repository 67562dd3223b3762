"""Request simulation has the last word: deployments are simulated, and their units corrected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from simdeep.errors import InputError
from simdeep.serving.deployment import Role
from simdeep.serving.limits import growing_queue
from simdeep.serving.simulate import simulate_serving
from simdeep.serving.sizing.front import Deployment, deploy
from simdeep.spec.serve_schema import Slo, Window

if TYPE_CHECKING:
    from simdeep.serving.results import Figures
    from simdeep.serving.sizing.goal import Goal
    from simdeep.spec.serve import ServeScenario

MIN_WINDOW_S = 8.0
"""Shortest time measured: some iterations of prefill units, at any rate."""
STEP = 0.05
"""Units are added and taken, or the rate is changed, by so much (one unit at least)."""
NO_UNITS = {"prefill": None, "decode": None, "mixed": None}
TRIES = 3
"""Corrections of a deployment that misses the goal."""


@dataclass(frozen=True, eq=False)
class Verified:
    """A deployment, simulated request by request.

    `growing` names the role whose queue grows through the window, if one does: then the load is
    more than the units take, whatever the latencies in the window say.
    """

    deployment: Deployment
    scenario: ServeScenario
    figures: Figures
    errors: dict[str, float]
    limit: str
    limited_by: str
    growing: str | None
    meets: bool

    @property
    def usd_per_mtok(self) -> float:
        """Dollars for a million tokens, input and output together, at the rate asked for."""
        return self.deployment.usd_per_mtok

    def at_share(self, name: str, share: float) -> float:
        """A latency (s) at the percentile nearest to the SLO's share."""
        point = "p99" if share > 0.95 else "p90" if share > 0.6 else "p50"
        return float(getattr(getattr(self.figures, name), point))


def simulate(deployment: Deployment, goal: Goal) -> Verified:
    """Simulate a deployment over a short window."""
    scenario = as_scenario(deployment, goal)
    result = simulate_serving(scenario)
    figures, share = result.figures, result.figures.slo_attainment
    growing = growing_queue(result.runs)
    return Verified(
        deployment=deployment,
        scenario=scenario,
        figures=figures,
        errors=dict(result.errors),
        limit=result.limit.sentence,
        limited_by=result.limit.name,
        growing=None if growing is None else growing[0],
        meets=share is not None and share >= goal.share and growing is None,
    )


def as_scenario(deployment: Deployment, goal: Goal) -> ServeScenario:
    """The scenario that runs a deployment at its rate, hours of the day left out."""
    base = deployment.scenario
    fields, traffic = base.fields, base.traffic
    assert traffic is not None
    units = {
        role: deployment.parts[role].design.fields.model_copy(update={"units": count})
        for role, count in deployment.units.items()
    }
    seconds = max(fields.size.requests / deployment.rate, MIN_WINDOW_S)
    changed = fields.model_copy(
        update={
            "deployment": fields.deployment.model_copy(update=NO_UNITS | units),
            "traffic": traffic.model_copy(update={"rate": deployment.rate, "by_hour": ()}),
            "slo": Slo.model_construct(ttft=goal.ttft_s, tpot=goal.tpot_s, share=goal.share),
            "autoscale": None,
            "window": Window.model_construct(
                duration=seconds, warmup=seconds / 2, requests=None, day=False
            ),
        }
    )
    return replace(base, fields=changed)


def selection(
    front: Sequence[Deployment], found: Sequence[Deployment], count: int
) -> list[Deployment]:
    """What to simulate: the cheapest of different designs, and points along the front.

    Half are the cheapest deployments no two of which have the same units, for the estimate may err
    on each; the others follow the front from its cheapest to its fastest end in even steps.
    """
    chosen: list[Deployment] = []
    seen: set[tuple[object, ...]] = set()
    for one in sorted(found, key=lambda d: (d.usd_per_mtok, d.tpot_s, d.ttft_s)):
        shape = tuple((r, p.design.unit.tp, p.design.unit.dp) for r, p in one.parts.items())
        if shape not in seen:
            seen.add(shape)
            chosen.append(one)
        if len(chosen) >= (count + 1) // 2:
            break
    left = [one for one in front if one not in chosen]
    more = min(count - len(chosen), len(left))
    # In turns, so that corrections of the cheapest do not use up what the front shall have.
    along = [left[i * len(left) // more] for i in range(more)]
    pairs = zip_longest(chosen, along[::-1])
    return [one for pair in pairs for one in pair if one is not None]


def corrected(verified: Verified, goal: Goal) -> Deployment | None:
    """The deployment with more units of the role that misses, or at a lower rate; None: no more."""
    deployment = verified.deployment
    if goal.gpus is not None:
        return deploy(deployment.parts, deployment.units, deployment.rate * (1 - 2 * STEP))
    units = dict(deployment.units)
    role = _at_fault(verified, goal)
    units[role] += max(1, round(STEP * units[role]))
    more = deploy(deployment.parts, units, deployment.rate)
    return more if more.gpus <= deployment.scenario.topology.gpus else None


def _at_fault(verified: Verified, goal: Goal) -> Role:
    if "mixed" in verified.deployment.units:
        return "mixed"
    if verified.growing is not None:
        return "prefill" if verified.growing == "prefill" else "decode"
    ttft, tpot = shares(verified, goal)
    return "prefill" if ttft >= tpot else "decode"


def shares(verified: Verified, goal: Goal) -> tuple[float, float]:
    """TTFT and TPOT at the SLO's share over what is promised (0 where nothing is)."""
    ttft = verified.at_share("ttft_s", goal.share) / goal.ttft_s if goal.ttft_s else 0.0
    tpot = verified.at_share("tpot_s", goal.share) / goal.tpot_s if goal.tpot_s else 0.0
    return ttft, tpot


def fewer(verified: Verified) -> list[Deployment]:
    """The deployment with a step fewer units of each role, cheapest first."""
    deployment = verified.deployment
    found = []
    for role, count in deployment.units.items():
        less = count - max(1, round(STEP * count))
        if less >= 1:
            units = {**deployment.units, role: less}
            found.append(deploy(deployment.parts, units, deployment.rate))
    return sorted(found, key=lambda d: d.usd_per_mtok)


class Verifier:
    """Simulates deployments, as many as the scenario allows."""

    def __init__(self, goal: Goal, most: int, progress: Callable[[int, int], None] | None = None):
        self.goal = goal
        self.most = most
        self.progress = progress
        self.done: list[Verified] = []
        self.refused: list[tuple[Deployment, str]] = []
        self._known: dict[tuple[object, ...], Verified | None] = {}

    @property
    def left(self) -> int:
        """Simulations left."""
        return self.most - len(self.done) - len(self.refused)

    def run(self, deployment: Deployment) -> Verified | None:
        """Simulate a deployment unless done; None where it cannot be (or no more may be)."""
        key = (
            tuple(deployment.parts.values()),
            tuple(deployment.units.values()),
            deployment.rate,
        )
        if key in self._known:
            return self._known[key]
        if self.left < 1:
            return None
        found: Verified | None = None
        try:
            found = simulate(deployment, self.goal)
            self.done.append(found)
        except InputError as error:
            self.refused.append((deployment, str(error)))
        self._known[key] = found
        if self.progress is not None:
            self.progress(self.most - self.left, self.most)
        return found

    def correct(self, deployment: Deployment) -> Verified | None:
        """Simulate, and correct what misses the goal a few times."""
        found = self.run(deployment)
        for _ in range(TRIES):
            if found is None or found.meets:
                break
            better = corrected(found, self.goal)
            found = None if better is None else self.run(better)
        return found

    def tighten(self, best: Verified) -> Verified:
        """Take units from a deployment that meets the goal, or raise its rate, while it does."""
        while self.left > 0:
            if self.goal.gpus is not None:
                deployment = best.deployment
                rate = deployment.rate * (1 + STEP)
                tried = [deploy(deployment.parts, deployment.units, rate)]
            else:
                tried = fewer(best)
            better = next((v for d in tried if (v := self.run(d)) is not None and v.meets), None)
            if better is None:
                break
            best = better
        return best
