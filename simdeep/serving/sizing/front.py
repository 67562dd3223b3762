"""Deployments made of priced units, judged by the estimate; and those nothing else beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.serving.deployment import Role
from simdeep.serving.sizing.estimate import Priced

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario


@dataclass(frozen=True, eq=False)
class Deployment:
    """Units of each role, what they shall serve, and what the estimate says.

    Latencies in seconds at the SLO's share; `usd_per_mtok` of input and output tokens together.
    """

    parts: Mapping[Role, Priced]
    units: Mapping[Role, int]
    rate: float
    ttft_s: float
    tpot_s: float
    usd_per_mtok: float

    @property
    def scenario(self) -> ServeScenario:
        """The scenario (and GPU type) of its units."""
        return next(iter(self.parts.values())).design.scenario

    @property
    def gpus(self) -> int:
        """GPUs of all units."""
        return sum(n * self.parts[role].design.gpus for role, n in self.units.items())

    @property
    def way(self) -> str:
        """How it serves: disaggregated or mixed."""
        return "mixed" if "mixed" in self.parts else "disaggregated"


def deploy(parts: Mapping[Role, Priced], units: Mapping[Role, int], rate: float) -> Deployment:
    """A deployment with its estimate."""
    found = {role: parts[role].latencies(n, rate) for role, n in units.items()}
    one = next(iter(parts.values()))
    gpus = sum(n * parts[role].design.gpus for role, n in units.items())
    return Deployment(
        parts=parts,
        units=units,
        rate=rate,
        ttft_s=max(ttft for ttft, _ in found.values()),
        tpot_s=max(tpot for _, tpot in found.values()),
        usd_per_mtok=usd_per_mtok(
            gpus, one.design.scenario.usd_per_gpu_hour, rate * one.demand.tokens
        ),
    )


def usd_per_mtok(gpus: float, usd_per_gpu_hour: float, tokens_per_s: float) -> float:
    """Dollars for a million tokens, input and output together."""
    return gpus * usd_per_gpu_hour / 3600 / tokens_per_s * 1e6


def not_beaten(values: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Indices of rows [n, criteria] that no other row beats: none as small in all, smaller in one.

    Of equal rows the first counts. They come in the order of the first criterion.
    """
    points = np.atleast_2d(np.asarray(values, float))
    order = np.lexsort(points.T[::-1])
    kept: list[int] = []
    for index in order:  # whatever beats a row comes before it in this order
        others = points[kept]
        if not len(others) or not (others <= points[index]).all(axis=1).any():
            kept.append(int(index))
    return np.array(kept, dtype=np.intp)


def front_of(found: Sequence[Deployment]) -> list[Deployment]:
    """The Pareto front of cost, TPOT and TTFT by the estimate, cheapest first."""
    if not found:
        return []
    points = [(d.usd_per_mtok, d.tpot_s, d.ttft_s) for d in found]
    return [found[i] for i in not_beaten(points)]
