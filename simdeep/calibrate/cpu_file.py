"""A CPU's calibration file from measured rows, in the format of the GPUs'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simdeep.calibrate.comm import CommRow
from simdeep.calibrate.file import (
    FORMAT,
    borrowed,
    errors_of,
    gemm_entry,
    memory_part,
    reference_data,
    spread_of,
)
from simdeep.calibrate.fit_gemm import GemmSet, fit_curve, rows_of
from simdeep.calibrate.rows import Row
from simdeep.cost.power import PowerModel

UNLIMITED_W = 1e9
"""No power limit: a CPU's clock is taken as constant."""

_TILES = ((8, 16), (16, 64), (32, 32), (64, 64))
"""Blocks a CPU's GEMM works in: ragged edges cost up to a block."""


def cpu_sets(rows: Sequence[Row]) -> list[GemmSet]:
    """Curves of a CPU; the first guess is the best rate seen."""
    fastest = max(r.flops / r.us for r in rows if r.group == "gemm") * 1e6
    start = {
        "launch_s": 5e-6,
        "start_s": 2e-8,
        "multiply_s": 2 / fastest,
        "load_s": 1e-11,
        "store_s": 1e-11,
        "bandwidth": 2e10,
        "sm_bandwidth": 4e10,
    }
    return [
        GemmSet("fp32", (v,), ("fp32", v), _TILES, (1,), result_bytes=4.0, start=start)
        for v in ("fwd", "dgrad", "wgrad")
    ]


def calibration_of_cpu(
    rows: Sequence[Row],
    device: Mapping[str, Any],
    source: str,
    name: str,
    comm: Sequence[CommRow] = (),
) -> dict[str, Any]:
    """Everything a calibration file of a CPU holds; threads are counted as one SM."""
    power = PowerModel(UNLIMITED_W, 0.0, 0.0, 1.0)
    gap_s = next(r.us for r in rows if r.group == "gap") * 1e-6
    base = reference_data()
    peak = max(r.flops / r.us for r in rows if r.flops) * 1e-6
    stream = max(r.bytes / r.us for r in rows if r.group == "memory") * 1e-3
    gemm = []
    for chosen in cpu_sets(rows):
        mine = rows_of(chosen, rows)
        curve = fit_curve(chosen, mine, power, gap_s, 1)
        entry = gemm_entry(chosen, curve, mine, power, gap_s, 1, source)
        gemm.append({**entry, "lost_sms": 0.0, "tail_rounds": 0.0})
    none = {"value": 0.0, "kind": "guess", "source": "a CPU runs one thing at a time here"}
    file: dict[str, Any] = {
        "format": FORMAT,
        "gpu": name,
        "device": dict(device),
        "reference": {"sms": 1, "hbm_GBps": stream, "peak_tflops": {"fp32": peak, "bf16": peak}},
        "power": {
            key: {"value": value, "kind": "guess", "source": "no limit: the clock is constant"}
            for key, value in (
                ("limit_w", UNLIMITED_W),
                ("idle_w", 0.0),
                ("busy_w", 0.0),
                ("pJ_per_byte", 0.0),
                ("exponent", 1.0),
                ("memory_w", 0.0),
            )
        },
        "launch_gap_us": {
            "value": gap_s * 1e6,
            "kind": "measured",
            "source": f"{source}: calls of a function that does nothing",
        },
        "drag": dict.fromkeys(("gemm", "grouped_gemm", "memory", "attention"), none),
        "kernel_cv": {
            "value": spread_of([r for r in rows if r.group == "gemm"]) / 2,
            "kind": "measured",
            "source": f"{source}: half the spread of GEMM readings",
        },
        "gemm": gemm,
        "gemm_stream_GBps": {"value": stream, "kind": "measured", "source": source},
        "attention": [_core(rows, v, source) for v in ("fwd", "bwd")],
        "memory": memory_part(rows, gap_s, source),
        "alltoall": {
            "sms": base["alltoall"]["sms"],
            "draw_reference_GBps": borrowed(base["alltoall"]["draw_reference_GBps"]),
            "kinds": {k: borrowed(v) for k, v in base["alltoall"]["kinds"].items()},
        },
        "collective": borrowed(base["collective"]),
    }
    if comm:
        file["transfers"] = transfers_part(comm)
    return file


def _core(rows: Sequence[Row], variant: str, source: str) -> dict[str, Any]:
    """An attention core: launch and rate, least squares of relative errors."""
    mine = [r for r in rows if r.group == "attention" and r.variant == variant]
    us = np.array([r.us for r in mine])
    flops = np.array([r.flops for r in mine])

    def solve(at: Any) -> Any:
        terms = np.stack([np.ones(at.sum()), flops[at]], axis=1) / us[at][:, None]
        found = np.linalg.lstsq(terms, np.ones(int(at.sum())), rcond=None)[0]
        return np.maximum(found, 1e-12)

    every = np.ones(len(mine), bool)
    launch, per_flop = solve(every)
    errors = []
    for i in range(len(mine)):
        rest = every.copy()
        rest[i] = False
        a, b = solve(rest)
        errors.append((a + b * flops[i]) / us[i] - 1)
    return {
        "dtype": "fp32",
        "variant": variant,
        "tflops_per_sm": 1e-6 / per_flop,
        "launch_us": launch,
        "kind": "measured",
        "source": source,
        "rows": len(mine),
        "spread": spread_of(mine),
        **errors_of(errors),
    }


def transfers_part(rows: Sequence[CommRow]) -> list[dict[str, Any]]:
    """Latency and bandwidth of each kind of transfer: least squares of relative errors."""
    found = []
    for key in dict.fromkeys((r.backend, r.kind, r.procs) for r in rows):
        mine = [r for r in rows if (r.backend, r.kind, r.procs) == key]
        seconds = np.array([r.seconds for r in mine])
        moved = np.array([float(r.bytes) for r in mine])
        terms = np.stack([np.ones_like(moved), moved], axis=1) / seconds[:, None]
        latency, per_byte = np.linalg.lstsq(terms, np.ones(len(mine)), rcond=None)[0]
        latency, per_byte = max(float(latency), 1e-9), max(float(per_byte), 1e-13)
        found.append(
            {
                "backend": key[0],
                "collective": key[1],
                "procs": key[2],
                "latency_us": latency * 1e6,
                "GBps": 1e-9 / per_byte,
                "rows": len(mine),
                **errors_of((latency + per_byte * moved) / seconds - 1),
            }
        )
    return found
