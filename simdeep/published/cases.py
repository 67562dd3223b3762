"""Published runs: what a file says of each, checked, and the seconds it took.

A run is one object of a JSON list: its model's sizes, hardware, layout, schedule, precision and
what was measured. A field that is null is one the source does not state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from simdeep.errors import InputError, Problem

Half = Literal["fit", "test"]

SHIPPED: Final = Path(__file__).resolve().parent.parent / "data" / "published" / "runs.json"
"""The runs shipped with simdeep; their sources are in each and in `SOURCES.md`."""

FAMILIES: Final[tuple[tuple[str, str], ...]] = (
    ("megatron-sc21-t2", "megatron-sc21-t2"),
    ("megatron-sc21", "megatron-sc21"),
    ("korthikanti", "korthikanti"),
    ("mcore08", "mcore"),
    ("nemo2407", "nemo"),
    ("mbridge", "megatron-bridge"),
    ("megascale", "megascale"),
    ("torchtitan", "torchtitan"),
    ("mosaic-h100", "mosaic-h100"),
    ("mosaic-a100", "mosaic-a100"),
    ("zb-bubble", "zero-bubble-rates"),
    ("zbv-bubble", "zero-bubble-v-rates"),
    ("zbv", "zero-bubble-v"),
    ("zb", "zero-bubble"),
    ("simumax", "simumax"),
    ("vtrain", "vtrain"),
)
"""Prefix of a run's id, and the family it belongs to; the first that fits counts."""

_REQUIRED: Final = ("id", "source", "hardware", "gpus", "model", "seq_len", "measured")
_SCALE: Final = {"ms": 1e-3, "s": 1.0}
_BYTES: Final = dict.fromkeys(("GB", "GiB", "GiB allocated"), 2.0**30)
"""All peaks are PyTorch's counters. The one source that has them in "GB" prints them so, divided by
1024 three times (sail-sg/zero-bubble-pipeline-parallelism@39f2c186,
megatron/core/pipeline_parallel/schedules.py)."""


@dataclass(frozen=True, slots=True)
class Case:
    """One published run. `None` is a field its source leaves open.

    `measured` maps a quantity to its (value, unit) and `derived_s` is the iteration time that the
    file derives from a throughput. `model` are the sizes as the file names them.
    """

    id: str
    family: str
    half: Half
    source: str
    hardware: str
    gpus: int
    gpus_per_node: int
    model: Mapping[str, Any]
    seq_len: int
    micro_batch: int | None
    global_batch: int | None
    tp: int | None
    pp: int | None
    ep: int | None
    cp: int | None
    dp: int | None
    vpp: int | None
    schedule: str | None
    recompute: str | None
    precision: str | None
    sequence_parallel: bool | None
    grad_accum: int | None
    kind: str | None
    notes: str
    scope: str | None
    profiled: Mapping[str, float] | None
    measured: Mapping[str, tuple[float, str]]
    derived_s: float | None

    @property
    def is_rate(self) -> bool:
        """Whether it is a bubble rate calculated from a schedule."""
        return "bubble_rate" in self.measured

    @property
    def measured_s(self) -> float | None:
        """Seconds of one iteration, as measured or as the throughput has them; None: neither."""
        if "iter_time" in self.measured:
            value, unit = self.measured["iter_time"]
            return value * _SCALE[unit]
        if self.derived_s is not None:
            return self.derived_s
        return _from_tokens(self) or _from_flops(self)

    @property
    def measured_bytes(self) -> float | None:
        """Peak memory of a GPU, bytes."""
        if "peak_mem" not in self.measured:
            return None
        value, unit = self.measured["peak_mem"]
        return value * _BYTES[unit]


def half_of(case_id: str) -> Half:
    """The half a run belongs to, by its id alone: fitting sees only the first."""
    even = hashlib.sha256(case_id.encode()).digest()[-1] % 2 == 0
    return "fit" if even else "test"


def family_of(case_id: str) -> str:
    """The family a run belongs to; an unknown one is named by the first word of the id."""
    found = (family for prefix, family in FAMILIES if case_id.startswith(prefix))
    return next(found, case_id.split("-", 1)[0])


def load_cases(path: Path | None = None) -> tuple[Case, ...]:
    """Read a file of published runs (default: the shipped one).

    Raises:
        InputError: with every entry that cannot be read.
    """
    place = SHIPPED if path is None else path
    try:
        data = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError([Problem(str(place), "", f"cannot read: {reason}")]) from error
    if not isinstance(data, list):
        raise InputError([Problem(str(place), "", "must be a JSON list of runs")])
    problems = [*_problems(data, str(place))]
    if problems:
        raise InputError(problems)
    return tuple(_case(entry) for entry in data)


