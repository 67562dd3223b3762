"""An all-to-all as one plain object with stable keys, units in their names, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import simdeep
from simdeep.network import Outcome, Setting


def alltoall_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Rows, one for each direction, what is behind them, and the setting."""
    setting, routed = outcomes[0].setting, outcomes[0].routed
    return {
        "rows": [outcome.row() for outcome in outcomes],
        "details": [details_json(outcome) for outcome in outcomes],
        "routing": {
            "nodes_per_token": routed.nodes_per_token,
            "gpus_per_token": routed.gpus_per_token,
            "max_over_mean_load": routed.max_over_mean_load,
            "draws": routed.dispatches.draws,
        },
        "setting": setting_json(setting),
        "version": simdeep.__version__,
    }


def details_json(outcome: Outcome) -> dict[str, Any]:
    """The kernel by itself, the fabric, and the busiest ports and links of the first draw."""
    run, kernel = outcome.runs[0], outcome.kernel
    return {
        "direction": outcome.direction,
        "kernel_alone_us": outcome.kernel_time_s * 1e6,
        "fabric_slowdown": outcome.fabric_slowdown,
        "mean_gpu_us": float(outcome.finish_s.mean()) * 1e6,
        "notify_us": kernel.notify_s * 1e6,
        "nvlink_gbps_physical": outcome.nvlink_gbps_physical,
        "flows": run.flows,
        "finish_us": [round(s * 1e6, 3) for s in run.finish_s.tolist()],
        "hot_ports": [
            {"port": name, "busy_us": seconds * 1e6} for name, seconds in outcome.hot_ports(5)
        ],
        "hot_links": [
            {
                "link": link.name,
                "kind": link.kind,
                "bytes": link.nbytes,
                "utilisation": link.utilisation,
            }
            for link in dict.fromkeys((*run.hot, *run.hot_between_switches))
        ],
    }


def setting_json(setting: Setting) -> dict[str, Any]:
    """The setting, as flags would say it."""
    gate = setting.gate
    return {
        "model": setting.model,
        "topology": setting.topology.name,
        "ep": setting.ep,
        "tokens": setting.tokens,
        "routing": setting.routing_text,
        "max_nodes": setting.max_nodes,
        "mode": setting.mode,
        "comm_sms": setting.comm_sms,
        "placement": str(setting.placement),
        "redundant": setting.redundant,
        "ecmp": setting.ecmp,
        "node_stride": setting.node_stride,
        "dtype": setting.dtype,
        "seed": setting.seed,
        "experts": gate.experts,
        "experts_per_token": gate.topk,
        "groups": gate.n_groups,
        "groups_per_token": gate.topk_groups,
    }
