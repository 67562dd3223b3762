"""A calibration file from measured rows, ready to be written.

What one device cannot show by itself (all-to-all between nodes, achieved shares of the fabric) is
taken from the reference calibration and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simdeep.calibrate.fit_attention import core_rows, fit_core
from simdeep.calibrate.fit_gemm import (
    HOPPER_SETS,
    GemmSet,
    fit_curve,
    joules_per_flop,
    left_out_errors,
    rows_of,
)
from simdeep.calibrate.fit_held import fit_held
from simdeep.calibrate.fit_memory import MemoryFit, fit_memory
from simdeep.calibrate.rows import Row
from simdeep.cost.calibration import REFERENCE
from simdeep.cost.power import PowerModel
from simdeep.cost.tiled import TiledCurve
from simdeep.spec.hardware import Gpu
from simdeep.spec.resources import find_resource
from simdeep.spec.yamlio import load_document

FORMAT = 2

IDLE_W = 110.0
"""Power of an H100 that holds its highest clock and does nothing; for rows without an idle one."""

PJ_PER_BYTE, EXPONENT = 20.0, 1.0
"""Energy of moving beside computing, and how joules a FLOP grow with the clock: where the errors of
an H100's left-out GEMMs are least (docs/calibration.md). Other GPUs take the same."""

H100 = "h100"

HEADS = ((192, 128), (128, 128), (64, 64), (192, 192))
"""Sizes of a head's keys and values that were measured."""

OWN_CURVES = {
    "kv_norm": ("norm", 512),
    "q_norm": ("norm", 1536),
    "kv_norm_bwd": ("norm_bwd", 512),
    "q_norm_bwd": ("norm_bwd", 1536),
    "input_norm_bwd": ("add_norm_bwd", 7168),
    "post_norm_bwd": ("add_norm_bwd", 7168),
    "k_rope_widen": ("widen", 128),
    "k_nope_copy": ("copy", 128),
    "k_grad_copy": ("copy", 128),
    "v_grad_copy": ("copy", 128),
    "k_rope_grad_sum": ("sum_heads", 128),
    "rope_q": ("rope", 128),
    "rope_q_bwd": ("rope", 128),
    "route_weight_bwd": ("row_dot", 2048),
    "gate": ("gate", 256),
    "gate_bwd": ("gate_bwd", 256),
}
"""Kernels of the records with a curve of their own: the work and width it is measured on."""

LAUNCHES = {"norm_bwd": 3, "gate": 36, "gate_bwd": 31, "add_norm_bwd": 3, "row_map": 2}
"""Launches that the kernel records count for a class."""

CLASSES = {
    "adam": ("adam",),
    "attn_bwd_prepost": ("add",),
    "cast": ("cast",),
    "cast_transpose": ("cast_transpose",),
    "copy": ("copy",),
    "elementwise": ("add", "scale"),
    "embed": ("expand",),
    "gate": ("gate",),
    "loss": ("add",),
    "mapping": ("row_map",),
    "norm": ("norm", "add_norm"),
    "norm_bwd": ("norm_bwd", "add_norm_bwd"),
    "other": ("add", "copy", "norm", "swiglu"),
    "permute": ("expand",),
    "rope": ("rope",),
    "scales": ("add",),
    "swiglu": ("swiglu",),
    "swiglu_bwd": ("swiglu_bwd",),
    "transpose": ("transpose",),
    "unpermute": ("reduce",),
}
"""Classes of memory-bound kernels and the work each is measured on."""

GUESSED = {
    "attn_bwd_prepost": "not timed apart from the core; as a streaming sum of two arrays",
    "loss": "not timed; as a streaming sum of two arrays",
    "embed": "not timed; as rows gathered for experts",
    "scales": "not timed; as a streaming sum of two arrays",
    "other": "for a class that is not listed: several classes together",
}


