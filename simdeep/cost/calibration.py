"""Calibration: how fast real kernels and transfers ran, read from a data file with its sources.

A calibration belongs to one GPU. For any other GPU `Calibration.on` scales it by the ratio of the
datasheet figures, and says so: compute by peak per SM, memory by HBM bandwidth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.spec.hardware import Gpu

ProvenanceKind = Literal["measured", "published", "guess", "scaled"]

REFERENCE = "h800"
"""Calibration that stands in, scaled, for a GPU that has none of its own."""

_STAND_IN = {"fp4": "fp8", "fp16": "bf16", "tf32": "bf16", "fp32": "bf16"}


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a figure comes from.

    `rows` counts the measurements behind it; the errors are relative, leave-one-out where a curve
    was fitted, and None where nothing was measured.
    """

    kind: ProvenanceKind
    source: str
    rows: int = 0
    median_error: float | None = None
    max_error: float | None = None


@dataclass(frozen=True, slots=True)
class GemmCurve:
    """A GEMM takes `launch_s` + waves x (`prologue_s` + k x `per_k_s`), in whole waves of tiles."""

    dtype: str
    variant: str
    tile_m: int
    tile_n: int
    launch_s: float
    prologue_s: float
    per_k_s: float
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class AttentionCurve:
    """FLOP/s of the attention core on one SM (causal FLOPs, as the kernel record counts them)."""

    dtype: str
    variant: str
    flops_per_sm: float
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class MemoryCurve:
    """Seconds of a memory-bound kernel: launches x `floor_s` + bytes / `bandwidth` (B/s)."""

    variant: str
    bandwidth: float
    floor_s: float
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class AllToAllCurve:
    """Time in training over that of the isolated kernel model, and the set-up time."""

    kind: str
    slowdown: float
    setup_s: float
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class CollectiveCurve:
    """Achieved shares of the ports' bandwidth in collectives and point-to-point sends."""

    nic_fraction: float
    nvl_fraction: float
    provenance: Provenance


@dataclass(frozen=True, eq=False)
class Calibration:
    """Everything measured on one GPU. Bandwidths in B/s, rates in FLOP/s, times in seconds.

    `kernel_cv` is the coefficient of variation of a component's time from one run to the next.
    `drag` gives for each kernel class the fraction by which it slows beside one all-to-all
    transfer; `draw_reference` is the bytes a second over all ports of such a transfer.
    """

    gpu: str
    sms: int
    hbm_bw: float
    peak: Mapping[str, float]
    gemm: Mapping[tuple[str, str], GemmCurve]
    attention: Mapping[tuple[str, str], AttentionCurve]
    memory: Mapping[str, MemoryCurve]
    memory_kernels: Mapping[str, MemoryCurve]
    gemm_stream_bw: float
    launch_gap_s: float
    drag: Mapping[str, float]
    kernel_cv: float
    alltoall: Mapping[str, AllToAllCurve]
    collective: CollectiveCurve
    draw_reference: float
    provenance: Mapping[str, Provenance] = field(default_factory=dict)

    def on(self, gpu: Gpu) -> Calibration:
        """This calibration for another GPU, by the ratios of the datasheet figures."""
        if gpu.id == self.gpu:
            return self
        return _scaled(self, gpu)

    def gemm_curve(self, dtype: str, variant: str) -> GemmCurve:
        """The curve of a GEMM; `InputError` when the GPU cannot run the dtype."""
        curve = self.gemm.get((dtype, variant)) or self._stand_in(self.gemm, dtype, variant)
        if curve is None:
            raise self._missing("GEMM", dtype, variant)
        return curve

    def attention_curve(self, dtype: str, variant: str) -> AttentionCurve:
        """The curve of an attention core; `InputError` when the GPU cannot run the dtype."""
        curve = self.attention.get((dtype, variant)) or self._stand_in(
            self.attention, dtype, variant
        )
        if curve is None:
            raise self._missing("attention", dtype, variant)
        return curve

    def memory_curve(self, variant: str, name: str = "") -> MemoryCurve:
        """The curve of a memory-bound kernel: its own, its class's, or that of `other`."""
        own = self.memory_kernels.get(base_name(name))
        return own or self.memory.get(variant) or self.memory["other"]

    def _stand_in(self, curves: Mapping[tuple[str, str], Any], dtype: str, variant: str) -> Any:
        """A curve of the nearest dtype, its FLOP-bound part scaled by the ratio of the peaks."""
        other = _STAND_IN.get(dtype, "")
        curve = curves.get((other, variant))
        if curve is None or dtype not in self.peak or other not in self.peak:
            return None
        note = replace(
            curve.provenance,
            kind="scaled",
            source=f"{other} curve scaled by the ratio of the peaks; {curve.provenance.source}",
        )
        ratio = self.peak[dtype] / self.peak[other]
        if isinstance(curve, GemmCurve):
            return replace(curve, dtype=dtype, per_k_s=curve.per_k_s / ratio, provenance=note)
        return replace(curve, dtype=dtype, flops_per_sm=curve.flops_per_sm * ratio, provenance=note)

    def _missing(self, what: str, dtype: str, variant: str) -> InputError:
        have = ", ".join(sorted(self.peak))
        return InputError(
            [
                Problem(
                    "",
                    "train.precision",
                    f"{self.gpu} has no rate for {dtype} {what} ({variant}); it runs: {have}",
                )
            ]
        )


def base_name(kernel: str) -> str:
    """Name of a kernel whether it runs forward or again: `post_norm_recompute` is `post_norm`."""
    return kernel.removesuffix("_recompute").removesuffix("_fwd")


