"""What one unit of each kind costs alone on its GPU: at least, and on average.

The figures are those the simulation itself starts from: the same works, priced by the same cost
model. At least: the cheapest routing draw, without jitter; on average: over routing draws, with the
mean jitter of the peers that a folded GPU stands for. Before routing is drawn (`rough_prices`), a
GPU gets the mean rows of its group, which its busiest peer exceeds, and experts' transfers are
free; both only lower the figures.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from math import erf, sqrt
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep import api
from simdeep.cost.program import Machine, price_work
from simdeep.planner.kinds import Kinds
from simdeep.program.columns import Action
from simdeep.program.lower.stage_costs import Workshop, half_params
from simdeep.program.lower.template import Costs
from simdeep.program.lower.train import moe_ffn, rank_shape, routing_cases
from simdeep.program.lower.units import Unit
from simdeep.program.lower.works import Nothing, Work, Works

if TYPE_CHECKING:
    from simdeep.program.lower.cases import Cases
    from simdeep.program.workload.shape import Shape
    from simdeep.spec.scenario import Scenario

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class UnitPrices:
    """Seconds, one entry for each kind of unit.

    `attn_*` and `mlp_*` compute in F, I and W; `ahead_*` and `behind_*` are the transfers on the
    way of data in front of and behind the mlp (dispatch and combine, and collectives of tensor
    parallelism, the latter also as `around_*`); `ring_*` goes on beside the attention. `comm_*` are
    the experts' transfers of a micro-batch, one after the other on their stream; `loss` is the
    least share of their time by which compute beside them falls behind. `variance` (s^2) is that of
    a micro-batch through the unit and back. `kept` bytes stay from F until I; `dense` and `expert`
    count parameters on a rank, vocabulary tables left out.
    """

    attn_f: F64
    mlp_f: F64
    attn_i: F64
    mlp_i: F64
    attn_w: F64
    mlp_w: F64
    ahead_f: F64
    behind_f: F64
    ahead_i: F64
    behind_i: F64
    around_f: F64
    around_i: F64
    ring_f: F64
    ring_i: F64
    comm_f: F64
    comm_i: F64
    variance: F64
    loss: F64
    kept: F64
    dense: F64
    expert: F64


NAMES = tuple(field.name for field in fields(UnitPrices))


def rough_prices(scenario: Scenario, kinds: Kinds) -> UnitPrices:
    """Prices before routing is drawn."""
    moe = moe_ffn(scenario)
    shape = rank_shape(scenario, None)
    if moe is not None:
        layout, train = scenario.layout, scenario.train
        tokens = max(1, train.mbs * train.seq_len // (layout.cp * layout.tp))
        shape = replace(shape, rows=float(tokens * moe.topk))
    return _prices(scenario, kinds, shape, None)


def drawn_prices(scenario: Scenario, kinds: Kinds) -> tuple[UnitPrices, UnitPrices]:
    """Prices with the routing that the simulation draws: at least, and on average."""
    cases = routing_cases(scenario, 1)
    shape = rank_shape(scenario, cases)
    machine = api.machine_of(scenario)
    jitter = api.jitter_of(scenario, machine)
    late = Jitter(jitter.cv * expected_largest(jitter.peers), jitter.cv)
    return _prices(scenario, kinds, shape, cases), _prices(scenario, kinds, shape, cases, late)


def _prices(
    scenario: Scenario,
    kinds: Kinds,
    shape: Shape,
    cases: Cases | None,
    jitter: Jitter | None = None,
) -> UnitPrices:
    works = Works()
    per_node = scenario.topology.gpus_per_node
    shop = Workshop(
        kinds.model, scenario.layout, scenario.train, per_node, shape, cases, works, True, 1
    )
    costs = shop.costs(kinds.units)
    alone = _Alone(works, api.machine_of(scenario), jitter)
    rows = [_unit(scenario, unit, costs, alone) for unit in kinds.units]
    return UnitPrices(**{name: np.array([row[name] for row in rows]) for name in NAMES})


@dataclass(frozen=True, slots=True)
class Jitter:
    """By which share jitter makes compute longer: its mean, and its standard deviation at most."""

    mean: float
    deviation: float


@lru_cache(maxsize=4096)
def expected_largest(n: int) -> float:
    """Mean of the largest of n standard normal draws, by the trapezoid rule (error under 1e-6)."""
    x = np.linspace(0.0, 9.0, 4001)
    below = np.array([0.5 * (1.0 + erf(v / sqrt(2.0))) for v in x])
    return float(np.trapezoid(1.0 - below**n - (1.0 - below) ** n, x))


class _Alone:
    """Seconds of works with nothing beside them: the cheapest of their cases, or the mean."""

    def __init__(self, works: Works, machine: Machine, jitter: Jitter | None):
        self.works, self.machine, self.jitter = works, machine, jitter
        self.known: dict[int, _Figures] = {}

    def figures(self, work: int) -> _Figures:
        """What is known of a work."""
        if work not in self.known:
            item = self.works.items[work]
            self.known[work] = _NOTHING if isinstance(item, Nothing) else self._figures(item)
        return self.known[work]

    def _figures(self, item: Work) -> _Figures:
        price = price_work(item, self.machine)

        def of(name: str) -> F64:
            return np.asarray(price.get(name, 0.0), np.float64)

        jitter = self.jitter
        if "sm" in price:
            busy = of("sm") + of("mem")
            slower = of("sm") * of("sm_drag") + of("mem") * of("mem_drag")
            alone = busy + of("fixed")
            drag = np.divide(slower, alone, out=np.zeros(np.shape(alone)), where=alone > 0)
            if jitter is None:
                return _Figures(float(alone.min()) / 1e9, float(drag.min()), alone / 1e9, 0.0)
            seconds = (busy * (1.0 + jitter.mean) + of("fixed")) / 1e9
            deviation = jitter.deviation * float(busy.max()) / 1e9
            return _Figures(float(seconds.mean()), float(drag.min()), seconds, deviation)
        ports = [of(f"port{i}") for i in range(4)]
        moving = np.maximum.reduce(np.broadcast_arrays(of("floor"), *ports))
        total = (of("latency") + moving) / 1e9
        pull = float(of("draw").min())
        return _Figures(float(total.min() if jitter is None else total.mean()), pull, total, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Figures:
    """Seconds, least drag (of compute) or pull (of a transfer), seconds of each case, deviation of
    a single task."""

    seconds: float
    drag: float
    cases: F64
    deviation: float


_NOTHING = _Figures(0.0, 0.0, np.zeros(()), 0.0)


def _unit(scenario: Scenario, unit: Unit, costs: Costs, alone: _Alone) -> dict[str, float]:
    """The figures of one unit."""

    def s(component: str, action: Action) -> float:
        work = costs.work.get((unit, component, action)) if component else None
        return 0.0 if work is None else alone.figures(work).seconds

    found = {
        f"{half}_{action.name.lower()}": s(component, action)
        for half, component in (("attn", unit.attn), ("mlp", unit.mlp))
        for action in (Action.F, Action.I, Action.W)
    }
    moved = {
        (name, action): s(name, action) if unit.moe else 0.0
        for name in ("dispatch", "combine", "redispatch")
        for action in (Action.F, Action.I)
    }
    if "full" not in scenario.train.recompute:
        moved["redispatch", Action.I] = 0.0
    moved["redispatch", Action.F] = 0.0
    waits = scenario.train.tp_overlap != "full" and unit.component == "layer"
    around = {
        action: s("tp_gather", action) + s("tp_scatter", action) if waits else 0.0
        for action in (Action.F, Action.I)
    }
    layout, model = scenario.layout, scenario.model
    halves = [half_params(model, layout, unit, half) for half in ("attn", "mlp")]
    kept = [costs.kept[unit, half][0] for half in ("attn", "mlp") if (unit, half) in costs.kept]
    return found | {
        "ahead_f": around[Action.F] + moved["dispatch", Action.F],
        "behind_f": around[Action.F] + moved["combine", Action.F],
        "ahead_i": around[Action.I] + moved["dispatch", Action.I],
        "behind_i": around[Action.I] + moved["combine", Action.I] + moved["redispatch", Action.I],
        "around_f": around[Action.F],
        "around_i": around[Action.I],
        "ring_f": s("cp_ring", Action.F) if waits else 0.0,
        "ring_i": s("cp_ring", Action.I) if waits else 0.0,
        "comm_f": sum(v for (_, action), v in moved.items() if action is Action.F),
        "comm_i": sum(v for (_, action), v in moved.items() if action is Action.I),
        "loss": _loss(unit, costs, alone),
        "variance": _variance(unit, costs, alone),
        "kept": float(sum(kept)),
        "dense": sum(dense for dense, _ in halves),
        "expert": sum(expert for _, expert in halves),
    }


def _loss(unit: Unit, costs: Costs, alone: _Alone) -> float:
    """Least share of an all-to-all's time by which the unit's compute beside it falls behind."""
    found = [alone.figures(work) for work in _computing(unit, costs)]
    drag = min((w.drag for w in found if w.seconds > 0), default=0.0)
    if unit.moe:
        kinds = (("dispatch", Action.F), ("combine", Action.F), ("combine", Action.I))
        drag *= min(alone.figures(costs.work[unit, *k]).drag for k in kinds)
    return drag / (1.0 + drag)


def _variance(unit: Unit, costs: Costs, alone: _Alone) -> float:
    """Variance of a micro-batch's whole way through a unit: over routing draws, and of jitter."""
    found = [alone.figures(work) for work in _computing(unit, costs)]
    if unit.moe:
        moved = [(name, act) for name in ("dispatch", "combine") for act in (Action.F, Action.I)]
        transfers = [alone.figures(costs.work[unit, *k]) for k in moved]
    else:
        transfers = []
    cases = np.sum(np.broadcast_arrays(*(f.cases for f in [*found, *transfers, _NOTHING])), axis=0)
    return float(np.var(cases)) + sum(f.deviation**2 for f in found)


def _computing(unit: Unit, costs: Costs) -> list[int]:
    """Works of a unit's compute tasks."""
    return [
        costs.work[unit, component, action]
        for component in (unit.attn, unit.mlp)
        for action in (Action.F, Action.I, Action.W)
        if component and (unit, component, action) in costs.work
    ]
