"""A schedule and stages made for a scenario, from what its chunks cost on its GPUs."""

from simdeep.autoschedule.chunks import ChunkCosts, chunk_costs
from simdeep.autoschedule.plan import Option, Plan, auto_table, placements, plan_schedule
from simdeep.autoschedule.stages import StagePlan, layer_costs, plan_stages

__all__ = [
    "ChunkCosts",
    "Option",
    "Plan",
    "StagePlan",
    "auto_table",
    "chunk_costs",
    "layer_costs",
    "placements",
    "plan_schedule",
    "plan_stages",
]
