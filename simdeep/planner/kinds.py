"""Kinds of units: what a model's stages are made of, as counts.

Layers of the same sort cost the same, so a stage is a count of each kind: embedding, dense layers,
MoE layers, MTP modules and heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.program.lower.units import Unit, stage_units
from simdeep.program.remember import remembered
from simdeep.spec.layout import StageSpec
from simdeep.spec.model import Model

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Kinds:
    """`units[k]` is the first unit of kind k; `of` says the kind of each unit."""

    model: Model
    units: tuple[Unit, ...]
    index: dict[object, int]

    def of(self, unit: Unit) -> int:
        """The kind of a unit."""
        return self.index[_sort(self.model, unit)]

    def counts(self, stages: tuple[StageSpec, ...]) -> F64:
        """[stages, kinds] units of each stage."""
        found = np.zeros((len(stages), len(self.units)))
        for row, stage in enumerate(stages):
            for unit in stage_units(self.model, stage):
                found[row, self.of(unit)] += 1
        return found


@remembered(maxsize=16)
def kinds_of(model: Model, mtp: bool) -> Kinds:
    """The kinds of a model's units, with or without its MTP modules."""
    whole = StageSpec(0, tuple(range(model.n_layers)), True, True, mtp and model.mtp_layers > 0)
    first: dict[object, Unit] = {}
    for unit in stage_units(model, whole):
        first.setdefault(_sort(model, unit), unit)
    return Kinds(model, tuple(first.values()), {key: i for i, key in enumerate(first)})


def _sort(model: Model, unit: Unit) -> object:
    if unit.component != "layer":
        return unit.component
    return (model.layers + model.mtp)[unit.layer].ffn