def load_calibration(name_or_path: str | Path) -> Calibration:
    """Read a calibration file, by catalogue name (`h800`) or path."""
    from simdeep.spec.resources import find_resource

    path = find_resource("calibration", name_or_path)
    return _read(Path(path).resolve())


def calibration_for(gpu: Gpu) -> Calibration:
    """The calibration of a GPU: its own where it has one, else the reference scaled to it."""
    return load_calibration(gpu.calibration or REFERENCE).on(gpu)


@cache
def _read(path: Path) -> Calibration:
    from simdeep.spec.yamlio import load_document

    document = load_document(path)
    try:
        return _build(document.data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"missing key {error}" if isinstance(error, KeyError) else str(error)
        raise InputError([Problem(str(path), "", f"not a calibration file: {what}")]) from None


def _provenance(entry: Mapping[str, Any]) -> Provenance:
    return Provenance(
        entry["kind"],
        entry["source"],
        int(entry.get("rows", 0)),
        entry.get("median_error"),
        entry.get("max_error"),
    )


def _build(data: Mapping[str, Any]) -> Calibration:
    """The record of a parsed file; its keys carry their units."""
    reference = data["reference"]
    sms = int(reference["sms"])
    memory = data["memory"]
    floor = memory["floor_us"]["value"] * 1e-6
    transfers, collective = data["alltoall"], data["collective"]
    single = {key: data[key] for key in ("launch_gap_us", "gemm_stream_GBps", "kernel_cv")} | {
        f"drag.{key}": entry for key, entry in data["drag"].items()
    }
    return Calibration(
        gpu=data["gpu"],
        sms=sms,
        hbm_bw=reference["hbm_GBps"] * 1e9,
        peak={dtype: tflops * 1e12 for dtype, tflops in reference["peak_tflops"].items()},
        gemm={
            (row["dtype"], row["variant"]): GemmCurve(
                row["dtype"],
                row["variant"],
                row["tile_m"],
                row["tile_n"],
                row["launch_us"] * 1e-6,
                row["prologue_us"] * 1e-6,
                row["per_k_ns"] * 1e-9,
                _provenance(row),
            )
            for row in data["gemm"]
        },
        attention={
            (row["dtype"], row["variant"]): AttentionCurve(
                row["dtype"], row["variant"], row["tflops_per_sm"] * 1e12, _provenance(row)
            )
            for row in data["attention"]
        },
        memory={
            name: MemoryCurve(name, row["GBps"] * 1e9, floor, _provenance(row))
            for name, row in memory["variants"].items()
        },
        memory_kernels={
            name: MemoryCurve(name, row["GBps"] * 1e9, floor, _provenance(row))
            for name, row in memory["kernels"].items()
        },
        gemm_stream_bw=data["gemm_stream_GBps"]["value"] * 1e9,
        launch_gap_s=data["launch_gap_us"]["value"] * 1e-6,
        drag={name: entry["value"] for name, entry in data["drag"].items()},
        kernel_cv=data["kernel_cv"]["value"],
        alltoall={
            kind: AllToAllCurve(
                kind,
                row["slowdown"],
                row["setup_us"] * 1e-6,
                _provenance(row),
            )
            for kind, row in transfers["kinds"].items()
        },
        collective=CollectiveCurve(
            collective["nic_fraction"], collective["nvl_fraction"], _provenance(collective)
        ),
        draw_reference=transfers["draw_reference_GBps"]["value"] * 1e9,
        provenance={name: _provenance(entry) for name, entry in single.items()},
    )


def _scaled(base: Calibration, gpu: Gpu) -> Calibration:
    """`base` on another GPU: compute by peak an SM, memory by HBM bandwidth, fabric unchanged."""
    per_sm = base.sms / gpu.sms
    bandwidth = gpu.hbm_bw / base.hbm_bw

    def note(old: Provenance) -> Provenance:
        text = f"{base.gpu} scaled to {gpu.id} by datasheet ratios; {old.source}"
        return replace(old, kind="scaled", source=text)

    def compute(dtype: str) -> float:
        """Peak of one SM here over that of the calibrated GPU."""
        return gpu.peak[dtype] / base.peak[dtype] * per_sm

    def memory(curves: Mapping[str, MemoryCurve]) -> dict[str, MemoryCurve]:
        return {
            key: replace(
                curve, bandwidth=curve.bandwidth * bandwidth, provenance=note(curve.provenance)
            )
            for key, curve in curves.items()
        }

    return replace(
        base,
        gpu=gpu.id,
        sms=gpu.sms,
        hbm_bw=gpu.hbm_bw,
        peak=dict(gpu.peak),
        gemm={
            key: replace(
                curve,
                # The prologue and epilogue move a tile's operands and result through memory.
                prologue_s=curve.prologue_s / (bandwidth * per_sm),
                per_k_s=curve.per_k_s / compute(curve.dtype),
                provenance=note(curve.provenance),
            )
            for key, curve in base.gemm.items()
            if curve.dtype in gpu.peak
        },
        attention={
            key: replace(
                curve,
                flops_per_sm=curve.flops_per_sm * compute(curve.dtype),
                provenance=note(curve.provenance),
            )
            for key, curve in base.attention.items()
            if curve.dtype in gpu.peak
        },
        memory=memory(base.memory),
        memory_kernels=memory(base.memory_kernels),
        gemm_stream_bw=base.gemm_stream_bw * bandwidth,
        alltoall={
            kind: replace(curve, provenance=note(curve.provenance))
            for kind, curve in base.alltoall.items()
        },
        provenance={name: note(old) for name, old in base.provenance.items()},
    )
