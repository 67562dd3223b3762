"""Calibrations made from published kernel rates, for GPUs nobody here has measured.

GEMM and attention curves are fitted to the rows of a table of kernel times; what such a table does
not have (memory-bound kernels, collectives) is scaled from the reference calibration by datasheet
ratios. One factor a kernel class and GPU, fitted on the fit half of the published runs, says how
much faster or slower the class ran there than in the table (clocks, power, cooling).
`python -m simdeep.published.kernels` writes the files.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from simdeep.published.curves import fit_attention, fit_gemm, nonnegative

if TYPE_CHECKING:
    from simdeep.spec.hardware import Gpu


LEAST_ROWS: Final = 8
"""Grouped GEMMs that a table must have for a curve of their own."""

DATA: Final = Path(__file__).resolve().parent.parent / "data"
SIMUMAX: Final = "MooreThreads/SimuMax@4dcaae51 configs/system"


Factors = Mapping[str, float]
"""By kernel class: `gemm`, `wgrad` (beside `gemm`), `fp8`, `fp4`, `memory`, `softmax` (also
dropout), `routing` (gate and token maps), `alltoall`, `attention` and `attention.LIBRARY`; they
multiply times."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a calibration is made from.

    `table` has kernel times of the GPU; without one the GEMM and attention curves are the
    reference's, scaled. `tile` is the GEMM's output tile. `least_us` leaves shorter GEMMs out: a
    chip that throttles shows its lasting rate only in long ones.
    """

    name: str
    gpu: str
    text: str
    collective: Mapping[str, Any]
    table: str | None = None
    tile: tuple[int, int] = (128, 128)
    least_us: float = 0.0


def rows_of(table: str) -> list[dict[str, str]]:
    """The rows of a shipped table of kernel times."""
    with (DATA / "traces" / table).open(encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def fitted() -> dict[str, dict[str, float]]:
    """Factors by calibration and kernel class, as fitted."""
    from simdeep.spec.yamlio import load_document

    data: Any = load_document(DATA / "published" / "fitted.yaml").data
    return {name: {key: float(value) for key, value in part.items()} for name, part in data.items()}


def calibration(source: Source, factors: Factors) -> dict[str, Any]:
    """A calibration file's content."""
    from simdeep.spec.hardware import load_gpu
    from simdeep.spec.yamlio import load_document

    base: Any = load_document(DATA / "calibration" / "h800.yaml").data
    gpu = load_gpu(source.gpu)
    reference = base["reference"]
    ratio = gpu.hbm_bw / 1e9 / reference["hbm_GBps"]
    data = dict(base)
    data["gpu"] = source.gpu
    data["reference"] = {
        "sms": gpu.sms,
        "hbm_GBps": round(gpu.hbm_bw / 1e9, 3),
        "peak_tflops": {dtype: round(peak / 1e12, 3) for dtype, peak in gpu.peak.items()},
    }
    data["memory"] = _memory(base["memory"], ratio, factors)
    data["gemm_stream_GBps"] = {
        "value": round(base["gemm_stream_GBps"]["value"] * ratio, 1),
        "kind": "scaled",
        "source": "h800 by the ratio of HBM bandwidths",
    }
    if source.table is None:
        data["gemm"] = [_scaled_gemm(source, gpu, reference, row, factors) for row in base["gemm"]]
        data["attention"] = _scaled_attention(gpu, reference, base["attention"], factors)
    else:
        rows = rows_of(source.table)
        data["gemm"] = _gemm(source, gpu, rows, factors)
        data["attention"] = _attention(source, gpu.sms, rows, factors)
    data["collective"] = dict(source.collective)
    data["alltoall"] = _alltoall(base["alltoall"], factors.get("alltoall", 1.0))
    return data


def _alltoall(base: Any, factor: float) -> dict[str, Any]:
    """All-to-alls: the H800's were measured beside compute, on 20 SMs."""
    kinds = {
        name: {
            **{key: value for key, value in kind.items() if not key.endswith("_error")},
            "slowdown": round(kind["slowdown"] * factor, 4),
            "setup_us": round(kind["setup_us"] * factor, 2),
            "kind": "scaled",
            "source": f"h800, times {factor:.4g} fitted on the fit half; {kind['source']}",
        }
        for name, kind in base["kinds"].items()
    }
    return {**base, "kinds": kinds}


