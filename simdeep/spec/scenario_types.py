"""Types of scenario fields that have more than one written form, and how each is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema

from simdeep.spec.resources import nearest
from simdeep.units import parse_quantity

Degree: TypeAlias = Annotated[int, Field(ge=1, le=1 << 20)]
Precision: TypeAlias = Literal["bf16", "fp8"]
StateDtype: TypeAlias = Literal["fp32", "bf16", "fp16", "fp8"]
RecomputeOp: TypeAlias = Literal["norm", "mla_up", "swiglu", "selective", "full"]

RECOMPUTE: tuple[str, ...] = get_args(RecomputeOp)


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


def _read_price(value: Any) -> Any:
    return parse_quantity(value, "price") if isinstance(value, str) else value


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
