"""Arrivals, lengths and traces."""

import json

import numpy as np
import pandas as pd
import pytest

from simdeep.errors import InputError
from simdeep.serving.requests import LengthLaw, arrival_times, read_trace
from simdeep.serving.requests.lengths import mean_context


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("burstiness", [1.0, 4.0])
def test_arrivals_have_their_rate_and_burstiness(burstiness):
    times = arrival_times(50.0, 4000.0, rng(), burstiness=burstiness)
    gaps = np.diff(times) / 1e9
    assert (gaps >= 0).all()
    assert len(times) == pytest.approx(200_000, rel=0.02)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(burstiness, rel=0.05)


def test_arrivals_follow_the_hours():
    times = arrival_times(10.0, 3 * 3600.0, rng(), by_hour=[1.0, 0.0, 3.0]) / 1e9
    counts = np.histogram(times, [0, 3600, 7200, 10800])[0]
    assert counts[1] == 0
    assert counts[2] / counts[0] == pytest.approx(3.0, rel=0.05)
    assert len(times) == pytest.approx(108_000, rel=0.02)


@pytest.mark.parametrize(("rate", "duration"), [(0, 10), (-1, 10), (1, 0)])
def test_negative_rates_are_refused(rate, duration):
    with pytest.raises(InputError, match="greater than zero"):
        arrival_times(rate, duration, rng())


@pytest.mark.parametrize(("mean", "cv", "most"), [(1080, 1, 17_000), (300, 2, 1000), (50, 0, 100)])
def test_lengths_keep_their_mean_within_their_cut(mean, cv, most):
    drawn = LengthLaw(mean, cv, most).draw(400_000, rng())
    assert drawn.mean() == pytest.approx(mean, rel=0.01)
    assert drawn.min() >= 1
    assert drawn.max() <= most


def test_lengths_that_cannot_have_their_mean_are_refused():
    with pytest.raises(InputError, match="mean"):
        LengthLaw(1000, 1, 1000).draw(10, rng())


def test_deepseeks_lengths_follow_from_the_published_mean_kv():
    # 608e9 input and 168e9 output tokens, mean KV 4,989 = output (608/168 + (1 + cv^2) / 2).
    output = 4989 / (608 / 168 + 1.0)
    assert output == pytest.approx(1080, abs=1)
    inputs = LengthLaw(output * 608 / 168, 1, 10**6).draw(500_000, rng(1))
    outputs = LengthLaw(output, 1, 10**6).draw(500_000, rng(2))
    assert mean_context(inputs, outputs) == pytest.approx(4989, rel=0.01)


GOOD = {"time_s": [5.0, 5.5, 7.0], "input_tokens": [10, 20, 30], "output_tokens": [1, 2, 3]}


def written(folder, columns, suffix=".csv"):
    path = folder / f"trace{suffix}"
    frame = pd.DataFrame(columns)
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_traces_of_each_format_read_the_same(tmp_path, suffix):
    path = written(tmp_path, GOOD | {"prefix_hash": ["a", "b", "a"]}, suffix)
    trace = read_trace(path, 100)
    assert trace.time_s.tolist() == [0.0, 0.5, 2.0]
    assert trace.input_tokens.tolist() == [10, 20, 30]
    assert trace.prefix.tolist() == [0, 1, 0]
    assert trace.prefix_tokens.tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_s": [0, 2, 1]}, r"trace.csv:4: time_s: is 1; goes back in time; sort the rows"),
        ({"time_s": [0, "x", 1]}, r":3: time_s: is x; must be seconds"),
        ({"input_tokens": [0, 1, 1]}, r":2: input_tokens: is 0; must be a whole number"),
        ({"output_tokens": [1, 1.5, 1]}, r":3: output_tokens: is 1.5; must be a whole number"),
        ({"input_tokens": [1, 99, 1]}, r":3: input and output are 101 tokens .* context is 100"),
        ({"prefix_tokens": [11, 1, 1]}, r":2: prefix_tokens: is 11; .* up to input_tokens"),
    ],
)
def test_bad_traces_say_line_and_rule(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_trace(written(tmp_path, GOOD | change), 100)


def test_all_problems_of_a_trace_come_at_once_but_not_endlessly(tmp_path):
    n = 50
    columns = {"time_s": range(n), "input_tokens": [-1] * n, "output_tokens": [0] * n}
    with pytest.raises(InputError) as error:
        read_trace(written(tmp_path, columns), 100)
    assert len(error.value.problems) == 11
    assert "and 90 more" in str(error.value)


def test_an_empty_trace_is_refused(tmp_path):
    path = tmp_path / "empty.csv"
    for text in ("", "time_s,input_tokens,output_tokens\n"):
        path.write_text(text)
        with pytest.raises(InputError, match="is empty"):
            read_trace(path, 100)


def test_missing_columns_and_formats_are_named(tmp_path):
    with pytest.raises(InputError, match="has no column output_tokens"):
        read_trace(written(tmp_path, {"time_s": [0], "input_tokens": [1]}), 100)
    with pytest.raises(InputError, match=r"must end in \.csv, \.jsonl, \.parquet"):
        read_trace(tmp_path / "trace.txt", 100)
