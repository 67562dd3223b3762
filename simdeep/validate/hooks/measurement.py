"""What measuring a model gives: plain data, without torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from simdeep.program.routing import RoutingTrace
from simdeep.validate.hooks.device import Device


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds of one thing over some repeats: the median and the quartiles."""

    median_s: float
    low_s: float
    high_s: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Of at least one repeat."""
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0])
        low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(middle, low, high)


@dataclass(frozen=True, slots=True)
class Component:
    """One component of one layer, all its calls in a pass together.

    `f` is the forward, `i` the gradient of its inputs, `w` that of its parameters once the inputs'
    is there (split as torch's pipeline schedules split them), `b` the whole backward in one.
    `saved_bytes` are kept from forward to backward, each storage counted for the component that
    keeps it first, parameters not at all. `rows` are tokens in its calls.
    """

    layer: int | None
    """Number of the decoder layer; None outside the layers."""
    name: str
    """Path inside the layer, or inside the model: `attention`, `mlp.experts`, `embed`."""
    calls: int
    rows: int
    f: Spread
    i: Spread
    w: Spread
    b: Spread
    saved_bytes: int
    parameter_bytes: int

    @property
    def label(self) -> str:
        """The component's name with its layer."""
        return self.name if self.layer is None else f"{self.layer} {self.name}"


@dataclass(frozen=True)
class Measurement:
    """A model measured on a device with one batch.

    `whole_f` and `whole_b` are forward and backward of the model as it is, without hooks: what the
    components leave of them happens between components. `elsewhere_bytes` are kept for the backward
    by what is in no component.
    """

    model: str
    device: Device
    dtype: str
    batch: tuple[tuple[int, ...], ...]
    """Shapes of the batch's tensors."""
    repeats: int
    whole_f: Spread
    whole_b: Spread
    components: tuple[Component, ...]
    elsewhere_bytes: int
    parameter_bytes: int
    routing: RoutingTrace | None = field(default=None, compare=False)

    @property
    def saved_bytes(self) -> int:
        """Everything kept for the backward, parameters apart."""
        return self.elsewhere_bytes + sum(part.saved_bytes for part in self.components)

    @property
    def covered(self) -> tuple[float, float]:
        """Shares of the model's forward and backward that its components make up."""
        forward = sum(part.f.median_s for part in self.components)
        backward = sum(part.b.median_s for part in self.components)
        return forward / self.whole_f.median_s, backward / self.whole_b.median_s
