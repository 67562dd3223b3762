"""What simdeep says of a run: seconds of an iteration and peak memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simdeep import api
from simdeep.analysis.memory import memory
from simdeep.autoschedule.chunks import chunk_costs
from simdeep.cost.memory import static_memory
from simdeep.cost.program import price_program
from simdeep.engine.timeline import Timeline
from simdeep.errors import InputError
from simdeep.program.columns import Kind
from simdeep.program.lower.train import lower
from simdeep.program.search import Placement
from simdeep.published.build import Build, CannotExpressError, build, load_build
from simdeep.published.cases import Case
from simdeep.published.rates import SEARCHED, bubble_rate, searched
from simdeep.spec.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds and bytes predicted for a run, or the `reason` why there is none.

    `rate` is the bubble rate of a schedule calculation. `unstated` has what was taken for fields
    the source leaves open, `recompute` what is repeated. `fits` is whether memory suffices.
    """

    id: str
    reason: str | None = None
    seconds: float | None = None
    peak_bytes: float | None = None
    fits: bool | None = None
    rate: float | None = None
    stated: bool = False
    schedule_known: bool = False
    recompute: tuple[str, ...] = ()
    unstated: tuple[tuple[str, str], ...] = ()
    scenario: str | None = None


def predict(
    case: Case, folder: Path | None = None, changes: Mapping[str, Any] | None = None
) -> Prediction:
    """Predict one run; what cannot be said or simulated comes back with its reason.

    `folder` keeps the scenario's files, which `simdeep run` also takes. `changes` are keys of the
    scenario's `train` and its `calibration`, for fitting.
    """
    try:
        if case.is_rate:
            return Prediction(case.id, rate=bubble_rate(case), stated=True, schedule_known=True)
        if case.scope == "single layer":
            raise CannotExpressError("one layer alone, without a step around it")
        made = build(case)
        for key, value in (changes or {}).items():
            (made.scenario if key == "calibration" else made.scenario["train"])[key] = value
        if folder is not None:
            return _predicted(made, folder)
        with tempfile.TemporaryDirectory() as temporary:
            return _predicted(made, Path(temporary))
    except CannotExpressError as error:
        return Prediction(case.id, reason=str(error))
    except InputError as error:
        return Prediction(case.id, reason="; ".join(p.message for p in error.problems))


def _predicted(made: Build, folder: Path) -> Prediction:
    for index, recompute in enumerate(made.ladder):
        scenario = load_build(made, folder, recompute)
        seconds, peak, fits = simulated(scenario, SEARCHED.get(str(made.case.schedule), 0))
        if fits or index == len(made.ladder) - 1:
            break
    unstated = made.unstated
    if len(made.ladder) > 1:
        unstated = {**unstated, "recompute": "least that fits: " + (", ".join(recompute) or "none")}
    return Prediction(
        id=made.case.id,
        seconds=seconds,
        peak_bytes=peak,
        fits=fits,
        stated=made.stated,
        schedule_known=made.schedule_known,
        recompute=recompute,
        unstated=tuple(unstated.items()),
        scenario=f"{made.case.id}.scenario.yaml",
    )


def simulated(scenario: Scenario, search: int = 0) -> tuple[float, float, bool]:
    """Seconds of a step, peak bytes of the fullest GPU, and whether that fits.

    With `search`, the order is searched within that multiple of 1F1B's activations. Where the
    optimizer waits for no other rank, steps follow each other without a flush and one takes the
    longest span of a rank.
    """
    machine = api.machine_of(scenario)
    if search:
        pp, microbatches = scenario.layout.pp, scenario.microbatches
        costs = chunk_costs(scenario, machine, Placement.one_stage(pp, microbatches)).costs
        table = searched(pp, microbatches, costs, search).table
    else:
        table = api.schedule_table(scenario)
    lowered = lower(scenario, table)
    priced = price_program(lowered.program, machine, api.jitter_of(scenario, machine))
    timeline = api.run_engine(scenario.simulate.engine, priced)
    static = static_memory(scenario, lowered)
    held = memory(timeline, static.parts, machine.gpu.hbm_bytes / 2**30)
    took = timeline.makespan_ns
    if scenario.train.optimizer_sync == "late":
        took = _longest_span(timeline)
    return took / 1e9, float(np.max(held.peak)), held.fits


def _longest_span(timeline: Timeline) -> int:
    """From the first start to the last end of a rank's own tasks, ns; the longest of all ranks."""
    program = timeline.program
    first = np.full(program.n_ranks, np.iinfo(np.int64).max)
    last = np.zeros(program.n_ranks, np.int64)
    computes = program.kind == Kind.COMPUTE
    np.minimum.at(first, program.rank[computes], timeline.start_ns[computes])
    np.maximum.at(last, program.rank[computes], timeline.end_ns[computes])
    return int((last - first).max())
