"""What must hold on the half of the runs that nothing was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from simdeep.published.score import Scored, by_family, median_kendall, score

RATES: Final = ("zero-bubble-rates", "zero-bubble-v-rates")
HOPPER_ON: Final = ("h100", "h200", "h800", "b200")
BLACKWELL: Final = "b200"


@dataclass(frozen=True, slots=True)
class Check:
    """One target: its words, the limit, what was found (None: no such runs), whether it holds."""

    name: str
    limit: float
    found: float | None
    holds: bool


def checks(runs: Sequence[Scored]) -> tuple[Check, ...]:
    """Every target, over the runs of the test half among `runs`."""
    test = [run for run in runs if run.case.half == "test"]
    steps = [run for run in test if run.quantity == "iteration_s"]
    rates = [run for run in test if run.case.family in RATES]
    kendall = median_kendall(by_family(test).values())
    return (
        _most("bubble rate: largest difference", 0.005, score(rates).worst),
        _most(
            "stated layout and precision: MAPE", 0.08, _mape(steps, lambda r: r.prediction.stated)
        ),
        _most(
            "H100, H800 and B200, known schedule: MAPE",
            0.05,
            _mape(steps, lambda r: r.prediction.schedule_known and _gpu(r) in HOPPER_ON),
        ),
        _most("vTrain: MAPE", 0.10, _mape(steps, lambda r: r.case.family == "vtrain")),
        _most("SimuMax: MAPE", 0.05, _mape(steps, lambda r: r.case.family == "simumax")),
        _most(
            "SimuMax: MAPE of peak memory",
            0.02,
            score(run for run in test if run.case.family == "simumax").memory_mape,
        ),
        Check(
            "Kendall's tau of the median family, at least",
            0.9,
            kendall,
            kendall is None or kendall >= 0.9,
        ),
        _most("peak memory: MAPE", 0.08, score(test).memory_mape),
    )


def _mape(runs: Sequence[Scored], wanted: Callable[[Scored], bool]) -> float | None:
    return score(run for run in runs if wanted(run)).mape


def _gpu(run: Scored) -> str:
    from simdeep.published.clusters import gpu_of

    return (gpu_of(run.case) or "").split("-")[0]


def _most(name: str, limit: float, found: float | None) -> Check:
    return Check(name, limit, found, found is None or found <= limit)