def _memory(base: Any, ratio: float, factors: Factors) -> dict[str, Any]:
    def entry(old: Any, factor: float) -> dict[str, Any]:
        text = f"h800 by HBM bandwidth ({ratio:.4g}), times {1 / factor:.4g} fitted on the fit half"
        return {
            "GBps": round(old["GBps"] * ratio / factor, 2),
            "kind": "scaled",
            "source": f"{text}; {old['source']}",
        }

    everywhere = factors["memory"]
    variants = {name: entry(old, everywhere) for name, old in base["variants"].items()}
    for name in ("gate", "mapping"):
        variants[name] = entry(base["variants"][name], factors.get("routing", everywhere))
    for name in ("softmax", "dropout"):
        streaming = base["variants"]["elementwise"]
        variants[name] = entry(streaming, factors.get("softmax", everywhere))
    return {
        "floor_us": dict(base["floor_us"]),
        "variants": variants,
        "kernels": {
            name: entry(old, factors.get("routing", everywhere) if name == "gate" else everywhere)
            for name, old in base["kernels"].items()
        },
    }


def _scaled_gemm(
    source: Source, gpu: Gpu, reference: Any, row: Any, factors: Factors
) -> dict[str, Any]:
    """The reference's curve by peak an SM, as `Calibration.on` has it, and the factor."""
    dtype = row["dtype"]
    an_sm = reference["peak_tflops"][dtype] / reference["sms"] * gpu.sms / gpu.peak[dtype] * 1e12
    factor = factors["gemm" if dtype == "bf16" else dtype]
    return {
        **{key: value for key, value in row.items() if not key.endswith("_error")},
        "prologue_us": round(row["prologue_us"] * factor, 4),
        "per_k_ns": round(row["per_k_ns"] * an_sm * factor, 4),
        "kind": "scaled",
        "source": f"{source.text}, times {factor:.4g} fitted on the fit half; {row['source']}",
    }


def _scaled_attention(
    gpu: Gpu, reference: Any, rows: Any, factors: Factors
) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        a_chip = gpu.peak["bf16"] / 1e12 / gpu.sms
        ratio = a_chip / (reference["peak_tflops"]["bf16"] / reference["sms"])
        for library in _libraries(factors):
            factor = factors[_key(library)]
            found.append(
                {
                    "dtype": row["dtype"],
                    "variant": f"{row['variant']}{library}",
                    "tflops_per_sm": round(row["tflops_per_sm"] * ratio / factor, 4),
                    "kind": "scaled",
                    "source": f"h800, times {factor:.4g} fitted on the fit half; {row['source']}",
                }
            )
    return found


def _libraries(factors: Factors) -> list[str]:
    """Suffixes of attention variants that have a factor: none, `:flash2`, `:flash1`."""
    return [s for s in ("", ":flash2", ":flash1") if _key(s) in factors]


def _key(library: str) -> str:
    return "attention" + library.replace(":", ".")


def _gemm(
    source: Source, gpu: Gpu, rows: list[dict[str, str]], factors: Factors
) -> list[dict[str, Any]]:
    found = []
    for variant in ("fwd", "dgrad", "wgrad"):
        used = [
            row
            for row in rows
            if row["op"] == "gemm"
            and row["variant"] == variant
            and float(row["latency_us"]) >= source.least_us
        ]
        (launch, prologue, per_k), errors = fit_gemm(used, gpu.sms, source.tile)
        text, factor = "", factors["gemm"]
        if variant == "wgrad":
            # The tables contract 4,096 tokens in nearly every weight gradient: prologue and time
            # a k cannot be told apart, and all is taken for time a k.
            k = float(np.median([float(row["k"]) for row in used]))
            per_k, prologue = per_k + prologue / k, 0.0
            text, factor = "; no prologue", factors["gemm"] * factors.get("wgrad", 1.0)
        entry = {
            "dtype": "bf16",
            "variant": variant,
            "tile_m": source.tile[0],
            "tile_n": source.tile[1],
            "launch_us": round(float(launch), 4),
            "prologue_us": round(float(prologue) * factor, 4),
            "per_k_ns": round(float(per_k) * factor * 1e3, 4),
            "kind": "published",
            "source": f"{source.text}{text}, times {factor:.4g} fitted on the fit half",
            "rows": len(used),
            "median_error": round(float(np.median(np.abs(errors))), 4),
            "max_error": round(float(np.abs(errors).max()), 4),
        }
        for each in (entry, _grouped(source, gpu, rows, variant, entry)):
            if each is not None:
                found.append(each)
                found += [
                    _narrow(gpu, each, dtype, factors)
                    for dtype in ("fp8", "fp4")
                    if dtype in gpu.peak
                ]
    return found


