"""How much more some experts are liked than others: the skew of synthetic affinities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from simdeep.errors import InputError
from simdeep.program.routing.kernels import F64

PopularityKind = Literal["normal", "zipf"]

MAX_VALUE = {"normal": 10.0, "zipf": 5.0}
"""Largest values: the odds of up to 32,767 experts then fit single precision."""


@dataclass(frozen=True, slots=True)
class Popularity:
    """The distribution of experts' popularity, drawn anew for each routing draw.

    The logit of expert e for a token is `log(popularity_e) + noise`.

    `normal`: the log is normal with standard deviation `value`, the noise is standard normal.
    `zipf`: the i-th most popular expert has popularity `i ** -value`, over the geometric mean of
    all, the order of experts is random, and the noise is standard Gumbel. Without groups a token's
    experts are then drawn one after the other, each in proportion to its popularity (the Gumbel
    top-k rule), so one expert a token gives Zipf's law itself; more cannot repeat, which flattens
    it.
    """

    kind: PopularityKind
    value: float

    def __post_init__(self) -> None:
        if self.kind not in MAX_VALUE:
            raise InputError(f"routing skew of kind {self.kind!r}: must be 'normal' or 'zipf'")
        if not 0 <= self.value <= MAX_VALUE[self.kind]:
            raise InputError(
                f"routing skew {self.value:g}: must be from 0 to {MAX_VALUE[self.kind]:g} "
                f"({self.kind})"
            )

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:.17g}"

    def odds(self, experts: int, rng: np.random.Generator) -> F64:
        """Popularity of each expert [experts] for one draw."""
        if self.kind == "normal":
            return np.exp(self.value * rng.standard_normal(experts))
        logs = -self.value * np.log(np.arange(1, experts + 1))
        return np.exp(rng.permutation(logs - logs.mean()))

    def noise(self, size: int, rng: np.random.Generator) -> F64:
        """Exponentials of the noise of logits, [size]."""
        if self.kind == "normal":
            values = rng.standard_normal(size)
            return np.exp(values, out=values)
        values = np.maximum(rng.standard_exponential(size), 1e-12)
        return np.divide(1.0, values, out=values)


def parse_popularity(text: str | float) -> Popularity:
    """`uniform`, a number (the normal kind), `normal:0.1` or `zipf:1.2`; `str()` reads back."""
    if text == "uniform":
        return Popularity("normal", 0.0)
    kind, colon, value = str(text).rpartition(":")
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if number != number or (colon and kind not in MAX_VALUE):
        raise InputError(
            f"routing skew {text!r}: must be 'uniform', a number, 'normal:NUMBER' or 'zipf:NUMBER'"
        )
    return Popularity("zipf" if kind == "zipf" else "normal", number)
