"""What --vary means, and what it refuses."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.sweep.axes import (
    Axis,
    count_points,
    merged,
    parse_axis,
    parse_shard,
    parse_vary,
    points,
)


def values(text):
    return parse_axis("k", text, "--vary").values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8,20", ("8", "20")),
        ("1f1b,dualpipe,1f1b", ("1f1b", "dualpipe")),
        ("0:40:5", ("0", "10", "20", "30", "40")),
        ("256:4096:5:log", ("256", "512", "1024", "2048", "4096")),
        ("1:8:8,13", ("1", "2", "3", "4", "5", "6", "7", "8", "13")),
        ("25 GB/s:100 GB/s:4", ("25 GB/s", "50 GB/s", "75 GB/s", "100 GB/s")),
        ("25:100:4", ("25", "50", "75", "100")),
        ("25:100GB/s:2", ("25 GB/s", "100 GB/s")),
        ("0:1:4", ("0", "0.333333333333", "0.666666666667", "1")),
        ("1e-3:1:4:log", ("0.001", "0.01", "0.1", "1")),
        ("7:7:1", ("7",)),
        ("-1:1:3", ("-1", "0", "1")),
        ("zipf:1.2,uniform", ("zipf:1.2", "uniform")),
        ("[norm,swiglu],full,none", ("[norm,swiglu]", "full", "none")),
        ("'a,b',c", ("'a,b'", "c")),
    ],
)
def test_values(text, expected):
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "has no values"),
        (" ", "has no values"),
        ("1,,2", "an empty value"),
        ("1:5:0", "empty range"),
        ("1:5:-3", "empty range"),
        ("5:1:3", "empty range"),
        ("1:5:1", "1 value(s) do not go from 1 to 5"),
        ("5:5:3", "3 value(s) do not go from 5 to 5"),
        ("0:4:3:log", "above 0"),
        ("0:40", "from:to:count"),
        ("0:40:x", "from:to:count"),
        ("1:2:3:exp", "from:to:count"),
        ("1 GB/s:2 GiB:3", "same unit"),
        ("1:1e999:3", "finite"),
        ("1:2:999999999", "at most"),
    ],
)
def test_refused_values(text, part):
    with pytest.raises(InputError) as error:
        values(text)
    (problem,) = error.value.problems
    assert part in problem.message
    assert problem.place == "--vary"


@given(st.floats(0.01, 1e6), st.floats(1.001, 1e6), st.integers(2, 50), st.booleans())
def test_ranges_have_both_ends_and_equal_steps(low, factor, count, log):
    high = low * factor
    found = [float(v) for v in values(f"{low!r}:{high!r}:{count}" + (":log" if log else ""))]
    assert len(found) == count
    assert found[0] == pytest.approx(low, rel=1e-11)
    assert found[-1] == pytest.approx(high, rel=1e-11)
    if log:
        found = [math.log(v) for v in found]
    steps = [b - a for a, b in itertools.pairwise(found)]
    step = (found[-1] - found[0]) / (count - 1)
    assert steps == pytest.approx([step] * (count - 1), rel=1e-4, abs=1e-9 * abs(found[-1]))


def test_every_problem_of_the_flags_at_once():
    with pytest.raises(InputError) as error:
        parse_vary(["a=1:0:3", "b", "c=1,2", "c=3", "=4", "d="])
    messages = [p.message for p in error.value.problems]
    assert len(messages) == 5
    assert "varied twice" in messages[2]


def test_points_run_through_the_last_axis_first():
    axes = (Axis("a", ("1", "2")), Axis("b", ("x", "y")))
    found = [tuple(point.values()) for point in points(axes)]
    assert found == [("1", "x"), ("1", "y"), ("2", "x"), ("2", "y")]
    assert count_points(axes) == 4


def test_nothing_and_too_much_to_do():
    with pytest.raises(InputError, match="varies nothing"):
        count_points(())
    wide = tuple(str(i) for i in range(1000))
    with pytest.raises(InputError, match="1,000,000 points"):
        count_points((Axis("a", wide), Axis("b", wide)))


def test_flags_stand_before_the_scenarios_own_axes():
    own = (Axis("a", ("1",)), Axis("b", ("1",)), Axis("c", ("1",)))
    found = merged(own, (Axis("b", ("2", "3")), Axis("d", ("4",))), {"c": "9"})
    assert found == [Axis("a", ("1",)), Axis("b", ("2", "3")), Axis("d", ("4",))]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_shards_counted_from_nought_or_one_are_all_shards(count):
    from_one = {parse_shard(f"{i}/{count}") for i in range(1, count + 1)}
    from_nought = {parse_shard(f"{i}/{count}") for i in range(count)}
    assert from_one == from_nought == {(i, count) for i in range(count)}
    assert parse_shard(None) == (0, 1)


@pytest.mark.parametrize("text", ["3", "a/b", "4/3", "1/0", "-1/3", "/", "1/2/3"])
def test_bad_shards(text):
    with pytest.raises(InputError, match="number/count"):
        parse_shard(text)
