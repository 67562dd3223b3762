"""GPUs: what a datasheet states, what was measured, what is guessed, and which of them is used.

A GPU file gives each fact as up to three figures, each with its source. The figure used is the
measured one, else the guess (the usable value where nothing was measured), else the datasheet's;
`Gpu.sources` says which. Achieved fractions of a peak are calibration, not hardware.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from simdeep.errors import InputError, Problem
from simdeep.spec.changes import NO_CHANGES, SOURCE, Changes, described
from simdeep.spec.resources import catalogue, find_resource
from simdeep.spec.validate import Reporter, Source, check_fields, set_value
from simdeep.spec.yamlio import Document, KeyPath, load_document
from simdeep.units import EXAMPLES, Dimension, parse_quantity


def quantity(dimension: Dimension, *, positive: bool = True) -> tuple[Any, Any]:
    """Annotations of a field written as a quantity with its unit, held in the SI base unit."""

    def read(value: object) -> float:
        return parse_quantity(value, dimension, positive=positive)

    schema = {"type": "string", "description": dimension, "examples": [EXAMPLES[dimension]]}
    return BeforeValidator(read), WithJsonSchema(schema)


Bandwidth = Annotated[float, *quantity("bandwidth")]
Capacity = Annotated[float, *quantity("capacity")]
Compute = Annotated[float, *quantity("compute")]
Latency = Annotated[float, *quantity("time", positive=False)]
Count = Annotated[int, Field(ge=1, le=1 << 24)]

T = TypeVar("T")


class FileSection(BaseModel):
    """Base of the sections of hardware files: frozen, no unknown keys, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Figure(FileSection, Generic[T]):
    """One value and where it comes from."""

    value: T = Field(description="the value with its unit")
    source: str = Field(min_length=1, description="document, section or file it is from")


