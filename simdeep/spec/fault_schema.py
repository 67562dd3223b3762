"""`faults:` and `reliability:` of a scenario: what is slow, broken or lost, and how often.

Defaults of `reliability` are published figures where there are any; each says which.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from simdeep.spec.hardware import Bandwidth, FileSection

Index = Annotated[int, Field(ge=0, lt=1 << 24)]

ELEMENTS = ("gpu", "nic", "nvlink", "node")
"""What a fault can be of; each entry names one of them."""

_CHANGES = {
    "gpu": ("speed",),
    "nic": ("bandwidth", "down"),
    "nvlink": ("bandwidth",),
    "node": ("lost",),
}
_EXAMPLES = {
    "gpu": "{gpu: 5, speed: 0.8}",
    "nic": "{nic: 5, bandwidth: '25 GB/s'} or {nic: 5, down: true}",
    "nvlink": "{nvlink: 5, bandwidth: '80 GB/s'}",
    "node": "{node: 3, lost: true}",
}

LLAMA_3_GPU_HOURS_PER_FAILURE = 54 * 24 * 16_384 / 419
"""419 unexpected interruptions in 54 days on 16,384 H100s (arXiv 2407.21783, section 3.3.4)."""


class Fault(FileSection):
    """One thing that is wrong: a GPU, NIC, NVLink port or node, and what is wrong with it."""

    gpu: Index | None = Field(default=None, description="number of the GPU that is slow")
    nic: Index | None = Field(default=None, description="number of the GPU whose NIC it is")
    nvlink: Index | None = Field(default=None, description="number of the GPU whose NVLink it is")
    node: Index | None = Field(default=None, description="number of the node that is lost")
    speed: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="gpu: share of its normal clock"
    )
    bandwidth: Bandwidth | None = Field(
        default=None, description="nic, nvlink: what is left of it, one direction"
    )
    down: bool = Field(
        default=False,
        description="nic: its link is dead; the traffic goes over NVLink to a peer's NIC",
    )
    lost: bool = Field(
        default=False, description="node: it fails; the job restarts from its last checkpoint"
    )

    @property
    def element(self) -> tuple[str, int]:
        """What the fault is of, and its number."""
        return next(
            (name, number) for name in ELEMENTS if (number := getattr(self, name)) is not None
        )

    @model_validator(mode="after")
    def _one_thing(self) -> Fault:
        named = [name for name in ELEMENTS if getattr(self, name) is not None]
        if len(named) != 1:
            what = "names none of" if not named else f"names {' and '.join(named)}; give one of"
            raise ValueError(f"{what} {', '.join(ELEMENTS)}, as in {_EXAMPLES['gpu']}")
        said = [
            k
            for k in ("speed", "bandwidth", "down", "lost")
            if getattr(self, k) not in (None, False)
        ]
        fitting = _CHANGES[named[0]]
        if len(said) != 1 or said[0] not in fitting:
            raise ValueError(f"must say what is wrong with the {named[0]}: {_EXAMPLES[named[0]]}")
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only what was said, in a form that reads back."""
        plain = {k: v for k, v in handler(self).items() if v not in (None, False)}
        if self.bandwidth is not None:
            plain["bandwidth"] = f"{self.bandwidth!r} B/s"
        return plain


class Reliability(FileSection):
    """How often the cluster fails and what a failure costs: effective training time."""

    mtbf_per_gpu_hours: Annotated[float, Field(gt=0)] = Field(
        default=LLAMA_3_GPU_HOURS_PER_FAILURE,
        description="GPU-hours for each failure that stops the job; default: 419 interruptions in "
        "54 days on 16,384 H100s (Llama 3 405B, arXiv 2407.21783, section 3.3.4)",
    )
    restart_s: Annotated[float, Field(ge=0)] = Field(
        default=600.0,
        description="seconds from a failure until training goes on: detection, diagnosis, spare "
        "nodes, loading; default: 10 minutes (MegaScale, arXiv 2402.15627, section 6.3, says "
        "less than that for detection and diagnosis)",
    )
    checkpoint_s: Annotated[float, Field(gt=0)] = Field(
        default=10.0,
        description="seconds that training stands still for a checkpoint; default: a guess for "
        "state copied to host memory and written out beside training",
    )
    checkpoint_interval_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="seconds of training between checkpoints; default: the optimum (Daly 2006)",
    )
    checkpoint_interval_steps: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="the same in training steps"
    )
    days: Annotated[float, Field(gt=0, le=3650)] = Field(
        default=30.0, description="length of each simulated run, days"
    )
    trials: Annotated[int, Field(ge=10, le=1_000_000)] = Field(
        default=1000, description="simulated runs (Monte Carlo)"
    )

    @model_validator(mode="after")
    def _one_interval(self) -> Reliability:
        if self.checkpoint_interval_s is not None and self.checkpoint_interval_steps is not None:
            raise ValueError("give checkpoint_interval_s or checkpoint_interval_steps, not both")
        return self
