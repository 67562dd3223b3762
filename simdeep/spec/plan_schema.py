"""The `plan:` section of a training scenario: which values `simdeep plan` may choose from."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from simdeep.spec.scenario_types import (
    Degree,
    Precision,
    Recompute,
    ScheduleField,
    Stages,
)


def _several(value: object) -> object:
    """One value stands for a list of one."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _policies(value: object) -> object:
    """Recomputation policies: each entry is a name or a list of names; one name is one entry."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _partitions(value: object) -> object:
    """`auto`, one list of layers for each stage, or a list of both."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, int) for v in value):
        return (tuple(value),)
    return _several(value)


Degrees: TypeAlias = Annotated[tuple[Degree, ...], BeforeValidator(_several), Field(min_length=1)]
_Zero: TypeAlias = Annotated[int, Field(ge=0, le=3)]
_Sms: TypeAlias = Annotated[int, Field(ge=0)]


class PlanFields(BaseModel):
    """Values the planner may choose from; a key left out gets every sensible value."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    gpus: Degrees | None = Field(default=None, description="GPUs to rent; the topology's")
    tp: Degrees | None = Field(
        default=None, description="tensor parallel degrees; powers of two within a node"
    )
    pp: Degrees | None = Field(
        default=None, description="pipeline parallel degrees; powers of two up to the layers"
    )
    vpp: Degrees | None = Field(
        default=None, description="stages a rank, where the schedule has a choice; 2 and 4"
    )
    cp: Degrees | None = Field(
        default=None,
        description="context parallel degrees; 1, and for sequences over 8,192 tokens up to 16",
    )
    ep: Degrees | None = Field(
        default=None, description="expert parallel degrees; powers of two that divide the experts"
    )
    zero: Annotated[tuple[_Zero, ...], BeforeValidator(_several), Field(min_length=1)] = Field(
        default=(0, 1, 2, 3), description="ZeRO levels"
    )
    mbs: Degrees = Field(default=(1, 2, 4), description="sequences of a micro-batch")
    schedule: Annotated[
        tuple[ScheduleField, ...], BeforeValidator(_several), Field(min_length=1)
    ] = Field(
        default=(
            "1f1b",
            "interleaved-1f1b",
            "interleaved-1f1b-overlap",
            "zb1p",
            "zb-h2",
            "zb-v",
            "dualpipe",
            "dualpipev",
        ),
        description="pipeline schedules; auto: an order searched for the best layouts, too",
    )
    recompute: (
        Annotated[tuple[Recompute, ...], BeforeValidator(_policies), Field(min_length=1)] | None
    ) = Field(
        default=None,
        description="recomputation policies, each a name or a list of names; none, selective, "
        "full and the scenario's own",
    )
    comm_sms: Annotated[tuple[_Sms, ...], BeforeValidator(_several), Field(min_length=1)] | None = (
        Field(default=None, description="SMs of all-to-all transfers; the scenario's, 16, 20, 24")
    )
    precision: (
        Annotated[tuple[Precision, ...], BeforeValidator(_several), Field(min_length=1)] | None
    ) = Field(default=None, description="formats of the GEMMs; the scenario's")
    stages: Annotated[tuple[Stages, ...], BeforeValidator(_partitions), Field(min_length=1)] = (
        Field(
            default=("auto",),
            description="layers of each stage: auto, balanced by FLOPs, or lists of numbers, each "
            "for layouts of as many stages",
        )
    )
    tp_within_node: bool = Field(
        default=True, description="tensor parallel groups stay within a node"
    )
    headroom_gib: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="GPU memory to leave free (GiB), against fragmentation"
    )
    simulations: Annotated[int, Field(ge=1)] = Field(
        default=800,
        description="most full simulations; a search cut short says what it leaves open",
    )
    keep: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=5, description="plans in the ranking that are proved to be the best ones"
    )


Objective: TypeAlias = Literal["time", "usd"]
"""What plans are ranked by: step time, or dollars for the same tokens."""
