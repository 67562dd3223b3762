"""Targets that hold on the test half, for the families that are cheap enough to predict here.

All of them, and those that are missed, are in docs/accuracy.md.
"""

import pytest

from simdeep.published.cases import load_cases
from simdeep.published.predict import predict
from simdeep.published.score import score, scored
from simdeep.published.targets import RATES, checks


def predicted(*families):
    return [
        scored(case, predict(case))
        for case in load_cases()
        if case.half == "test" and case.family in families
    ]


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("vtrain", {"vTrain: MAPE"}),
        ("simumax", {"SimuMax: MAPE", "SimuMax: MAPE of peak memory"}),
        ("zero-bubble-v-rates", {"bubble rate: largest difference"}),
    ],
)
def test_targets_of_a_family_hold(family, names):
    found = {check.name: check for check in checks(predicted(family))}
    for name in names:
        assert found[name].found is not None
        assert found[name].holds, found[name]


def test_peaks_of_torchtitan_and_simumax():
    assert score(predicted("torchtitan", "simumax")).memory_mape < 0.08


def test_no_peak_is_beyond_the_gpu_of_a_run_that_ran():
    runs = predicted("torchtitan", "simumax", "mosaic-h100")
    assert runs
    assert all(run.prediction.fits for run in runs)


def test_rates_are_judged_by_their_largest_difference():
    assert RATES == ("zero-bubble-rates", "zero-bubble-v-rates")
