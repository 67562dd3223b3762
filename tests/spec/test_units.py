import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep import units
from simdeep.units import UnitError, parse_quantity


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("400 Gbit/s", "bandwidth", 50e9),
        ("50 GB/s", "bandwidth", 50e9),
        ("50GB/s", "bandwidth", 50e9),
        ("1 GiB/s", "bandwidth", 2**30),
        ("80 GiB", "capacity", 80 * 2**30),
        ("84.94e9 B", "capacity", 84.94e9),
        (" 3.33 us ", "time", 3.33e-6),
        ("2 h", "time", 7200.0),
        ("989 TFLOP/s", "compute", 989e12),
        ("2 USD/h", "price", 2.0),
        ("1.755 GHz", "frequency", 1.755e9),
        ("0 ns", "time", 0.0),
    ],
)
def test_reads_quantities_in_base_units(text, dimension, value):
    assert parse_quantity(text, dimension) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "dimension", "says"),
    [
        (400, "bandwidth", "has no unit"),
        ("400", "bandwidth", "has no unit"),
        ("50 GiB", "bandwidth", "that is a capacity"),
        ("50 Gb/s", "bandwidth", "GB/s"),
        ("50 gbit/s", "bandwidth", "'Gbit/s'"),
        ("-50 GB/s", "bandwidth", "zero or more"),
        ("nan GB/s", "bandwidth", "not a number"),
        ("inf GB/s", "bandwidth", "not a number"),
        ("1e400 GB/s", "bandwidth", "finite"),
        ("1e308 GB/s", "bandwidth", "finite"),
        ("fast", "bandwidth", "400 Gbit/s"),
        ("", "bandwidth", "not a number"),
        (None, "bandwidth", "is not a bandwidth"),
        (True, "capacity", "is not a capacity"),
        ("٣ GB/s", "bandwidth", "not a number"),
    ],
)
def test_refuses_what_is_no_quantity_and_says_why(text, dimension, says):
    with pytest.raises(UnitError, match=says):
        parse_quantity(text, dimension)


def test_zero_can_be_refused():
    with pytest.raises(UnitError, match="greater than zero"):
        parse_quantity("0 GB/s", "bandwidth", positive=True)


def test_examples_in_messages_are_valid():
    for dimension, example in units.EXAMPLES.items():
        assert parse_quantity(example, dimension) > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.fmt_time(0.1285), "128.5 ms"),
        (units.fmt_time(20.12), "20.12 s"),
        (units.fmt_time(3.7 * 86400), "3.7 d"),
        (units.fmt_time(0), "0 s"),
        (units.fmt_time(3e-9), "3 ns"),
        (units.fmt_bytes_gib(80 * 2**30), "80.00 GiB"),
        (units.fmt_bandwidth(50e9), "50 GB/s"),
        (units.fmt_compute(989.4e12), "989.4 TFLOP/s"),
        (units.fmt_compute(1979e12), "1979 TFLOP/s"),
        (units.fmt_count(671e9), "671B"),
        (units.fmt_count(14.8e12), "14.8T"),
        (units.fmt_count(0), "0"),
        (units.fmt_usd(12.5), "$12.50"),
        (units.fmt_usd(5.328e6), "$5.328M"),
        (units.fmt_share(0.419), "41.9%"),
    ],
)
def test_formats(text, expected):
    assert text == expected


positive = st.floats(min_value=1e-9, max_value=1e15)


@given(positive)
def test_formatted_times_and_bandwidths_read_back(value):
    seconds = parse_quantity(units.fmt_time(value, 12), "time")
    rate = parse_quantity(units.fmt_bandwidth(max(value, 1.0), 12), "bandwidth")
    assert math.isclose(seconds, value, rel_tol=1e-9)
    assert math.isclose(rate, max(value, 1.0), rel_tol=1e-9)


@given(st.text(max_size=30), st.sampled_from(sorted(units.UNITS)))
def test_any_text_is_a_finite_quantity_or_a_unit_error(text, dimension):
    try:
        value = parse_quantity(text, dimension)
    except UnitError:
        return
    assert math.isfinite(value)
    assert value >= 0