def _grouped(
    source: Source, gpu: Gpu, rows: list[dict[str, str]], variant: str, plain: dict[str, Any]
) -> dict[str, Any] | None:
    """A grouped GEMM's curve beside the plain one: what each of its launches adds.

    Transformer Engine runs one GEMM a group over a few streams. The time of a wave is the plain
    curve's; what is left is the time of a launch, and for weight gradients of a wave's epilogue.
    """
    used = [row for row in rows if row["op"] == "grouped_gemm" and row["variant"] == variant]
    if len(used) < LEAST_ROWS:
        return None
    m, n, k, groups, took = (
        np.array([float(row[c]) for row in used]) for c in ("m", "n", "k", "groups", "latency_us")
    )
    rounds = np.ceil(np.ceil(m / source.tile[0]) * np.ceil(n / source.tile[1]) / gpu.sms)
    per = groups if variant == "wgrad" else np.ones_like(took)
    launch, prologue, per_k = nonnegative(
        np.stack([groups, per * rounds, per * rounds * k], axis=1) / took[:, None]
    )
    slower = plain["per_k_ns"] * 1e-3 / per_k if per_k > 0 else 1.0
    return plain | {
        "variant": f"{variant}:grouped",
        "launch_us": round(float(launch * slower), 4),
        "prologue_us": round(float(prologue * slower), 4),
        "rows": len(used),
    }


def _narrow(gpu: Gpu, entry: dict[str, Any], dtype: str, factors: Factors) -> dict[str, Any]:
    """A narrower format's curve: the peaks' ratio, and its own factor beside BF16's."""
    ratio = gpu.peak[dtype] / gpu.peak["bf16"]
    factor = factors[dtype] / factors["gemm"]
    return {
        **{key: value for key, value in entry.items() if not key.endswith("_error")},
        "dtype": dtype,
        "per_k_ns": round(entry["per_k_ns"] / ratio * factor, 4),
        "kind": "scaled",
        "source": f"bf16 by the ratio of the peaks, times {factor:.4g} fitted on the fit half",
    }


def _attention(
    source: Source, sms: int, rows: list[dict[str, str]], factors: Factors
) -> list[dict[str, Any]]:
    found = []
    for variant in ("fwd", "bwd"):
        used = [row for row in rows if row["op"] == "attention" and row["variant"] == variant]
        rate, tail, errors = fit_attention(used, sms)
        for library in _libraries(factors):
            factor = factors[_key(library)]
            found.append(
                {
                    "dtype": "bf16",
                    "variant": f"{variant}{library}",
                    "tflops_per_sm": round(float(rate) / 1e12 / factor, 4),
                    "tail_rows": round(float(tail), 1),
                    "kind": "published",
                    "source": f"{source.text}, times {factor:.4g} fitted on the fit half",
                    "rows": len(used),
                    "median_error": round(float(np.median(np.abs(errors))), 4),
                    "max_error": round(float(np.abs(errors).max()), 4),
                }
            )
    return found


_AS_H800: Final = {
    "nic_fraction": 0.8,
    "nvl_fraction": 1,
    "kind": "published",
    "source": "as on H800: arXiv 2505.09343v2; the NVLink figure of the GPU file is usable",
}
_AS_B200: Final = {
    "nic_fraction": 0.8,
    "nvl_fraction": 0.85,
    "setup_us": 25.0,
    "kind": "published",
    "source": f"{SIMUMAX}/b200_bf16_ceperm.json: 606 to 668 GB/s of collectives on NVLink, 22 to "
    "26 us before the first byte",
}
SOURCES: Final[tuple[Source, ...]] = (
    Source(
        name="a100",
        gpu="a100-80g",
        text=f"{SIMUMAX}/a100_pcie.json: cuBLAS and FlashAttention-2 on an A100 PCIe",
        collective=_AS_H800,
        table="simumax_a100_pcie_kernels.csv",
    ),
    *(
        Source(name=name, gpu=gpu, text="the H800's", collective=_AS_H800)
        for name, gpu in (("h100-2023", "h100"), ("h100-96g", "h100-96g"))
    ),
    *(
        Source(
            name=name,
            gpu=name,
            text=f"{SIMUMAX}/b200_bf16_ceperm.json: cuBLAS and cuDNN on a B200",
            collective=_AS_B200,
            table="simumax_b200_kernels.csv",
            least_us=600.0,
        )
        for name in ("b200", "gb200", "gb300")
    ),
)


def write(folder: Path, factors: Mapping[str, Factors]) -> None:
    """Write the calibration files of these factors into a folder."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    for source in SOURCES:
        with (folder / f"{source.name}.yaml").open("w", encoding="utf-8") as file:
            file.write("# Made by `python -m simdeep.published.kernels`.\n")
            plain = json.loads(json.dumps(calibration(source, factors[source.name])))
            yaml.dump(plain, file)


if __name__ == "__main__":
    write(DATA / "calibration", fitted())
