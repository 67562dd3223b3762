"""Candidates that share a pipeline, and what their stages are made of.

Bounds are matrix products over one group at a time: [candidates, kinds] @ [kinds, stages].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.planner.candidates import Candidates
from simdeep.planner.cuts import stages_of
from simdeep.planner.kinds import Kinds
from simdeep.planner.pipelines import Pipeline, pipeline_of
from simdeep.planner.prices import NAMES, UnitPrices
from simdeep.program.lower.units import stage_units

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

COMBO = ("cluster", "tp", "cp", "ep", "mbs", "precision", "recompute", "comm_sms")
"""What the price of a unit hangs on."""
_PIPE = ("cluster", "schedule", "pp", "vpp", "stages")


@dataclass(frozen=True, eq=False)
class PriceTable:
    """Unit prices of all combinations that candidates have: arrays [combinations, kinds]."""

    columns: dict[str, F64]
    of: I64

    @classmethod
    def join(cls, prices: Sequence[UnitPrices], of: I64) -> PriceTable:
        """A table from prices; `of` says the row of each candidate."""
        columns = {name: np.array([getattr(p, name) for p in prices]) for name in NAMES}
        return cls(columns, of)


@dataclass(frozen=True, eq=False)
class Group:
    """Candidates `rows` on one cluster under one schedule with the same stages.

    `counts` [stages, kinds] units of each stage, `repeats` those that follow one of their kind,
    `last` [stages] kind of the last one.
    """

    rows: I64
    scenario: Scenario
    schedule: str
    pp: int
    vpp: int
    pipeline: Pipeline
    counts: F64
    repeats: F64
    last: I64

    @property
    def share(self) -> F64:
        """[ranks, stages] share of the micro-batches."""
        if self.pipeline.share is not None:
            return self.pipeline.share
        return np.full((1, self.pp * self.vpp), 1.0 / self.pp)


def combinations(candidates: Candidates) -> tuple[I64, I64]:
    """The first candidate of each combination of `COMBO`, and the combination of each one."""
    keys = np.stack([candidates[key] for key in COMBO], axis=1)
    _, first, of = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, of.reshape(-1)


def groups(scenarios: Sequence[Scenario], candidates: Candidates, kinds: Kinds) -> Iterator[Group]:
    """Candidates by pipeline."""
    keys = np.stack([candidates[key] for key in _PIPE], axis=1)
    if not len(keys):
        return
    _, first, of = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(of.reshape(-1), kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(of.reshape(-1)))[:-1])
    for at, rows in zip(first.tolist(), parts, strict=True):
        scenario = scenarios[int(candidates["cluster"][at])]
        schedule = candidates.value("schedule", at)
        pp, vpp = candidates.value("pp", at), candidates.value("vpp", at)
        stages = stages_of(scenario, pp, vpp, candidates.value("stages", at))
        counts = kinds.counts(stages)
        runs, last = np.zeros_like(counts), np.zeros(len(stages), np.int64)
        for index, stage in enumerate(stages):
            found = [kinds.of(unit) for unit in stage_units(kinds.model, stage)]
            for before, kind in zip([-1, *found], found, strict=False):
                runs[index, kind] += before != kind
            last[index] = found[-1]
        pipeline = pipeline_of(schedule, pp, vpp)
        yield Group(rows, scenario, schedule, pp, vpp, pipeline, counts, counts - runs, last)
