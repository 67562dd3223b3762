"""All-to-all: how much slower the trace's transfers are than the isolated kernel model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simdeep.cost.alltoall import AllToAllKind, isolated
from simdeep.cost.fit.rows import Row
from simdeep.cost.moe import HopCopies, from_loads
from simdeep.program.routing import default_skew, draw_loads
from simdeep.spec.model import MoeFfn, load_model
from simdeep.spec.topology import load_topology

EP, TOKENS, SMS = 64, 4096, 20
"""Setting of the trace: its README and the transfer kernels' grids."""

DRAWS, SEED = 24, 0

TRANSFERS: dict[AllToAllKind, str] = {
    "dispatch": "ep_dispatch",
    "dispatch_cached": "ep_dispatch_cached",
    "combine": "ep_combine",
}

BARRIERS = ("ep_notify_dispatch", "ep_cached_notify")
"""Kernels that mostly wait for the other ranks: their time is no work."""


def trace_copies() -> tuple[HopCopies, int]:
    """Token copies of the trace's group, drawn from a gate as uneven as its loads; hidden size."""
    model, topology = load_model("deepseek-v3"), load_topology("h800-2048")
    moe = next(layer.ffn for layer in model.layers if isinstance(layer.ffn, MoeFfn))
    per_node = topology.gpus_per_node
    loads = draw_loads(moe, EP, per_node, TOKENS, "gate", default_skew().value, DRAWS, SEED)
    return from_loads(loads, per_node), model.hidden


def alltoall_entries(rows: Sequence[Row]) -> dict[str, Any]:
    """The all-to-all part of a calibration file."""
    links = load_topology("h800-2048")
    copies, hidden = trace_copies()
    kinds: dict[str, Any] = {}
    pulls = []
    for kind, kernel in TRANSFERS.items():
        times = np.array([r.dur for r in rows if r.kernel == kernel])
        mean = float(times.mean())
        alone = isolated(kind, copies, links, SMS, hidden, "fp8")
        kinds[kind] = {
            "slowdown": mean * 1e-6 / float(alone.time_s.mean()),
            "setup_us": alone.notify_s * 1e6 + _setup(rows, kernel),
            "kind": "measured",
            "source": f"{kernel} rows of h800_train_trace.csv, beside compute, over the time the "
            "isolated kernel model (data/alltoall/deepep.yaml) gives its last rank, mean of "
            f"{DRAWS} routing draws as uneven as the trace's loads",
            "rows": len(times),
            "median_error": float(np.median(np.abs(times / mean - 1.0))),
            "max_error": float(np.abs(times / mean - 1.0).max()),
        }
        moved = float(alone.port_bytes.sum(axis=0).mean())
        pulls += [moved / us / 1e3 for us in times]
    return {
        "sms": SMS,
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