def calibration_of_gpu(
    rows: Sequence[Row], gpu: Gpu, device: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """Everything a calibration file holds, from the rows of one GPU.

    Args:
        rows: as `simdeep.calibrate.measure` writes them.
        gpu: the GPU file they belong to.
        device: what they were measured on (`describe_device`).
        source: where the rows are kept, for the entries' sources.
    """
    gap_s = next(r.us for r in rows if r.group == "gap") * 1e-6
    power = PowerModel(
        float(device["power_limit_w"]),
        idle_watts(rows),
        PJ_PER_BYTE * 1e-12,
        EXPONENT,
        busy_watts(rows),
    )
    base = reference_data()
    memory = memory_part(rows, gap_s, source)
    around = memory["variants"]["attn_bwd_prepost"]["GBps"] * 1e9
    return {
        "format": FORMAT,
        "gpu": gpu.id,
        "device": dict(device),
        "reference": {
            "sms": gpu.sms,
            "hbm_GBps": gpu.hbm_bw / 1e9,
            "peak_tflops": {dtype: peak / 1e12 for dtype, peak in gpu.peak.items()},
        },
        "power": power_part(rows, power, gpu.id, source),
        "launch_gap_us": {
            "value": gap_s * 1e6,
            "kind": "measured",
            "source": f"{source}: chain of kernels that do nothing in a CUDA graph, time of each",
            "rows": 1,
        },
        "drag": drag_part(rows, base, source),
        "kernel_cv": borrowed(base["kernel_cv"]),
        "gemm": gemm_part(rows, power, gap_s, gpu.sms, source),
        "gemm_stream_GBps": stream_part(base, gpu),
        "attention": attention_part(rows, power, gap_s, gpu.sms, around, source),
        "memory": memory,
        "alltoall": {
            "sms": base["alltoall"]["sms"],
            "draw_reference_GBps": borrowed(base["alltoall"]["draw_reference_GBps"]),
            "kinds": {k: borrowed(v) for k, v in base["alltoall"]["kinds"].items()},
        },
        "collective": borrowed(base["collective"]),
    }


def reference_data() -> Any:
    """The reference calibration's file."""
    return load_document(Path(find_resource("calibration", REFERENCE))).data


def borrowed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the reference calibration, marked as such."""
    return {**entry, "kind": "guess", "source": f"taken from {REFERENCE}: {entry['source']}"}


def stream_part(base: Mapping[str, Any], gpu: Gpu) -> dict[str, Any]:
    """The reference's bandwidth of GEMMs that HBM bounds, by the ratio of the datasheets."""
    entry = borrowed(base["gemm_stream_GBps"])
    ratio = gpu.hbm_bw / 1e9 / base["reference"]["hbm_GBps"]
    return entry if ratio == 1.0 else {**entry, "value": entry["value"] * ratio}


def errors_of(errors: Any) -> dict[str, float]:
    """Median, 90th percentile and largest of some relative errors."""
    size = np.abs(errors)
    return {
        "median_error": float(np.median(size)),
        "p90_error": float(np.quantile(size, 0.9)),
        "max_error": float(size.max()),
    }


def spread_of(rows: Sequence[Row]) -> float:
    """Median of (slowest - fastest) / median reading."""
    return float(np.median([(r.high_us - r.low_us) / r.us for r in rows]))


def idle_watts(rows: Sequence[Row]) -> float:
    """Power with nothing running, the clock still at its highest."""
    return next((float(r.watts) for r in rows if r.group == "idle" and r.watts), IDLE_W)


def busy_watts(rows: Sequence[Row]) -> float:
    """Power of computing that does not come from FLOPs, at the highest clock.

    From clock and power read while SMs were held, by least squares: (power less idle) over the
    clock's share of the highest = busy + joules a FLOP of the kernel x FLOP/s. Held SMs change the
    FLOP/s of the same kernel.
    """
    some = [r for r in rows if r.group == "held" and r.flops and r.mhz]
    some = [r for r in some if r.name != "flash" and not r.beside.startswith("copy")]
    if not some:
        return 0.0
    highest = max(r.mhz for r in rows)
    keys = [(r.dtype, r.variant, r.m, r.n, r.qk_dim) for r in some]
    kinds = sorted(set(keys))
    idle_w = idle_watts(rows)
    terms = np.zeros((len(some), 1 + len(kinds)))
    terms[:, 0] = 1.0
    for i, (r, key) in enumerate(zip(some, keys, strict=True)):
        terms[i, 1 + kinds.index(key)] = r.flops / r.us * 1e-6
    drawn = np.array([(r.watts - idle_w) / (r.mhz / highest) ** EXPONENT for r in some])
    return max(0.0, float(np.linalg.lstsq(terms, drawn, rcond=None)[0][0]))


def power_part(rows: Sequence[Row], power: PowerModel, gpu_id: str, source: str) -> dict[str, Any]:
    """Power limit and what draws how much."""
    busy = [r.watts for r in rows if r.group == "memory" and r.us > 50 and r.watts]
    own = gpu_id == H100
    fitted = {
        "kind": "measured" if own else "guess",
        "source": f"{source if own else 'as on an H100'}: least left-out error of GEMMs",
    }
    return {
        "limit_w": {"value": power.limit_w, "kind": "measured", "source": "reported by the driver"},
        "idle_w": {
            "value": power.idle_w,
            "kind": "measured",
            "source": "reported by the driver at the highest clock with nothing running",
        },
        "busy_w": {
            "value": power.busy_w,
            "kind": "measured",
            "source": f"{source}: clock and power of kernels beside 0 to 68 held SMs",
            "rows": sum(r.group == "held" for r in rows),
        },
        "pJ_per_byte": {"value": PJ_PER_BYTE, **fitted},
        "exponent": {"value": EXPONENT, **fitted},
        "memory_w": {
            "value": float(np.median(busy)),
            "kind": "measured",
            "source": f"{source}: power while memory-bound kernels of over 50 us run, median",
            "rows": len(busy),
        },
    }


def gemm_part(
    rows: Sequence[Row], power: PowerModel, gap_s: float, sms: int, source: str
) -> list[dict[str, Any]]:
    """All GEMM curves, with what held SMs cost them."""
    curves = {
        s.curve: fit_curve(s, rows_of(s, rows), power, gap_s, sms)
        for s in HOPPER_SETS
        if rows_of(s, rows)
    }
    lost, tail, misses = fit_held(rows, curves, power, gap_s)
    entries = []
    for chosen in HOPPER_SETS:
        if chosen.curve in curves:
            entry = gemm_entry(
                chosen, curves[chosen.curve], rows_of(chosen, rows), power, gap_s, sms, source
            )
            entry["lost_sms"] = 0.0 if chosen.curve[0] == "fp8_row" else lost
            entry["tail_rounds"] = tail
            entry["held_median_error"] = float(np.median(np.abs(misses))) if misses else 0.0
            entries.append(entry)
    return entries


def gemm_entry(
    chosen: GemmSet,
    curve: TiledCurve,
    mine: Sequence[Row],
    power: PowerModel,
    gap_s: float,
    sms: int,
    source: str,
) -> dict[str, Any]:
    """One GEMM curve with its errors on layers left out."""
    errors = left_out_errors(
        mine, lambda some: fit_curve(chosen, some, power, gap_s, sms), power, gap_s, sms
    )
    dtype, variant = chosen.curve
    return {
        "dtype": dtype,
        "variant": variant,
        "tiles": " ".join(f"{m}x{n}" for m, n in chosen.tiles),
        "splits": " ".join(map(str, chosen.splits)),
        "shares": "fixed" if chosen.fixed_share else "taken",
        "result_bytes": chosen.result_bytes,
        "launch_us": curve.launch_s * 1e6,
        "split_us": curve.split_s * 1e6,
        "start_us": curve.start_s * 1e6,
        "multiply_fs": curve.multiply_s * 1e15,
        "load_fs": curve.load_s * 1e15,
        "store_fs": curve.store_s * 1e15,
        "GBps": curve.bandwidth / 1e9,
        "sm_GBps": curve.sm_bandwidth / 1e9,
        "pJ_per_flop": joules_per_flop(mine, power) * 1e12,
        "kind": "measured",
        "source": f"{source}: {chosen.dtype} {', '.join(chosen.variants)}"
        + (", grouped" if chosen.grouped else ""),
        "rows": len(mine),
        "spread": spread_of(mine),
        **errors_of(errors),
    }


def attention_part(
    rows: Sequence[Row], power: PowerModel, gap_s: float, sms: int, around: float, source: str
) -> list[dict[str, Any]]:
    """Cores by direction and size of head; the plain entry is that of 128."""
    entries = []
    for variant in ("fwd", "bwd"):
        for qk_dim, v_dim in HEADS:
            mine = core_rows(rows, variant, qk_dim, v_dim)
            found = fit_core(mine, power, sms, around)
            entry = {
                "dtype": "bf16",
                "variant": f"{variant}:{qk_dim}x{v_dim}",
                "tflops_per_sm": found.flops_per_sm / 1e12,
                "tail_rows": found.tail_rows,
                "masked_keys": found.masked_keys,
                "launch_us": max(0.0, found.launch_s - gap_s) * 1e6,
                "pJ_per_flop": found.joules_per_flop * 1e12,
                "kind": "measured",
                "source": f"{source}: cuDNN's causal core, heads of {qk_dim} and {v_dim}",
                "rows": len(mine),
                "spread": spread_of(mine),
                **errors_of(found.errors),
            }
            entries.append(entry)
            if (qk_dim, v_dim) == (128, 128):
                entries.append({**entry, "variant": variant})
    return entries


def memory_part(rows: Sequence[Row], gap_s: float, source: str) -> dict[str, Any]:
    """Memory-bound classes, and kernels with a curve of their own."""
    mine = [r for r in rows if r.group == "memory"]

    def entry(names: Sequence[str], width: int = 0) -> dict[str, Any]:
        some = [r for r in mine if r.name in names and (not width or r.n == width)]
        found = fit_memory(some, LAUNCHES.get(names[0], 1), gap_s)
        return memory_entry(found, some, f"{source}: {', '.join(names)}")

    names = {r.name for r in mine}
    variants = {
        name: entry(works) for name, works in CLASSES.items() if any(w in names for w in works)
    }
    for name, why in GUESSED.items():
        variants.get(name, {}).update(kind="guess", source=why)
    small = [r.us - gap_s * 1e6 for r in mine if r.bytes < 1.5e6 and r.name in ("add", "scale")]
    return {
        "floor_us": {
            "value": float(np.median(small)) if small else 1.0,
            "kind": "measured",
            "source": f"{source}: streaming kernels that move under 1.5 MB",
            "rows": len(small),
        },
        "variants": variants,
        "kernels": {
            name: entry((work,), width)
            for name, (work, width) in OWN_CURVES.items()
            if any(r.name == work and r.n == width for r in mine)
        },
    }


def memory_entry(found: MemoryFit, rows: Sequence[Row], source: str) -> dict[str, Any]:
    """One class's entry."""
    return {
        "GBps": found.bandwidth / 1e9,
        "floor_us": found.floor_s * 1e6,
        "kind": "measured",
        "source": source,
        "rows": len(rows),
        "spread": spread_of(rows),
        **errors_of(found.errors),
    }


def drag_part(rows: Sequence[Row], base: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Slow-down beside a stand-in that also copies through HBM, over one that only holds SMs."""
    untold = [
        r for r in rows if r.group == "held" and r.held == 20 and r.sms + r.held > max_sms(rows)
    ]
    ratios: dict[str, list[float]] = {}
    for copying in (r for r in untold if r.beside.startswith("copy")):
        still = [r.us for r in untold if r.beside == "hold" and _same(r, copying)]
        if still:
            ratios.setdefault(_class(copying), []).append(copying.us / still[0] - 1.0)
    text = "20 CTAs that hold their SMs and copy 350 GB/s through HBM, over 20 that only hold; mean"
    return {
        name: {
            "value": max(0.0, float(np.mean(ratios[name]))),
            "kind": "measured",
            "source": f"{source}: {text}",
            "rows": len(ratios[name]),
            "spread": float(np.std(ratios[name])),
        }
        if name in ratios
        else borrowed(base["drag"][name])
        for name in ("gemm", "grouped_gemm", "memory", "attention")
    }


def max_sms(rows: Sequence[Row]) -> int:
    """SMs of the device."""
    return max(r.sms for r in rows)


def _class(row: Row) -> str:
    if row.qk_dim:
        return "attention"
    if row.bytes:
        return "memory"
    return "grouped_gemm" if row.groups > 1 else "gemm"


def _same(a: Row, b: Row) -> bool:
    keys = ("name", "dtype", "variant", "m", "n", "k", "groups", "kv_heads", "qk_dim", "v_dim")
    return all(getattr(a, k) == getattr(b, k) for k in keys)
