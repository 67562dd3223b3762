"""`size(scenarios, goal)`: the deployment that meets a goal at the least cost, and the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simdeep.serving.sizing.demand import Demand, demand_of
from simdeep.serving.sizing.front import front_of, not_beaten
from simdeep.serving.sizing.goal import Goal
from simdeep.serving.sizing.search import Judged, judge
from simdeep.serving.sizing.verify import Verified, Verifier, selection, shares
from simdeep.spec.serve import ServeScenario

Stage = Callable[[str], Callable[[int, int], None] | None]

TIGHTEN = 4
"""Simulations kept back to tighten the winner."""


@dataclass(frozen=True, eq=False)
class SizeResult:
    """What sizing found.

    Attributes:
        scenario: as given.
        goal: what was asked.
        demand: of a request.
        judged: the estimate of everything.
        verified: simulated, in the order simulated.
        meeting: those of them that meet the goal, cheapest first.
        front: those of them that no other beats in dollars, TPOT and TTFT, cheapest first.
        refused: simulations the simulator refused, with why.
    """

    scenario: ServeScenario
    goal: Goal
    demand: Demand
    judged: Judged
    verified: tuple[Verified, ...]
    meeting: tuple[Verified, ...]
    front: tuple[Verified, ...]
    refused: tuple[str, ...]

    @property
    def winner(self) -> Verified | None:
        """The cheapest that meets the goal."""
        return self.meeting[0] if self.meeting else None

    @property
    def runner_up(self) -> Verified | None:
        """The cheapest of other units than the winner's."""
        if self.winner is None:
            return None
        own = self.winner.deployment.parts
        others = (v for v in self.meeting if v.deployment.parts != own)
        return next(others, None)

    @property
    def nearest(self) -> Verified | None:
        """Of those simulated that miss the goal, the one that misses by least."""
        missing = [v for v in self.verified if not v.meets]
        key = [(v.growing is not None, max(shares(v, self.goal))) for v in missing]
        return missing[min(range(len(missing)), key=key.__getitem__)] if missing else None


def size(
    scenarios: Sequence[ServeScenario], goal: Goal, stage: Stage = lambda text: None
) -> SizeResult:
    """Size the deployment of a scenario.

    Args:
        scenarios: the scenario on every GPU type to choose from, the first as given.
        goal: what is asked.
        stage: takes what is being done, gives a function of (done, of all), or None.
    """
    first = scenarios[0]
    space = first.fields.size
    demand = demand_of(first, goal.share)
    judged = judge(scenarios, goal, demand, stage("estimating"))
    front = front_of(judged.deployments)
    verifier = Verifier(goal, space.simulations, stage("simulating"))
    keep = min(TIGHTEN, space.simulations // 3)
    for deployment in selection(front, judged.deployments, max(1, space.simulations - keep)):
        if verifier.left > keep or not verifier.done:
            verifier.correct(deployment)
    if verifier.done and any(v.meets for v in verifier.done):
        verifier.tighten(min((v for v in verifier.done if v.meets), key=_order))
    meeting = sorted((v for v in verifier.done if v.meets), key=_order)
    points = [(v.usd_per_mtok, v.figures.tpot_s.p50, v.figures.ttft_s.p50) for v in meeting]
    return SizeResult(
        scenario=first,
        goal=goal,
        demand=demand,
        judged=judged,
        verified=tuple(verifier.done),
        meeting=tuple(meeting),
        front=tuple(meeting[i] for i in not_beaten(points)) if meeting else (),
        refused=tuple(text for _, text in verifier.refused),
    )


def _order(verified: Verified) -> tuple[float, float, float]:
    figures = verified.figures
    return verified.usd_per_mtok, figures.tpot_s.p50, figures.ttft_s.p50
