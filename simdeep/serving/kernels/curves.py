"""The curves of serving kernels, as `python -m simdeep.serving.kernels.fit` writes them.

They belong to one GPU (H800); any other has them scaled by the ratios of datasheet figures: what an
SM computes by its peak, what comes from memory by HBM bandwidth; launches and latencies stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import simdeep
from simdeep.cost.calibration import load_calibration
from simdeep.errors import InputError, Problem
from simdeep.spec.yamlio import load_document

if TYPE_CHECKING:
    from simdeep.spec.hardware import Gpu

GemmLayout = Literal["dense", "masked", "contiguous"]
"""`masked`: rows of each expert in a buffer of their own (decode); `contiguous`: one after the
other, padded to whole tiles (prefill)."""

DATA = Path(simdeep.__file__).parent / "data" / "serving"
FITTED = DATA / "kernels.yaml"


@dataclass(frozen=True, slots=True)
class GemmCurve:
    """A GEMM of FP8 operands takes `launch_s` + the p-norm of its computing and its reading.

    Computing: waves of output tiles, each `prologue_s` + k times the time of a step of k, which is
    `edge_s` (operands of a 128 x 128 tile through shared memory) and `area_s` (its products), at
    least `latency_s`. Reading: all bytes once at `bandwidth`. `power` is the p of the norm: a large
    one hides the shorter of the two whole, 1 nothing of it.
    """

    layout: GemmLayout
    launch_s: float
    prologue_s: float
    edge_s: float
    area_s: float
    latency_s: float
    bandwidth: float
    power: float


@dataclass(frozen=True, slots=True)
class SustainedGemm:
    """What a FP8 GEMM of many rows takes between the other kernels of a model that runs on and on.

    Whole waves of `tile` x `tile` outputs, each `prologue_s` + k x `per_k_s`. A kernel measured in
    a loop of its own runs at clocks that a GPU does not hold in operation.
    """

    prologue_s: float
    per_k_s: float
    tile: int


@dataclass(frozen=True, slots=True)
class DecodeCurve:
    """Latent attention over a KV cache with absorbed weights (FlashMLA), in blocks of keys.

    The blocks of all sequences are dealt out evenly to groups of SMs, one SM of a group for each
    tile of `head_tile` query rows; a sequence costs `overhead_blocks` more. Each takes `block_s`
    computing, or what its bytes take at the GPU's `bandwidth`.
    """

    launch_s: float
    block_s: float
    overhead_blocks: float
    block_tokens: int
    head_tile: int
    bandwidth: float


@dataclass(frozen=True, slots=True)
class PrefillCurve:
    """Causal attention of prompts: FLOP/s of one SM, over whole tiles of `tile` queries."""

    launch_s: float
    flops_per_sm: float
    tile: int


@dataclass(frozen=True, eq=False)
class ServingKernels:
    """All serving curves of one GPU. Times in s, rates in FLOP/s and B/s.

    `graph_gap_s` is the gap between kernels of a captured graph, `graph_launch_s` the host's launch
    of one, `host_launch_s` its launch of a single kernel. `scaled` says that the curves are another
    GPU's, scaled; `sources` has the origin of each.
    """

    gpu: str
    sms: int
    hbm_bw: float
    peak: Mapping[str, float]
    gemm: Mapping[GemmLayout, GemmCurve]
    sustained: SustainedGemm
    decode: DecodeCurve
    prefill: PrefillCurve
    stream_bw: float
    graph_gap_s: float
    graph_launch_s: float
    host_launch_s: float
    scaled: bool
    sources: Mapping[str, str]


def kernels_for(gpu: Gpu) -> ServingKernels:
    """The serving curves of a GPU: as measured on the H800, or scaled from there."""
    base = load_serving_kernels()
    return base if gpu.id == base.gpu else _scaled(base, gpu)


@cache
def load_serving_kernels(path: Path = FITTED) -> ServingKernels:
    """The shipped curves, or those of another file of the same form."""
    data = load_document(path).data
    try:
        return _build(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"missing key {error}" if isinstance(error, KeyError) else str(error)
        raise InputError([Problem(str(path), "", f"not serving kernels: {what}")]) from None


def _build(data: Mapping[str, Any]) -> ServingKernels:
    reference, decode, prefill = data["reference"], data["mla_decode"], data["prefill_attention"]
    gemm = {row["layout"]: _gemm(row) for row in data["gemm"]}
    sources = {f"gemm.{row['layout']}": row["source"] for row in data["gemm"]}
    names = ("mla_decode", "prefill_attention", "graph_gap", "graph_launch", "host_launch")
    return ServingKernels(
        gpu=data["gpu"],
        sms=int(reference["sms"]),
        hbm_bw=reference["hbm_GBps"] * 1e9,
        peak={name: value * 1e12 for name, value in reference["peak_tflops"].items()},
        gemm=gemm,
        sustained=_sustained(data["gpu"]),
        decode=DecodeCurve(
            decode["launch_us"] * 1e-6,
            decode["block_us"] * 1e-6,
            decode["overhead_blocks"],
            int(decode["block_tokens"]),
            int(decode["head_tile"]),
            decode["GBps"] * 1e9,
        ),
        prefill=PrefillCurve(
            prefill["launch_us"] * 1e-6, prefill["tflops_per_sm"] * 1e12, int(prefill["tile"])
        ),
        stream_bw=gemm["dense"].bandwidth,
        graph_gap_s=data["graph_gap"]["us"] * 1e-6,
        graph_launch_s=data["graph_launch"]["us"] * 1e-6,
        host_launch_s=data["host_launch"]["us"] * 1e-6,
        scaled=False,
        sources=sources | {name: data[name]["source"] for name in names},
    )


def _sustained(gpu: str) -> SustainedGemm:
    """The forward GEMMs of the training calibration, measured inside a running model."""
    curve = load_calibration(gpu).gemm_curve("fp8", "fwd")
    return SustainedGemm(curve.prologue_s, curve.per_k_s, curve.tile_m)


def _gemm(row: Mapping[str, Any]) -> GemmCurve:
    return GemmCurve(
        row["layout"],
        row["launch_us"] * 1e-6,
        row["prologue_us"] * 1e-6,
        row["edge_ns"] * 1e-9,
        row["area_ns"] * 1e-9,
        row["latency_ns"] * 1e-9,
        row["GBps"] * 1e9,
        row["power"],
    )


def _scaled(base: ServingKernels, gpu: Gpu) -> ServingKernels:
    """`base` on another GPU; FP8 curves of one without FP8 go by BF16 and are twice as slow."""
    per_sm = base.sms / gpu.sms
    peak = gpu.peak.get("fp8", gpu.peak["bf16"])
    compute = peak / base.peak["fp8"] * per_sm
    attention = gpu.peak["bf16"] / base.peak["bf16"] * per_sm
    memory = gpu.hbm_bw / base.hbm_bw

    def gemm(curve: GemmCurve) -> GemmCurve:
        return replace(
            curve,
            edge_s=curve.edge_s / compute,
            area_s=curve.area_s / compute,
            bandwidth=curve.bandwidth * memory,
        )

    note = f"{base.gpu} scaled to {gpu.id} by datasheet ratios; "
    return replace(
        base,
        gpu=gpu.id,
        sms=gpu.sms,
        hbm_bw=gpu.hbm_bw,
        peak=dict(gpu.peak),
        gemm={layout: gemm(curve) for layout, curve in base.gemm.items()},
        sustained=replace(base.sustained, per_k_s=base.sustained.per_k_s / compute),
        decode=replace(
            base.decode,
            block_s=base.decode.block_s / attention,
            bandwidth=base.decode.bandwidth * memory,
        ),
        prefill=replace(base.prefill, flops_per_sm=base.prefill.flops_per_sm * attention),
        stream_bw=base.stream_bw * memory,
        scaled=True,
        sources={name: note + source for name, source in base.sources.items()},
    )
