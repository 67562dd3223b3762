"""Stages of a candidate: the partition that its `stages` means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simdeep.program.remember import remembered
from simdeep.spec.layout import StageSpec, auto_stages, stages_from_counts
from simdeep.spec.model import Model

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario


@remembered(maxsize=512)
def _auto(model: Model, pp: int, vpp: int, mtp: bool, seq_len: int) -> tuple[StageSpec, ...]:
    return auto_stages(model, pp, vpp, mtp=mtp, seq_len=seq_len)


def auto_stages_of(scenario: Scenario, pp: int, vpp: int) -> tuple[StageSpec, ...]:
    """The balanced partition, made once for each model and number of stages."""
    return _auto(scenario.model, pp, vpp, scenario.train.mtp, scenario.train.seq_len)


def stages_of(scenario: Scenario, pp: int, vpp: int, stages: object) -> tuple[StageSpec, ...]:
    """The stages that `layout.stages` means for pp*vpp of them."""
    if isinstance(stages, tuple):
        return stages_from_counts(stages, mtp=scenario.train.mtp)
    return auto_stages_of(scenario, pp, vpp)
