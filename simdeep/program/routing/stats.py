"""Figures that sum up routing: how far tokens spread and how uneven the loads are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.program.routing.kernels import F64
from simdeep.program.routing.loads import Loads


@dataclass(frozen=True, slots=True)
class RoutingStats:
    """Means over draws; the max/mean ratios are None where only one rank was recorded."""

    nodes_per_token: float
    gpus_per_token: float
    experts_per_node: float | None
    """Experts of a token on each node it goes to."""
    max_over_mean_expert: float | None
    """Tokens of the busiest expert over those of the mean one."""
    max_over_mean_gpu: float | None
    """Distinct tokens received by the busiest GPU over those of the mean one."""
    max_over_mean_node: float | None
    """Distinct tokens received by the GPUs of the busiest node over those of the mean one."""
    unique_cv: float
    """Standard deviation over mean of the distinct tokens a rank receives."""


def routing_stats(loads: Loads, gpus_per_node: int) -> RoutingStats:
    """Sum up loads of an expert-parallel group on nodes of `gpus_per_node` GPUs."""
    nodes = float(loads.nodes_per_token.mean())
    whole = loads.expert_tokens is not None
    per_node = min(gpus_per_node, loads.ranks)
    by_node = loads.unique.reshape(loads.draws, -1, per_node).sum(axis=2)
    topk = None
    if loads.expert_tokens is not None:
        topk = float(loads.expert_tokens.sum() / loads.tokens.sum())
    return RoutingStats(
        nodes_per_token=nodes,
        gpus_per_token=float(loads.gpus_per_token.mean()),
        experts_per_node=topk / nodes if topk is not None else None,
        max_over_mean_expert=max_over_mean(loads.expert_tokens),
        max_over_mean_gpu=max_over_mean(loads.unique) if whole else None,
        max_over_mean_node=max_over_mean(by_node) if whole else None,
        unique_cv=unique_cv(loads),
    )


def max_over_mean(load: F64 | None) -> float | None:
    """Largest over mean of [draws, parts], mean over draws."""
    if load is None:
        return None
    return float((load.max(axis=1) / load.mean(axis=1)).mean())


def unique_cv(loads: Loads) -> float:
    """Coefficient of variation of the unique tokens a rank receives, over ranks and draws.

    The sample standard deviation of all values over their mean: ranks are alike before the draw, so
    they count as draws of one rank, which is what a trace of one rank over layers shows.
    """
    values = loads.unique.ravel()
    return float(np.std(values, ddof=1) / values.mean()) if len(values) > 1 else 0.0
