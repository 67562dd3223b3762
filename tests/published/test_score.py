"""Errors and rank correlation against hand-worked cases."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.published.cases import load_cases
from simdeep.published.predict import Prediction
from simdeep.published.score import by_family, kendall, median_kendall, score, scored
from simdeep.published.targets import checks

CASES = {case.id: case for case in load_cases()}


def run(name, seconds=None, **other):
    return scored(CASES[name], Prediction(name, seconds=seconds, **other))


def test_errors_by_hand():
    runs = [
        run("vtrain-3.6B-tp1-dp64-pp1-mb4", 3.6383 * 1.1),
        run("vtrain-3.6B-tp2-dp32-pp1-mb8", 3.9752 * 0.9),
        run("vtrain-3.6B-tp2-dp32-pp1-mb4", reason="why not"),
    ]
    found = score(runs)
    assert found.n == 2
    assert found.mape == pytest.approx(0.1)
    assert found.bias == pytest.approx(0.0, abs=1e-9)
    assert runs[2].reason == "why not"
    assert by_family(runs)["vtrain"] == found


def test_memory_is_scored_apart():
    one = run("torchtitan-8b-8-compile", 2.0, peak_bytes=77 * 2**30 * 1.5)
    assert one.memory_error == pytest.approx(0.5)
    assert score([one]).memory_n == 1


def test_bubble_rates_differ_by_differences():
    one = scored(
        CASES["zb-bubble-1.5B-m24-zb-1p"], Prediction("zb-bubble-1.5B-m24-zb-1p", rate=0.16)
    )
    assert one.error == pytest.approx(0.0015)


def test_kendall_by_hand():
    assert kendall([(1, 1), (2, 2), (3, 3)]) == 1
    assert kendall([(1, 3), (2, 2), (3, 1)]) == -1
    # 4 concordant, 1 discordant, one pair tied in x: 3 / sqrt(5 * 6).
    assert kendall([(1, 1), (1, 2), (2, 3), (3, 2.5)]) == pytest.approx(3 / 30**0.5)
    assert kendall([(1, 1)]) is None
    assert median_kendall([]) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=12))
def test_kendall_is_symmetric_and_bounded(pairs):
    found = kendall(pairs)
    turned = kendall([(y, x) for x, y in pairs])
    assert found == turned or found == pytest.approx(turned)
    if found is not None:
        assert -1 - 1e-9 <= found <= 1 + 1e-9
        assert kendall([(x, -y) for x, y in pairs]) == pytest.approx(-found)


def test_only_the_test_half_is_checked():
    names = [c.id for c in CASES.values() if c.family == "vtrain"]
    runs = [run(n, CASES[n].measured_s * (2.0 if CASES[n].half == "fit" else 1.0)) for n in names]
    found = {check.name: check for check in checks(runs)}
    assert found["vTrain: MAPE"].found == pytest.approx(0.0)
    assert found["vTrain: MAPE"].holds
    assert found["SimuMax: MAPE"].found is None
    doubled = [run(n, CASES[n].measured_s * 2) for n in names]
    assert not {check.name: check for check in checks(doubled)}["vTrain: MAPE"].holds
    assert list(itertools.chain(found)) == list(found)
