"""All-to-all: achieved share of the ports from the trace, copy rates from DeepEP's sweep."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simdeep.cost.alltoall import AllToAllKind, Traffic, mean_traffic
from simdeep.cost.fit.rows import Row

HIDDEN = 7168
TOKENS = 4096
REMOTE_NODES, GPUS, GPUS_PER_NODE = 3.47, 7.49, 8
"""Of 8 nodes and 64 GPUs under top-8 in 4 groups, mean of a random gate; own node not counted."""

NIC_GBPS = 50.0
NVLINK_FRACTION = {
    "dispatch": 153.0 / 160.0,
    "dispatch_cached": 153.0 / 160.0,
    "combine": 158.0 / 160.0,
}
"""deepseek-ai/DeepEP docs/legacy.md: one H800 node, of about 160 GB/s."""

TRANSFERS: dict[AllToAllKind, str] = {
    "dispatch": "ep_dispatch",
    "dispatch_cached": "ep_dispatch_cached",
    "combine": "ep_combine",
}

BARRIERS = ("ep_notify_dispatch", "ep_cached_notify")
"""Kernels that mostly wait for the other ranks: their time is no work."""


def trace_traffic(kind: AllToAllKind) -> Traffic:
    """Mean traffic of a rank in the trace."""
    return mean_traffic(
        kind,
        HIDDEN,
        TOKENS,
        remote_nodes=REMOTE_NODES,
        gpus=GPUS,
        gpus_per_node=GPUS_PER_NODE,
    )


def alltoall_entries(rows: Sequence[Row], sweep: Path) -> dict[str, Any]:
    """The all-to-all part of a calibration file."""
    sm_rates = {op: _sm_rates(sweep, op) for op in ("dispatch", "combine")}
    kinds: dict[str, Any] = {}
    pulls = []
    for kind, kernel in TRANSFERS.items():
        times = np.array([r.dur for r in rows if r.kernel == kernel])
        load = trace_traffic(kind).own
        mean = float(times.mean())
        op = "combine" if kind == "combine" else "dispatch"
        ib_rate, nvl_rate, notify, sweep_rows = sm_rates[op]
        kinds[kind] = {
            "ib_fraction": float(load.ib_out) / (mean * 1e-6) / (NIC_GBPS * 1e9),
            "nvl_fraction": NVLINK_FRACTION[kind],
            "ib_GBps_per_sm": ib_rate,
            "nvl_GBps_per_sm": nvl_rate,
            "setup_us": notify + _setup(rows, kernel),
            "kind": "measured",
            "source": f"{kernel} rows of h800_train_trace.csv beside compute, with the mean "
            "traffic of a rank (only rank 0's load is known); NVLink share from deepseek-ai/DeepEP "
            "docs/legacy.md; SM rates and notify from deepep_h100_sm_sweep.csv",
            "rows": len(times) + sweep_rows,
            "median_error": float(np.median(np.abs(times / mean - 1.0))),
            "max_error": float(np.abs(times / mean - 1.0).max()),
        }
        pulls += [float(load.total) / us / 1e3 for us in times]
    return {
        "sms": 20,
        "draw_reference_GBps": {
            "value": float(np.mean(pulls)),
            "kind": "measured",
            "source": "bytes over all four ports a second, the transfers of h800_train_trace.csv",
            "rows": len(pulls),
        },
        "kinds": kinds,
    }


def _setup(rows: Sequence[Row], transfer: str) -> float:
    """Mean microseconds of the layout and cast kernels that go before one transfer."""
    comm = [r for r in rows if r.phase in {q.phase for q in rows if q.kernel == transfer}]
    kernels = {r.kernel for r in rows if r.kernel in TRANSFERS.values()}
    before = [r.dur for r in comm if r.stream == 27 and r.kernel not in kernels | set(BARRIERS)]
    return sum(before) / sum(r.kernel == transfer for r in comm)


def _sm_rates(path: Path, op: str) -> tuple[float, float, float, int]:
    """GB/s one SM copies (to IB, to NVLink), notify time in microseconds, and rows used.

    Only rows that the SMs limit count: 4 and 8 SMs, the largest batch, on one node upwards.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kind: AllToAllKind = "combine" if op == "combine" else "dispatch"
    limited = [r for r in rows if r["tokens_per_gpu"] == "4096" and int(r["sms"]) <= 8]
    terms, seconds = [], []
    for r in limited:
        load = sweep_traffic(kind, int(r["nodes"]), int(r["tokens_per_gpu"])).own
        terms.append([float(load.ib_out) / int(r["sms"]), float(load.nvl_out) / int(r["sms"])])
        seconds.append(float(r[f"{op}_transmit_us"]) * 1e-6)
    weight = 1.0 / np.array(seconds)
    per_byte = np.linalg.lstsq(np.array(terms) * weight[:, None], np.ones(len(terms)), rcond=None)[
        0
    ]
    notify = [float(r[f"{op}_notify_us"]) for r in rows if r["nodes"] == "4" and r["sms"] == "20"]
    ib_rate, nvl_rate = (1e-9 / float(x) for x in per_byte)
    return ib_rate, nvl_rate, float(np.median(notify)), len(limited) + len(notify)


def sweep_traffic(kind: AllToAllKind, nodes: int, tokens: int) -> Traffic:
    """Mean traffic of the sweep: top-8 of 256 experts at random, no group limit."""
    ranks = nodes * GPUS_PER_NODE
    # A rank or node is missed by all 8 experts; of 256, eight draws are near independent.
    remote = (nodes - 1) * (1.0 - (1.0 - 1.0 / nodes) ** 8)
    wanted = ranks * (1.0 - (1.0 - 1.0 / ranks) ** 8)
    return mean_traffic(
        kind, HIDDEN, tokens, remote_nodes=remote, gpus=wanted, gpus_per_node=GPUS_PER_NODE
    )