def _problems(data: list[Any], place: str) -> Iterable[Problem]:
    seen: set[str] = set()
    for index, entry in enumerate(data):
        if not isinstance(entry, dict):
            yield Problem(place, f"[{index}]", f"is {entry!r}; must be an object with keys")
            continue
        name = f"[{index}]" + (f" {entry['id']}" if "id" in entry else "")
        missing = [key for key in _REQUIRED if entry.get(key) is None]
        if missing:
            yield Problem(place, name, f"lacks {', '.join(missing)}")
            continue
        if entry["id"] in seen:
            yield Problem(place, name, "has the id of an earlier run; ids must differ")
        seen.add(entry["id"])
        yield from _field_problems(entry, place, name)


def _field_problems(entry: dict[str, Any], place: str, name: str) -> Iterable[Problem]:
    for key in ("gpus", "seq_len", "micro_batch", "global_batch", "tp", "pp", "ep", "cp", "vpp"):
        value = entry.get(key)
        if value is not None and (
            not isinstance(value, int) or isinstance(value, bool) or value < 1
        ):
            yield Problem(place, f"{name} {key}", f"is {value!r}; must be a whole number from 1 on")
    if not isinstance(entry["model"], dict):
        yield Problem(place, f"{name} model", "must be an object with sizes")
    if not isinstance(entry["measured"], dict):
        yield Problem(place, f"{name} measured", "must be an object of quantities")
        return
    for key, item in entry["measured"].items():
        fine = isinstance(item, dict) and isinstance(item.get("value"), (int, float))
        if not fine or not item["value"] > 0 or not isinstance(item.get("unit"), str):
            yield Problem(place, f"{name} measured.{key}", "must have a value above 0 and its unit")
            continue
        units = {"iter_time": _SCALE, "peak_mem": _BYTES}.get(key)
        if units is not None and item["unit"] not in units:
            yield Problem(
                place,
                f"{name} measured.{key}",
                f"unit {item['unit']!r}; must be one of {', '.join(units)}",
            )


def _case(entry: Mapping[str, Any]) -> Case:
    profiled = {
        key: value for key, value in (entry.get("profiled") or {}).items() if key.startswith("T_")
    }
    optional = (
        *("micro_batch", "global_batch", "tp", "pp", "ep", "cp", "dp", "vpp", "schedule"),
        *("recompute", "precision", "sequence_parallel", "grad_accum", "kind", "scope"),
    )
    return Case(
        id=entry["id"],
        family=family_of(entry["id"]),
        half=half_of(entry["id"]),
        source=entry["source"],
        hardware=entry["hardware"],
        gpus=entry["gpus"],
        gpus_per_node=entry.get("gpus_per_node") or 8,
        model=entry["model"],
        seq_len=entry["seq_len"],
        notes=entry.get("notes") or "",
        profiled=profiled or None,
        measured={key: (m["value"], m["unit"]) for key, m in entry["measured"].items()},
        derived_s=(entry.get("derived") or {}).get("iter_time_s"),
        **{key: entry.get(key) for key in optional},
    )


def _from_tokens(case: Case) -> float | None:
    if "tokens_per_s_gpu" not in case.measured or case.global_batch is None:
        return None
    rate = case.measured["tokens_per_s_gpu"][0] * case.gpus
    return case.global_batch * case.seq_len / rate


def _from_flops(case: Case) -> float | None:
    """From a rate in FLOP/s by the formula its source uses, for plain GPT models.

    Without recomputation 72 B s L h^2 (1 + s/6h + V/12Lh), with it 96 and V/16Lh (arXiv 2104.04473
    sec 5.1).
    """
    counted = {"tflops_hw": (96, 16), "tflops_model": (72, 12)}
    key = next((key for key in counted if key in case.measured), None)
    model = case.model
    if case.global_batch is None or not model.get("vocab"):
        return None
    if key is not None:
        rate = case.measured[key][0] * 1e12
    elif "mfu" in case.measured and case.hardware.startswith("H100"):
        key, rate = "tflops_model", case.measured["mfu"][0] / 100 * 989e12
    else:
        return None
    factor, per_vocab = counted[key]
    layers, hidden = model["layers"], model["hidden"]
    shape = 1 + case.seq_len / (6 * hidden) + model["vocab"] / (per_vocab * layers * hidden)
    flops = factor * case.global_batch * case.seq_len * layers * hidden**2 * shape
    return float(flops / (rate * case.gpus))
