"""The clock that a power limit leaves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.cost.power import Parts, PowerModel, blend, settled_clock

MODEL = PowerModel(700.0, 100.0, 2e-11, 1.0, 200.0)


def work(sm, mem, joules):
    one = np.ones(1)
    return Parts(sm * one, mem * one, 0 * one, joules * one, 0 * one)


def test_under_the_limit_nothing_slows():
    assert settled_clock(work(1.0, 0.0, 300.0), MODEL) == 1.0


@given(st.floats(450.0, 2000.0))
def test_closed_form(joules):
    """All computing, exponent 1: the clock c solves joules c + busy = (limit - idle) / c."""
    clock = float(settled_clock(work(1.0, 0.0, joules), MODEL))
    expected = (-200.0 + np.sqrt(200.0**2 + 4 * joules * 600.0)) / (2 * joules)
    assert clock == pytest.approx(max(0.3, min(1.0, expected)), rel=1e-4)


@given(st.floats(0.0, 10.0), st.floats(0.0, 10.0))
def test_blend_is_between_the_larger_and_the_sum(a, b):
    both = float(blend(np.array(a), np.array(b)))
    assert max(a, b) - 1e-9 <= both <= a + b + 1e-9


def test_more_energy_never_runs_faster():
    clocks = [float(settled_clock(work(1.0, 0.5, j), MODEL)) for j in (100, 500, 900, 1500)]
    assert clocks == sorted(clocks, reverse=True)
