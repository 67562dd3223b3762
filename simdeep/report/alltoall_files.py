"""Writes the files of `simdeep alltoall --out`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from simdeep.network import Outcome, sweep_ep, sweep_experts_per_node, sweep_node_limit, sweep_sms
from simdeep.report.output import OutputFolder
from simdeep.report.result_json import to_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILES = (
    "traffic_dispatch.png",
    "traffic_combine.png",
    "ports_dispatch.png",
    "ports_combine.png",
    "time_vs_sms.png",
    "time_vs_ep.png",
    "node_limit.png",
    "alltoall.json",
)
"""Every file an all-to-all may write into its folder."""


def write_alltoall(
    folder: OutputFolder,
    outcomes: Sequence[Outcome],
    document: dict[str, Any],
    stage: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write the charts and the JSON; returns the document with the curves' points.

    Args:
        folder: open, with `FILES`.
        outcomes: both directions.
        document: `alltoall_json` of them.
        stage: told what is being done.
    """
    from simdeep.report.charts.alltoall import node_limits, time_against_ep, time_against_sms
    from simdeep.report.charts.canvas import save
    from simdeep.report.charts.ports import port_loads
    from simdeep.report.charts.traffic import traffic_matrix

    setting, routed = outcomes[0].setting, outcomes[0].routed
    for outcome in outcomes:
        stage(f"drawing the {outcome.direction}")
        charts: dict[str, Axes | Figure] = {
            "traffic": traffic_matrix(outcome),
            "ports": port_loads(outcome),
        }
        for name, chart in charts.items():
            folder.write(f"{name}_{outcome.direction}.png", partial(save, chart))
    stage("trying other numbers of SMs")
    by_sms = sweep_sms(setting, routed)
    if by_sms:
        folder.write("time_vs_sms.png", partial(save, time_against_sms(by_sms, setting.comm_sms)))
    stage("trying other group sizes")
    by_ep = sweep_ep(setting, tuple(outcomes))
    folder.write("time_vs_ep.png", partial(save, time_against_ep(by_ep, setting.ep)))
    stage("trying other node limits")
    limits, experts = sweep_node_limit(setting), sweep_experts_per_node(setting)
    ratio = setting.topology.nvlink_bw / setting.topology.nic_bw
    if limits:
        folder.write("node_limit.png", partial(save, node_limits(limits, experts, ratio)))
    full = document | {
        "time_vs_sms": [
            {"direction": p.direction, "comm_sms": p.sms, "time_us": p.time_s * 1e6} for p in by_sms
        ],
        "time_vs_ep": [
            {
                "direction": p.direction,
                "ep": p.ep,
                "time_us": p.time_s * 1e6,
                "bottleneck": p.bottleneck,
            }
            for p in by_ep
        ],
        "node_limit": [
            {
                "max_nodes": p.limit,
                "nodes_per_token": p.nodes_per_token,
                "gpus_per_token": p.gpus_per_token,
                "time_us": p.time_s * 1e6,
                "ib_us": p.ib_s * 1e6,
                "nvlink_us": p.nvlink_s * 1e6,
                "bottleneck": p.bottleneck,
            }
            for p in limits
        ],
        "experts_per_node_within_ib_time": ratio,
    }
    folder.write_text("alltoall.json", to_json(full))
    return full