class Fact(FileSection, Generic[T]):
    """What is known of one property of a GPU."""

    datasheet: Figure[T] | None = Field(default=None, description="the vendor's figure")
    measured: Figure[T] | None = Field(default=None, description="what a measurement found")
    guess: Figure[T] | None = Field(
        default=None, description="usable value where nothing was measured"
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Fact[T]:
        if not (self.datasheet or self.measured or self.guess):
            raise ValueError("needs at least one of datasheet, measured and guess")
        return self

    def best(self) -> tuple[T, str]:
        """The value to use, and `kind: source`."""
        kind, figure = next(
            (kind, figure)
            for kind, figure in (
                ("measured", self.measured),
                ("guess", self.guess),
                ("datasheet", self.datasheet),
            )
            if figure is not None
        )
        return figure.value, f"{kind}: {figure.source}"


def _fact(description: str, example: Any) -> Any:
    """A required fact; the example stands in for a wrong one while other problems are sought."""
    figure = {"value": example, "source": "datasheet"}
    return Field(description=description, examples=[{"datasheet": figure}])


class PeakFacts(FileSection):
    """Dense peaks by dtype; fp32 is on CUDA cores, the others on tensor cores."""

    fp4: Fact[Compute] | None = Field(default=None, description="dense FP4 peak")
    fp8: Fact[Compute] | None = Field(default=None, description="dense FP8 peak")
    fp16: Fact[Compute] | None = Field(default=None, description="dense FP16 peak")
    bf16: Fact[Compute] = _fact("dense BF16 peak", "989 TFLOP/s")
    tf32: Fact[Compute] | None = Field(default=None, description="dense TF32 peak")
    fp32: Fact[Compute] = _fact("FP32 peak of the CUDA cores", "67 TFLOP/s")


class GpuFile(FileSection):
    """A GPU file, field by field."""

    name: str = Field(min_length=1, description="full product name", examples=["GPU"])
    calibration: str | None = Field(
        default=None, description="calibration data measured on this GPU"
    )
    sms: Fact[Count] = _fact("streaming multiprocessors", 132)
    hbm_capacity: Fact[Capacity] = _fact("device memory a job sees", "80 GiB")
    hbm_bandwidth: Fact[Bandwidth] = _fact("device memory bandwidth", "3.35 TB/s")
    l2_capacity: Fact[Capacity] = _fact("L2 cache", "50 MiB")
    nvlink: Fact[Bandwidth] = _fact("NVLink of one GPU, one direction", "450 GB/s")
    pcie: Fact[Bandwidth] | None = Field(default=None, description="PCIe of one GPU, one direction")
    host_link: Fact[Bandwidth] = _fact("GPU to host memory, one direction", "64 GB/s")
    nvls: Fact[bool] | None = Field(
        default=None, description="the NVLink switch reduces and multicasts (NVLink SHARP)"
    )
    peak: PeakFacts = Field(
        description="dense peaks by dtype",
        examples=[
            {
                dtype: {"datasheet": {"value": "1 TFLOP/s", "source": "datasheet"}}
                for dtype in ("bf16", "fp32")
            }
        ],
    )


@dataclass(frozen=True)
class Gpu:
    """One GPU type in SI base units: B, B/s, FLOP/s; links per GPU and direction.

    `nvlink_bw` is the usable figure if there is one, `nvlink_peak_bw` the datasheet's. `peak` is
    dense by dtype; `sources` has `kind: source` of every figure used. `nvls`: the NVLink switch
    reduces and multicasts.
    """

    id: str
    name: str
    sms: int
    hbm_bytes: float
    hbm_bw: float
    l2_bytes: float
    nvlink_bw: float
    nvlink_peak_bw: float
    pcie_bw: float | None
    host_link_bw: float
    peak: Mapping[str, float]
    calibration: str | None
    sources: Mapping[str, str]
    nvls: bool = False


def gpu_catalogue() -> tuple[str, ...]:
    """Names of the shipped GPUs."""
    return tuple(catalogue("gpus"))


def load_gpu(
    name_or_path: str | Path, base: Path | None = None, changes: Changes = NO_CHANGES
) -> Gpu:
    """A shipped GPU by name, or one from a file (relative to `base`).

    A changed GPU has another `id`: what was calibrated on the original is scaled to it.
    """
    path = find_resource("gpus", name_or_path, base)
    document = load_document(path)
    report: Reporter = Reporter(Source(document))
    data = mapping_of(document)
    for key, value in changes.items():
        if problem := set_value(data, key, _as_fact(key, value)):
            report.add(key, problem)
    file = check_fields(GpuFile, data, report)
    if report.problems:
        raise InputError(report.problems)
    facts: dict[str, Fact[Any] | None] = {
        "sms": file.sms,
        "hbm_bytes": file.hbm_capacity,
        "hbm_bw": file.hbm_bandwidth,
        "l2_bytes": file.l2_capacity,
        "nvlink_bw": file.nvlink,
        "pcie_bw": file.pcie,
        "host_link_bw": file.host_link,
        "nvls": file.nvls,
    }
    peaks: dict[str, Fact[Any] | None] = {k: getattr(file.peak, k) for k in PeakFacts.model_fields}
    best = {key: fact.best() if fact else (None, "") for key, fact in facts.items()}
    peak = {dtype: fact.best() for dtype, fact in peaks.items() if fact}
    sources = {key: source for key, (_, source) in best.items() if source}
    sources |= {f"peak.{dtype}": source for dtype, (_, source) in peak.items()}
    values: dict[str, Any] = {key: value for key, (value, _) in best.items()}
    values["nvls"] = bool(values["nvls"])
    sheet = file.nvlink.datasheet
    return Gpu(
        id=described(path.stem, changes),
        name=described(file.name, changes),
        nvlink_peak_bw=sheet.value if sheet else values["nvlink_bw"],
        peak={dtype: value for dtype, (value, _) in peak.items()},
        calibration=file.calibration,
        sources=sources,
        **values,
    )


def _as_fact(key: KeyPath, value: Any) -> Any:
    """A plain value as what is known of a property: a guess, in place of all that was known."""
    if key[0] in ("name", "calibration") or key[-1] in ("value", "source"):
        return value
    return {"guess": {"value": value, "source": SOURCE}}


def mapping_of(document: Document) -> dict[str, Any]:
    """The top level of a document, which must hold keys."""
    if not isinstance(document.data, dict):
        raise InputError([Problem(document.place(()), "", "must hold keys and values at its top")])
    return document.data
