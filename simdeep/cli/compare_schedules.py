"""Schedules side by side on equal devices and with equal stages, by unit and by real costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simdeep.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simdeep.analysis.schedule_measures import Equal, Measures
    from simdeep.api import Result
    from simdeep.program.schedule import Costs


@dataclass(frozen=True, eq=False)
class Line:
    """A schedule measured with unit costs and with the scenario's; or why it cannot be.

    `real` is None where no simulated step tells what its stages cost.
    """

    schedule: str
    unit: Measures | None
    real: Measures | None
    reason: str = ""


def schedule_lines(names: Sequence[str], done: Sequence[Result], equal: Equal) -> list[Line]:
    """Every schedule under one of the two comparisons.

    On equal devices a schedule's stages cost what they did in its own simulated step; with equal
    stages what they did in the steps that have as many stages.
    """
    from simdeep.analysis.schedule_measures import Equal, measured, sized_table

    scenario = done[0].scenario
    n_shares, microbatches = scenario.layout.pp, scenario.microbatches
    own = {r.lowered.table.name: r for r in done}
    common = None if equal is Equal.devices else _common_costs(done, n_shares)
    lines = []
    for name in names:
        vpp = own[name].scenario.layout.vpp if name in own else 1
        try:
            table = sized_table(name, n_shares, microbatches, vpp, equal)
        except InputError as error:
            text = "; ".join(problem.message for problem in error.problems)
            lines.append(Line(name, None, None, text))
            continue
        costs = common
        if equal is Equal.devices:
            costs = _own_costs(own[name]) if name in own else None
        real = None if costs is None else measured(table, n_shares, costs)
        lines.append(Line(name, measured(table, n_shares), real))
    return lines


def _own_costs(result: Result) -> Costs:
    from simdeep.analysis.stage_times import stage_costs

    return stage_costs(result.lowered.table, result.timeline)


def _common_costs(done: Sequence[Result], n_stages: int) -> Costs | None:
    """Stage costs of a step with so many stages; blocks are priced by one that has any."""
    from dataclasses import replace

    found = [_own_costs(r) for r in done if r.lowered.table.n_stages == n_stages]
    if not found:
        return None
    blocks = next((costs.fb for costs in found if costs.fb is not None), None)
    whole = next((costs for costs in found if costs.fb is None), found[0])
    return replace(whole, fb=blocks)


def lines_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The lines with stable keys."""
    return [_line_json(line) for line in lines]


def _line_json(line: Line) -> dict[str, Any]:
    if line.unit is None:
        return {"schedule": line.schedule, "supported": False, "reason": line.reason}
    table = line.unit.table
    return {
        "schedule": line.schedule,
        "supported": True,
        "ranks": table.n_ranks,
        "stages": table.n_stages,
        "stages_per_rank": len(table.stages_of[0]),
        "parameter_copies": table.param_copies,
        "parameter_shares": line.unit.parameter_shares,
        "activation_shares": line.unit.activation_shares,
        "p2p_messages": line.unit.p2p_messages,
        "unit": _times_json(line.unit),
        "real": None if line.real is None else _times_json(line.real),
    }


def _times_json(measures: Measures) -> dict[str, Any]:
    spans = measures.spans
    return {
        "makespan": spans.makespan,
        "bubble": spans.idle.tolist(),
        "bubble_over_makespan": spans.bubble_over_makespan,
        "bubble_over_ideal": spans.bubble_over_ideal,
        "longest_rank_span": spans.longest_rank_span,
    }


_EXPLAINED = (
    "layout: ranks x stages on each; unit: F = I = W = 1 for a rank's share of the model with one "
    "stage a rank, transfers free; span: from a rank's own start to its own end; real: replayed "
    "with the stages' simulated times, seconds; act: most micro-batches' activations of a share, "
    "freed after I / after W; par: shares of the parameters; sends: transfers of a pipeline's step"
)


def lines_table(lines: Sequence[Line], last: bool) -> RenderableType:
    """The lines as a table; what the columns mean stands under the `last`."""
    from simdeep.report.tables import grid

    table = grid(
        "schedule",
        "layout>",
        "unit>",
        "idle>",
        "span>",
        "real>",
        "idle>",
        "act I/W>",
        "par>",
        "sends>",
    )
    for line in lines:
        if line.unit is None:
            table.add_row(line.schedule, *["-"] * 9)
            continue
        unit, real = line.unit, line.real
        held = unit.activation_shares
        table.add_row(
            line.schedule,
            f"{unit.table.n_ranks}x{unit.table.n_stages // unit.table.n_ranks}",
            f"{unit.spans.makespan:g}",
            f"{unit.spans.bubble_over_makespan:.1%}",
            f"{unit.spans.longest_rank_span:g}",
            "-" if real is None else f"{real.spans.makespan:.4g}",
            "-" if real is None else f"{real.spans.bubble_over_makespan:.1%}",
            f"{max(held['I']):g}/{max(held['W']):g}",
            f"{max(unit.parameter_shares):g}",
            f"{unit.p2p_messages:,}",
        )
    reasons = [f"{line.schedule}: {line.reason}" for line in lines if line.reason]
    table.caption = "; ".join([*reasons, *([_EXPLAINED] if last else [])]) or None
    table.caption_justify = "left"
    return table
