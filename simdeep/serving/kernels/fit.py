"""Fit the serving curves: `python -m simdeep.serving.kernels.fit [FILE]`.

Reads `h800_inference_kernels.csv` and writes `kernels.yaml`. Curves are fitted on relative errors
(far-off rows weigh less); the error stated is that of rows predicted from the others: of a weight
shape, a number of experts on a GPU, or a batch that was left out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simdeep.cost.fit.write import to_yaml
from simdeep.serving.kernels.attention import decode_attention, prefill_attention
from simdeep.serving.kernels.curves import FITTED, DecodeCurve, GemmCurve, PrefillCurve
from simdeep.serving.kernels.gemm import GemmShape, gemm_seconds

F64 = npt.NDArray[np.float64]
Bounds = Mapping[str, tuple[float, float, float]]
"""Start, lowest and highest value of each constant."""

ROWS = Path(__file__).parents[2] / "data" / "serving" / "h800_inference_kernels.csv"
SMS = 132
HEADS, LATENT, ROPE, NOPE, V_DIM = 128, 512, 64, 128, 128
SOURCE = "alibaba/InferSim@f2293da bench_data, H800, DeepSeek-V3 shapes"

HEADER = """\
# Fitted by `python -m simdeep.serving.kernels.fit`; see SOURCES.md. Do not edit by hand: change the
# fit or its data. Errors are relative, of rows predicted from the others (see the fit).
"""

GEMM_BOUNDS: Bounds = {
    "launch_us": (4.0, 1.0, 12.0),
    "prologue_us": (0.4, 0.01, 3.0),
    "edge_ns": (1.0, 1e-4, 3.5),
    "area_ns": (1.8, 0.1, 3.5),
    "latency_ns": (0.8, 0.2, 2.0),
    "GBps": (2800.0, 1500.0, 3350.0),
    "power": (2.5, 1.0, 8.0),
}
DECODE_BOUNDS: Bounds = {"launch_us": (20.0, 1.0, 40.0), "block_us": (2.1, 0.5, 5.0)}
PREFILL_BOUNDS: Bounds = {"launch_us": (5.0, 1.0, 60.0), "tflops_per_sm": (4.7, 2.0, 7.5)}

LAYOUTS = {"dense": "gemm", "masked": "grouped_gemm_decode", "contiguous": "grouped_gemm_prefill"}


@dataclass(frozen=True, slots=True)
class Row:
    """One measured kernel: sizes, what is left out with it, seconds."""

    m: float
    n: float
    k: float
    groups: int
    batch: float
    seq: float
    family: str
    us: float


def measured(op: str) -> list[Row]:
    """Rows whose operation starts with `op`, with the family that is left out together."""
    found = []
    with ROWS.open(newline="", encoding="utf-8") as file:
        for r in csv.DictReader(file):
            if not r["op"].startswith(op) or (op == "gemm" and r["op"] != "gemm"):
                continue
            n, k = (float(r[name] or 0) for name in ("n", "k"))
            grouped = r["op"].startswith("grouped")
            m = float((r["tokens_per_expert"] if grouped else r["m"]) or 0)
            groups = int(r["local_experts"] or 1)
            batch, seq = float(r["batch"] or 0), float(r["seq"] or 0)
            family = {"gemm": f"{n}x{k}"}.get(op, str(groups) if grouped else str(batch))
            if op == "context_mla":
                family = str(seq)
            found.append(Row(m, n, k, groups, batch, seq, family, float(r["latency_us"])))
    return found


Model = Callable[[Mapping[str, float], Sequence[Row]], F64]


def gemm_us(values: Mapping[str, float], rows: Sequence[Row]) -> F64:
    """Microseconds of GEMMs; those of one weight shape at once."""
    curve = GemmCurve(
        "dense",
        values["launch_us"] * 1e-6,
        values["prologue_us"] * 1e-6,
        values["edge_ns"] * 1e-9,
        values["area_ns"] * 1e-9,
        values["latency_ns"] * 1e-9,
        values["GBps"] * 1e9,
        values["power"],
    )
    found = np.zeros(len(rows))
    shapes = {(r.n, r.k, r.groups) for r in rows}
    for n, k, groups in shapes:
        at = [i for i, r in enumerate(rows) if (r.n, r.k, r.groups) == (n, k, groups)]
        m = np.array([rows[i].m for i in at])
        found[at] = gemm_seconds(GemmShape(m, n, k, groups), curve, SMS).alone_s * 1e6
    return found


OVERHEAD_BLOCKS = 5.0
"""Blocks that FlashMLA's scheduler counts for starting a sequence (its `fixed_overhead_num_blocks`,
deepseek-ai/FlashMLA)."""
BLOCK_TOKENS = 64
HEAD_TILE = 64
STREAM_GBPS = 3000.0
"""What FlashMLA reaches where memory bounds it (deepseek-ai/FlashMLA README, H800)."""


def decode_us(values: Mapping[str, float], rows: Sequence[Row]) -> F64:
    """Microseconds of latent decode attention."""
    curve = DecodeCurve(
        values["launch_us"] * 1e-6,
        values["block_us"] * 1e-6,
        OVERHEAD_BLOCKS,
        BLOCK_TOKENS,
        HEAD_TILE,
        STREAM_GBPS * 1e9,
    )
    times = [
        sum(decode_attention(r.batch, r.seq, HEADS, LATENT + ROPE, 2.0, curve, SMS)) for r in rows
    ]
    return np.array(times) * 1e6


def prefill_us(values: Mapping[str, float], rows: Sequence[Row]) -> F64:
    """Microseconds of causal prompt attention."""
    curve = PrefillCurve(values["launch_us"] * 1e-6, values["tflops_per_sm"] * 1e12, 128)
    times = [
        sum(prefill_attention(r.batch * r.seq, r.seq / 2, HEADS, NOPE + ROPE, V_DIM, curve, SMS))
        for r in rows
    ]
    return np.asarray(times, dtype=np.float64) * 1e6


def fit(model: Model, bounds: Bounds, rows: Sequence[Row]) -> dict[str, float]:
    """Constants of least robust relative error, by steps along each that shrink.

    The curves have corners (tiles, waves), so the search takes no slopes.
    """
    names = list(bounds)
    point = np.log([bounds[name][0] for name in names])
    low, high = (np.log([bounds[name][i] for name in names]) for i in (1, 2))
    times = np.array([r.us for r in rows])

    def miss(at: F64) -> float:
        error = np.log(model(dict(zip(names, np.exp(at).tolist(), strict=True)), rows) / times)
        return float(np.sum(np.sqrt(1.0 + (error / 0.1) ** 2)))

    best, step = miss(point), 0.4
    while step > 0.002:
        moved = False
        for i in range(len(names)):
            for sign in (step, -step):
                trial = point.copy()
                trial[i] = np.clip(trial[i] + sign, low[i], high[i])
                found = miss(trial)
                if found < best - 1e-9:
                    point, best, moved = trial, found, True
        step = step if moved else step / 2
    return dict(zip(names, np.exp(point).tolist(), strict=True))


def fitted(model: Model, bounds: Bounds, rows: Sequence[Row]) -> dict[str, Any]:
    """Constants with the errors of rows left out by family."""
    values = fit(model, bounds, rows)
    errors: list[float] = []
    for family in sorted({r.family for r in rows}):
        left = [r for r in rows if r.family == family]
        other = fit(model, bounds, [r for r in rows if r.family != family])
        times = np.array([r.us for r in left])
        errors += np.abs(model(other, left) / times - 1.0).tolist()
    return values | {
        "rows": len(rows),
        "median_error": float(np.median(errors)),
        "max_error": float(np.max(errors)),
    }


def document() -> dict[str, Any]:
    """Everything the file holds."""
    gemm: list[dict[str, Any]] = []
    for layout, op in LAYOUTS.items():
        bounds = dict(GEMM_BOUNDS)
        if layout == "contiguous":
            # Rows of milliseconds do not show a launch: the plain GEMM's holds.
            bounds["launch_us"] = (gemm[0]["launch_us"],) * 3
        found = fitted(gemm_us, bounds, measured(op))
        gemm.append({"layout": layout} | found | {"source": f"{SOURCE}, {op} rows (DeepGEMM FP8)"})
    decode = fitted(decode_us, DECODE_BOUNDS, measured("generation_mla"))
    prefill = fitted(prefill_us, PREFILL_BOUNDS, measured("context_mla"))
    return {
        "gpu": "h800",
        "reference": {
            "sms": SMS,
            "hbm_GBps": 3350,
            "peak_tflops": {"fp8": 1979, "bf16": 989},
        },
        "gemm": gemm,
        "mla_decode": decode
        | {
            "overhead_blocks": OVERHEAD_BLOCKS,
            "block_tokens": BLOCK_TOKENS,
            "head_tile": HEAD_TILE,
            "GBps": STREAM_GBPS,
            "source": f"{SOURCE}, generation_mla rows (FlashMLA); overhead of a sequence and "
            "memory-bound rate from deepseek-ai/FlashMLA",
        },
        "prefill_attention": prefill
        | {"tile": 128, "source": f"{SOURCE}, context_mla rows, causal"},
        "graph_gap": {
            "us": 0.5,
            "kind": "published",
            "source": "NVIDIA blog 'Getting Started with CUDA Graphs' (2019): 3.4 us a kernel of "
            "2.9 us in a graph",
        },
        "graph_launch": {
            "us": 10.0,
            "kind": "guess",
            "source": "host time to launch one captured graph; a few to some tens of us are usual",
        },
        "host_launch": {
            "us": 6.0,
            "kind": "measured",
            "source": "h800_train_trace.csv: 5th percentile between launches of a host thread, "
            "the profiler on",
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(prog="python -m simdeep.serving.kernels.fit")
    parser.add_argument("file", type=Path, nargs="?", default=FITTED, help="where to write")
    path = parser.parse_args(arguments).file
    path.write_text(HEADER + to_yaml(document()), encoding="utf-8")


if __name__ == "__main__":
    main()
