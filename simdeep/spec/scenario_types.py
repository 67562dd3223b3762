"""Types of scenario fields that have more than one written form, and how each is read."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from simdeep.spec.resources import nearest
from simdeep.spec.schedules import canonical_schedule
from simdeep.units import parse_quantity

Degree: TypeAlias = Annotated[int, Field(ge=1, le=1 << 20)]
Precision: TypeAlias = Literal[
    "bf16", "fp16", "fp8", "fp8-current", "fp8-delayed", "mxfp8", "nvfp4"
]
GEMM_DTYPE: dict[str, str] = {
    "fp8-current": "fp8",
    "fp8-delayed": "fp8",
    "mxfp8": "fp8",
    "nvfp4": "fp4",
}
"""Format of the tensor cores under a precision, where it is not the precision's own name."""
Fusion: TypeAlias = Literal["norm_residual", "wgrad_accumulate", "loss"]
Sending: TypeAlias = Literal["scattered", "awaited"]
StateDtype: TypeAlias = Literal["fp32", "bf16", "fp16", "fp8"]
ScheduleName: TypeAlias = Literal[
    "gpipe",
    "1f1b",
    "interleaved-1f1b",
    "interleaved-1f1b-overlap",
    "zb1p",
    "zb-h2",
    "interleaved-zb",
    "zb-v",
    "v-half",
    "v-min",
    "dualpipe",
    "dualpipev",
    "auto",
]
RecomputeOp: TypeAlias = Literal["norm", "mla_up", "swiglu", "products", "selective", "full"]

RECOMPUTE: tuple[str, ...] = get_args(RecomputeOp)

MAX_ZIPF = 5.0
"""Largest exponent of a Zipf law of experts' popularity."""


def _read_recompute(value: Any) -> tuple[str, ...]:
    """`none`, one name or a list of names, as a tuple in the order of declaration."""
    names = list(value) if isinstance(value, (list, tuple)) else [value]
    if names == ["none"]:
        return ()
    for name in names:
        if name not in RECOMPUTE:
            near = nearest(str(name), RECOMPUTE)
            hint = f"; did you mean {near}?" if near else ""
            raise ValueError(
                f"{name!r} cannot be recomputed; must be none or a list of "
                f"{', '.join(RECOMPUTE)}{hint}"
            )
    return tuple(op for op in RECOMPUTE if op in names)


def _read_schedule(value: Any) -> Any:
    """A schedule by any of its names, as the canonical one."""
    return canonical_schedule(value) or value if isinstance(value, str) else value


def _read_stages(value: Any) -> Any:
    """`auto`, or decoder layers per stage."""
    if value == "auto":
        return value
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"{value!r} is not 'auto' or a list of decoder layers per stage")
    for count in value:
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ValueError(f"{count!r} in the list is not a number of layers (0 or more)")
    return tuple(value)


def _read_skew(value: Any) -> Any:
    """A number, or `zipf:NUMBER`; `normal:NUMBER` is the number."""
    if not isinstance(value, str):
        return value
    kind, colon, text = value.rpartition(":")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if value == "uniform":
        return 0.0
    if not math.isfinite(number) or kind not in ("", "normal", "zipf") or (colon and not kind):
        raise ValueError(f"{value!r} is not a number, zipf:NUMBER or uniform")
    if kind != "zipf":
        return number
    if not 0 <= number <= MAX_ZIPF:
        raise ValueError(f"{value!r}: the exponent must be from 0 to {MAX_ZIPF:g}")
    return f"zipf:{number:g}"


def _read_price(value: Any) -> Any:
    return parse_quantity(value, "price") if isinstance(value, str) else value


ScheduleField: TypeAlias = Annotated[ScheduleName, BeforeValidator(_read_schedule)]
"""A schedule, also by its other names; `auto` searches one for the scenario's own costs."""

Stages: TypeAlias = Annotated[
    Literal["auto"] | tuple[int, ...],
    BeforeValidator(_read_stages),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "auto"},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            ]
        }
    ),
]
Skew: TypeAlias = Annotated[
    # Tagged, so that a wrong number is one problem and not one of each form.
    Annotated[float, Field(ge=0, le=10), Tag("number")] | Annotated[str, Tag("law")],
    Discriminator(lambda value: "law" if isinstance(value, str) else "number"),
    BeforeValidator(_read_skew),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 10},
                {"type": "string", "pattern": "^(uniform|(normal|zipf):[0-9.]+)$"},
            ]
        }
    ),
]
Recompute: TypeAlias = Annotated[
    tuple[RecomputeOp, ...],
    BeforeValidator(_read_recompute),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["none", *RECOMPUTE]},
                {"type": "array", "items": {"enum": list(RECOMPUTE)}},
            ]
        }
    ),
]
UsdPerHour: TypeAlias = Annotated[
    float,
    BeforeValidator(_read_price),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
]
