"""A searched schedule as tables and as one JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import simdeep

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simdeep.autoschedule import Option, Plan, StagePlan

GIB = 2**30
_BALANCED = 1.01
"""Stages this close to the best partition need no advice."""


def plan_json(plan: Plan, stages: StagePlan | None) -> dict[str, Any]:
    """The plan as one object; times in seconds, memory in GiB."""
    from simdeep.program.schedule import to_csv

    best = plan.best
    return {
        "name": plan.scenario.name,
        "memory_gib": plan.memory / GIB,
        "fits": best is not None,
        "schedule": None if best is None or best.table is None else best.table.name,
        "placement": None if best is None else best.placement.name,
        "step_time_s": None if best is None else best.step_s,
        "placements": [_option_json(option) for option in plan.options],
        "rows": None
        if best is None or best.table is None
        else [line.split(",") for line in to_csv(best.table).splitlines()],
        "stages": {
            "layers": [len(stage.layers) for stage in plan.scenario.layout.stages],
            "seconds": None if stages is None else stages.seconds_now.tolist(),
            "balanced": None
            if stages is None
            else {
                "layers": list(stages.balanced.counts),
                "seconds": stages.balanced.seconds.tolist(),
                "bound_by_memory": stages.balanced.bound_by_memory,
            },
        },
        "fingerprint": plan.scenario.fingerprint,
        "version": simdeep.__version__,
    }


def _option_json(option: Option) -> dict[str, Any]:
    costs, found = option.chunks.costs, option.found
    document: dict[str, Any] = {
        "placement": option.placement.name,
        "fits": option.table is not None,
        "reason": option.reason,
        "costs_s": {
            "f": _listed(costs.f),
            "i": _listed(costs.i),
            "w": _listed(costs.w),
            "p2p": costs.p2p,
        },
        "held_after_f_gib": _listed(option.chunks.after_f / GIB),
        "held_after_i_gib": _listed(option.chunks.after_i / GIB),
        "fixed_gib": _listed(option.chunks.fixed / GIB),
    }
    if found is None or option.table is None or option.peak is None:
        return document
    return document | {
        "schedule": option.table.name,
        "searched_makespan_s": found.value,
        "lower_bound_s": found.bound.value,
        "lower_bound_of": found.bound.reason,
        "lower_bounds_s": found.bound.parts,
        "proven_best": found.optimal,
        "published_makespans_s": found.known,
        "step_time_s": option.step_s,
        "best_published": option.known_name,
        "best_published_step_time_s": option.known_step_s,
        "peak_gib": _listed(option.peak / GIB),
        "parameter_copies": option.table.param_copies,
    }


def _listed(values: Any) -> list[float]:
    import numpy as np

    found: list[float] = np.asarray(values, dtype=float).tolist()
    return found


def plan_tables(plan: Plan, stages: StagePlan | None) -> list[RenderableType]:
    """The plan for a console."""
    from rich.text import Text

    from simdeep.report.summary import seconds
    from simdeep.report.tables import grid, titled

    table = grid("placement", "order", "makespan>", "bound>", "gap>", "step>", "published>", "GiB>")
    for option in plan.options:
        found = option.found
        if found is None or option.table is None or option.peak is None:
            table.add_row(option.placement.name, option.reason, *["-"] * 6)
            continue
        published = "-"
        if option.known_step_s is not None:
            published = f"{option.known_name} {seconds(option.known_step_s, 4)}"
        table.add_row(
            option.placement.name,
            option.table.name,
            seconds(found.value, 4),
            seconds(found.bound.value, 4),
            "proven" if found.optimal else f"{found.gap:.1%}",
            seconds(option.step_s, 4),
            published,
            f"{option.peak.max() / GIB:.1f}",
        )
    table.caption = (
        "makespan: best order found, of chunks back to back; bound: no order is shorter; step: "
        "the whole step, simulated"
    )
    table.caption_justify = "left"
    title = f"Orders within {plan.memory / GIB:.1f} GiB"
    return [Text(_headline(plan) + "\n"), *titled(title, table), *_stages(plan, stages)]


def _headline(plan: Plan) -> str:
    from simdeep.report.inputs import layout_text
    from simdeep.report.summary import seconds

    scenario, best = plan.scenario, plan.best
    size = f"{layout_text(scenario)}; {scenario.microbatches} micro-batches"
    where = f"{scenario.model.name} ({size})"
    if best is None or best.table is None:
        return f"No order of {where} fits into {plan.memory / GIB:.1f} GiB."
    text = f"{best.table.name}, {best.placement.name}: {seconds(best.step_s, 4)} a step of {where}."
    if best.known_step_s is None:
        return f"{text} No published order fits."
    if best.known_name == best.table.name:
        return f"{text} It is a published order; none better was found."
    gain = best.known_step_s / best.step_s - 1
    return f"{text} The best published order of this placement takes {gain:.1%} longer."


def _stages(plan: Plan, stages: StagePlan | None) -> list[RenderableType]:
    from rich.text import Text

    from simdeep.report.summary import seconds

    now = [len(stage.layers) for stage in plan.scenario.layout.stages]
    if stages is None:
        return [Text("Stages: no way to share out the layers fits the memory under 1F1B.")]
    balanced = stages.balanced
    least, most = float(balanced.seconds.max()), float(stages.seconds_now.max())
    if most <= least * _BALANCED:
        return [Text(f"Stages: layers are balanced, at most {seconds(most)} a micro-batch.")]
    why = " within memory" if balanced.bound_by_memory else ""
    text = (
        f"Stages: {list(balanced.counts)} layers instead of {now} would be balanced{why}: at most "
        f"{seconds(least)} instead of {seconds(most)} a stage and micro-batch."
    )
    return [Text(text)]
