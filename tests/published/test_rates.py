"""Published bubble rates: orders replayed and searched with the times of the paper's profiles."""

import pytest

from simdeep.published.cases import load_cases
from simdeep.published.rates import bubble_rate

SMALL = [
    case
    for case in load_cases()
    if case.family == "zero-bubble-rates" and case.gpus == 8 and "1.5B-m64" not in case.id
]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.id)
def test_rates_of_the_zero_bubble_paper(case):
    assert bubble_rate(case) == pytest.approx(case.measured["bubble_rate"][0], abs=0.005)
