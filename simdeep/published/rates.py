"""Bubble rates: schedules replayed with the times their source profiled.

Where the source prints no profile, chunks take what the simulator gives them, and transfers what
the source's other profiles show for a byte.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from simdeep.autoschedule.chunks import chunk_costs
from simdeep.program.schedule.costs import Costs
from simdeep.program.schedule.registry import build_table
from simdeep.program.schedule.replay import Spans, replay
from simdeep.program.search import Activations, Placement, Task, search_schedule
from simdeep.published.build import CannotExpressError
from simdeep.published.cases import Case, load_cases

if TYPE_CHECKING:
    from simdeep.program.schedule.table import Table

KEPT_AFTER_INPUT_GRADIENT: Final = 0.4
"""Share of a chunk's activations that its weight gradient still needs: 32 of 34 + 5as/h bytes a
value without fused attention (arXiv 2401.10241 sec 2.3), at the sizes of the paper's models."""

_TABLES: Final = {
    "1F1B": "1f1b",
    "1F1B-I": "interleaved-1f1b",
    "ZB-H1": "zb1p",
    "ZB-H2": "zb-h2",
    "ZB-V": "zb-v",
}
SEARCHED: Final = {"ZB-1p": 1, "ZB-2p": 2}
"""Orders that the paper searched, and their memory in multiples of 1F1B's."""


def searched(pp: int, microbatches: int, costs: Costs, times: int) -> Spans:
    """The order for these costs with the least rank span, within `times` 1F1B's activations."""
    kept = Activations(1.0, KEPT_AFTER_INPUT_GRADIENT, limit=float(times * pp))
    task = Task(Placement.one_stage(pp, microbatches), costs, kept, goal="rank_span")
    return search_schedule(task).spans


def bubble_rate(case: Case) -> float:
    """(cost - m (F + I + W)) / cost: the cost is the longest span of a rank where the optimizer
    needs no synchronisation, else the makespan.

    Raises:
        CannotExpressError: for a schedule that is not known.
    """
    if case.pp is None or case.micro_batch is None or case.global_batch is None:
        raise CannotExpressError("its source does not state pipeline or batch")
    pp, microbatches = case.pp, case.global_batch // case.micro_batch
    name = str(case.schedule)
    layers = (case.model["layers"] + 2) // pp
    vpp = {"1F1B-I": layers, "ZB-V": 2}.get(name, 1)
    costs = _profiled(case, vpp) if case.profiled else _simulated(case)
    work = float(np.sum(costs.f) + np.sum(costs.i) + np.sum(costs.w))
    stages = np.size(costs.f)
    a_rank = work / stages * vpp if stages > 1 else work * vpp
    if name in SEARCHED:
        spans = searched(pp, microbatches, costs, SEARCHED[name])
    elif name in _TABLES:
        table: Table = build_table(_TABLES[name], pp, microbatches, vpp)
        spans = replay(table, costs)
    else:
        raise CannotExpressError(f"schedule {name!r} is not modelled")
    span = spans.longest_rank_span if name.startswith("ZB") else spans.makespan
    return float(1 - microbatches * a_rank / span)


def _profiled(case: Case, vpp: int) -> Costs:
    p = case.profiled
    assert p is not None
    return Costs(p["T_F_ms"] / vpp, p["T_B_ms"] / vpp, p["T_W_ms"] / vpp, p2p=p["T_comm_ms"])


def _simulated(case: Case) -> Costs:
    """Times of a middle stage's chunks, as the run's scenario has them."""
    from simdeep import api
    from simdeep.published.build import build, loaded

    scenario = loaded(build(case))
    placement = Placement.of(api.schedule_table(scenario))
    found = chunk_costs(scenario, api.machine_of(scenario), placement).costs
    f, i, w = (float(np.median(part)) for part in (found.f, found.i, found.w))
    crosses = case.gpus > case.gpus_per_node
    return Costs(f, i, w, p2p=_ms_a_byte(crosses) * _sent(case) / 1e3)


def _sent(case: Case) -> float:
    """Bytes that a stage sends on: hidden states in 16 bits."""
    return 2.0 * (case.micro_batch or 1) * case.seq_len * float(case.model["hidden"])


@cache
def _ms_a_byte(crosses: bool) -> float:
    """ms of a transferred byte: the mean of the profiles in the shipped fit half, the same
    framework on the same kind of cluster, whose pipelines also cross nodes, or also do not.

    A transfer of the pipelines on one node runs at 47 GB/s, of those across nodes at 28 to 31.
    """
    profiles = {
        (case.model["name"], case.pp): case.profiled["T_comm_ms"] / _sent(case)
        for case in load_cases()
        if case.is_rate and case.profiled and case.half == "fit"
        if (case.gpus > case.gpus_per_node) == crosses
    }
    return float(np.mean(list(profiles.values())))
