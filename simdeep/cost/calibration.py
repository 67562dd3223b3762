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

from simdeep.cost.power import PowerModel
from simdeep.cost.tiled import TiledCurve
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.spec.hardware import Gpu

ProvenanceKind = Literal["measured", "published", "guess", "scaled"]

REFERENCE = "h800"
"""Calibration that stands in, scaled, for a GPU that has none of its own."""

FORMATS = (1, 2)
"""Versions of the file format that are read; a file that says none is of the first. The second adds
`device`, `power`, GEMMs with tiles to pick from, and attention by the sizes of a head."""

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
    p90_error: float | None = None


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
    """FLOP/s of the attention core on one SM (causal FLOPs, as the kernel record counts them).

    `tail_rows`: a block of so many queries over the whole sequence is what an SM ends with while
    others are done; it tells few heads from many. `masked_keys` is how many keys a query computes
    that the mask hides. `variant` is fwd or bwd, with `:flash1` or `:flash2` behind it for the
    kernels of those libraries, or `:192x128` for one size of a head's keys and values.
    `launch_s` and `joules_per_flop` are 0 where they were not told apart.
    """

    dtype: str
    variant: str
    flops_per_sm: float
    provenance: Provenance
    tail_rows: float = 0.0
    masked_keys: float = 0.0
    launch_s: float = 0.0
    joules_per_flop: float = 0.0


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
    """Achieved shares of the ports' bandwidth in collectives and point-to-point sends.

    `setup_s` passes before the first byte of a collective: launch and synchronisation.
    """

    nic_fraction: float
    nvl_fraction: float
    provenance: Provenance
    setup_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """Everything measured on one GPU. Bandwidths in B/s, rates in FLOP/s, times in seconds.

    `kernel_cv` is the coefficient of variation of a component's time from one run to the next.
    `drag` gives for each kernel class the fraction by which it slows beside one all-to-all
    transfer; `draw_reference` is the bytes a second over all ports of such a transfer. With
    `power`, GEMMs are the `tiled` ones, rates are those of the highest clock and the clock follows
    from the work (`cost.clocked`); memory-bound kernels draw `memory_w`. `device` says what was
    measured: the device's name and the versions of its software.
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
    tiled: Mapping[tuple[str, str], TiledCurve] = field(default_factory=dict)
    power: PowerModel | None = None
    memory_w: float = 0.0
    device: Mapping[str, Any] = field(default_factory=dict)

    def on(self, gpu: Gpu) -> Calibration:
        """This calibration for another GPU, by the ratios of the datasheet figures."""
        if gpu.id == self.gpu:
            return self
        return _scaled(self, gpu)

    def tiled_curve(self, dtype: str, variant: str, grouped: bool) -> TiledCurve:
        """The curve of a GEMM whose tile is picked; `InputError` when there is none."""
        names = [f"grouped_{variant}", variant] if grouped else [variant]
        if variant == "dgrad":  # in FP8 all operands lie alike, and so do those of one product
            names += ["grouped_fwd", "fwd"] if grouped else ["fwd"]
        for have in (dtype, _STAND_IN.get(dtype, "")):
            for name in names:
                curve = self.tiled.get((have, name))
                if curve is not None:
                    return curve if have == dtype else self._slower(curve, dtype)
        raise self._missing("GEMM", dtype, variant)

    def _slower(self, curve: TiledCurve, dtype: str) -> TiledCurve:
        """A curve of the nearest dtype, its computing scaled by the ratio of the peaks."""
        if dtype not in self.peak:
            raise self._missing("GEMM", dtype, curve.variant)
        ratio = self.peak[curve.dtype] / self.peak[dtype]
        note = replace(curve.provenance, kind="scaled")
        scaled = replace(curve, dtype=dtype, multiply_s=curve.multiply_s * ratio, provenance=note)
        return replace(scaled, joules_per_flop=curve.joules_per_flop * ratio)

    def gemm_curve(self, dtype: str, variant: str) -> GemmCurve:
        """The curve of a GEMM; `InputError` when the GPU cannot run the dtype.

        A grouped GEMM (`fwd:grouped`) that has no curve of its own takes the plain one.
        """
        variant = variant if (dtype, variant) in self.gemm else variant.partition(":")[0]
        curve = self.gemm.get((dtype, variant)) or self._stand_in(self.gemm, dtype, variant)
        if curve is None:
            raise self._missing("GEMM", dtype, variant)
        return curve

    def attention_curve(self, dtype: str, variant: str) -> AttentionCurve:
        """The curve of an attention core; `InputError` when the GPU cannot run the dtype.

        A library's kernel (`fwd:flash2`) that has no curve of its own takes the plain one.
        """
        variant = variant if (dtype, variant) in self.attention else variant.partition(":")[0]
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
    version = document.data.get("format", 1) if isinstance(document.data, dict) else 1
    if version not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        message = f"calibration format {version!r}; this simdeep reads formats {known}"
        raise InputError([Problem(str(path), "format", message)])
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
        entry.get("p90_error"),
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
            if "tiles" not in row
        },
        attention={
            (row["dtype"], row["variant"]): AttentionCurve(
                row["dtype"],
                row["variant"],
                row["tflops_per_sm"] * 1e12,
                _provenance(row),
                row.get("tail_rows", 0.0),
                row.get("masked_keys", 0.0),
                row.get("launch_us", 0.0) * 1e-6,
                row.get("pJ_per_flop", 0.0) * 1e-12,
            )
            for row in data["attention"]
        },
        memory={name: _memory(name, row, floor) for name, row in memory["variants"].items()},
        memory_kernels={
            name: _memory(name, row, floor) for name, row in (memory["kernels"] or {}).items()
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
            collective["nic_fraction"],
            collective["nvl_fraction"],
            _provenance(collective),
            collective.get("setup_us", 0.0) * 1e-6,
        ),
        draw_reference=transfers["draw_reference_GBps"]["value"] * 1e9,
        provenance={name: _provenance(entry) for name, entry in single.items()},
        tiled={
            (row["dtype"], row["variant"]): _tiled(row) for row in data["gemm"] if "tiles" in row
        },
        power=_power(data.get("power")),
        memory_w=data["power"]["memory_w"]["value"] if "power" in data else 0.0,
        device=data.get("device", {}),
    )


def _memory(name: str, row: Mapping[str, Any], floor_s: float) -> MemoryCurve:
    """A class's curve; it may have a floor of its own."""
    own = row.get("floor_us")
    return MemoryCurve(
        name, row["GBps"] * 1e9, floor_s if own is None else own * 1e-6, _provenance(row)
    )


