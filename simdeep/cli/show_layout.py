"""A scenario's layout for `simdeep show layout`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simdeep.report.inputs import layout_text
from simdeep.report.summary import gpu_name, short

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from simdeep.spec.layout import GroupKind, StageSpec
    from simdeep.spec.scenario import Scenario

_GROUPS: dict[GroupKind, str] = {
    "tp": "tensor parallel",
    "cp": "context parallel",
    "ep": "expert parallel",
    "dp": "data parallel",
    "edp": "replicas of an expert",
    "pp": "pipeline",
}


def layout_json(scenario: Scenario) -> dict[str, Any]:
    """A layout as one object: degrees, groups, stages."""
    layout = scenario.layout
    return {
        "degrees": {
            name: getattr(layout, name)
            for name in ("tp", "pp", "vpp", "cp", "ep", "dp", "zero", "sp")
        },
        "gpus": layout.n_ranks,
        "groups": {
            kind: {"size": span.size, "nodes": span.nodes, "ranks_per_node": span.ranks_per_node}
            for kind in _GROUPS
            for span in [layout.span(kind, scenario.topology.gpus_per_node)]
        },
        "stages": [
            {
                "stage": stage.index,
                "layers": list(stage.layers),
                "embedding": stage.embedding,
                "head": stage.head,
                "mtp": stage.mtp,
                "pipeline_ranks": ranks,
                "params_per_gpu": sum(_params(scenario, stage)),
            }
            for stage, ranks in _stages(scenario)
        ],
    }


def layout_tables(scenario: Scenario) -> Iterator[RenderableType]:
    """A layout for a console."""
    from rich.text import Text

    from simdeep.report.tables import titled

    gpus = scenario.layout.n_ranks
    yield Text(
        f"{scenario.model.name} on {gpus:,} {gpu_name(scenario)} GPUs: {layout_text(scenario)}.\n"
    )
    yield from titled("Groups of GPUs", _groups(scenario))
    if scenario.layout.stages:
        yield from titled("Pipeline stages", _stage_table(scenario))
    yield Text(
        "GPU = tp + TP x (cp + CP x (dp + DP x pipeline rank)); expert groups are runs of EP "
        "neighbours."
    )


def _groups(scenario: Scenario) -> Table:
    from simdeep.report.tables import grid

    layout, per_node = scenario.layout, scenario.topology.gpus_per_node
    table = grid("group", "GPUs>", "groups>", "on nodes>", "talks over")
    for kind, name in _GROUPS.items():
        span = layout.span(kind, per_node)
        over = "-" if span.size == 1 else "NVLink" if span.within_node else "NIC and NVLink"
        if not span.within_node and span.ranks_per_node == 1:
            over = "NIC"
        count = layout.n_ranks // span.size
        table.add_row(
            f"{name} ({kind.upper()})", f"{span.size}", f"{count:,}", f"{span.nodes}", over
        )
    return table


def _stage_table(scenario: Scenario) -> Table:
    from simdeep.report.tables import grid

    size = scenario.layout.stage_size
    table = grid("stage>", "layers", "also holds", "pipeline rank", "GPUs", "params a GPU>")
    for stage, ranks in _stages(scenario):
        layers = stage.layers
        span = f"{layers[0]} to {layers[-1]}" if len(layers) > 1 else ", ".join(map(str, layers))
        extra = [name for name in ("embedding", "head", "mtp") if getattr(stage, name)]
        table.add_row(
            f"{stage.index}",
            f"{span} ({len(layers)})",
            ", ".join(extra),
            " and ".join(map(str, ranks)),
            ", ".join(f"{rank * size} to {rank * size + size - 1}" for rank in ranks),
            short(sum(_params(scenario, stage))),
        )
    return table


def _stages(scenario: Scenario) -> Iterator[tuple[StageSpec, list[int]]]:
    """Each stage with the pipeline ranks that hold it: two of them under DualPipe."""
    if not scenario.layout.stages:
        return
    from simdeep.api import schedule_table

    ways = schedule_table(scenario).stage_ranks
    for stage in scenario.layout.stages:
        yield stage, list(dict.fromkeys(way[stage.index] for way in ways))


def _params(scenario: Scenario, stage: StageSpec) -> tuple[float, float]:
    """Dense and expert parameters that a GPU holds of a stage."""
    from simdeep.program.lower.stage_costs import rank_params
    from simdeep.program.lower.units import stage_units

    units = stage_units(scenario.model, stage)
    [(dense, expert)] = rank_params(scenario.model, scenario.layout, [units])
    return float(dense), float(expert)
