"""What `simdeep size` chooses from: the `size:` section of a serving scenario."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from simdeep.spec.scenario_schema import Section
from simdeep.spec.scenario_types import Degree


def _as_tuple(value: object) -> object:
    """A list of a file, or one value, as the tuple that frozen fields hold."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, int | float | str) else value


Degrees: TypeAlias = Annotated[tuple[Degree, ...], BeforeValidator(_as_tuple)]
Counts: TypeAlias = Annotated[
    tuple[Annotated[int, Field(ge=0, le=1 << 16)], ...], BeforeValidator(_as_tuple)
]
Factors: TypeAlias = Annotated[
    tuple[Annotated[float, Field(ge=1, le=16)], ...], BeforeValidator(_as_tuple)
]
Ways: TypeAlias = Annotated[
    tuple[Literal["disaggregated", "mixed"], ...], BeforeValidator(_as_tuple)
]


class SizeSpace(Section):
    """Values that sizing tries; what the scenario's own units have is always tried too."""

    serving: Ways = Field(
        default=("disaggregated", "mixed"),
        description="prefill and decode units apart, or units that do both",
    )
    unit_gpus: Degrees = Field(
        default=(1, 2, 4, 8, 16, 32, 64, 128), description="GPUs of a unit (tp*dp)"
    )
    tp: Degrees = Field(
        default=(),
        description="tensor parallel degrees; by default 1, 2, 4, 8 in a dense model, 1 and 4 with "
        "experts",
    )
    ep: Degrees = Field(default=(), description="GPUs of experts, besides all GPUs of the unit")
    redundant: Counts = Field(
        default=(0, 32), description="replicas of experts, raised until they fill the GPUs evenly"
    )
    max_rows: Degrees = Field(
        default=(32, 64, 128, 256, 512), description="most sequences a DP rank decodes"
    )
    chunk_tokens: Degrees = Field(
        default=(2048, 8192),
        description="most new tokens of an iteration of a mixed unit (prefill units: the "
        "scenario's own, or 16384)",
    )
    mtp_tokens: Counts = Field(
        default=(0, 1), description="tokens drafted a step, where the model has the module"
    )
    microbatches: Annotated[tuple[Literal[1, 2], ...], BeforeValidator(_as_tuple)] = Field(
        default=(1, 2), description="micro-batches of decode units with experts"
    )
    spare: Factors = Field(
        default=(1.0, 1.25, 1.5, 2.0),
        description="units over the fewest that the estimate asks for: faster, and dearer",
    )
    simulations: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=12, description="most request simulations"
    )
    requests: Annotated[int, Field(ge=100, le=10_000_000)] = Field(
        default=3000, description="requests measured in a simulation, at least"
    )