def _power(data: Mapping[str, Any] | None) -> PowerModel | None:
    if data is None:
        return None
    return PowerModel(
        data["limit_w"]["value"],
        data["idle_w"]["value"],
        data["pJ_per_byte"]["value"] * 1e-12,
        data["exponent"]["value"],
        data["busy_w"]["value"],
    )


def _tiled(row: Mapping[str, Any]) -> TiledCurve:
    return TiledCurve(
        row["dtype"],
        row["variant"],
        tuple((int(m), int(n)) for m, n in (text.split("x") for text in row["tiles"].split())),
        tuple(int(text) for text in str(row["splits"]).split()),
        row["result_bytes"],
        row["launch_us"] * 1e-6,
        row["split_us"] * 1e-6,
        row["start_us"] * 1e-6,
        row["multiply_fs"] * 1e-15,
        row["load_fs"] * 1e-15,
        row["store_fs"] * 1e-15,
        row["GBps"] * 1e9,
        row["sm_GBps"] * 1e9,
        row["pJ_per_flop"] * 1e-12,
        row["shares"] == "fixed",
        _provenance(row),
        row["lost_sms"],
        row["tail_rounds"],
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
        tiled={
            key: replace(
                curve,
                start_s=curve.start_s / compute(curve.dtype),
                multiply_s=curve.multiply_s / compute(curve.dtype),
                load_s=curve.load_s / compute(curve.dtype),
                bandwidth=curve.bandwidth * bandwidth,
                sm_bandwidth=curve.sm_bandwidth * bandwidth * per_sm,
                provenance=note(curve.provenance),
            )
            for key, curve in base.tiled.items()
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
