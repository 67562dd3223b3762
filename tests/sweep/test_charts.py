"""Charts of a sweep show what the table has."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.report.charts import save, sweep


@pytest.fixture
def table():
    records = [
        {
            "topology.nic.bandwidth": f"{bandwidth} GB/s",
            "train.schedule": schedule,
            "status": "does_not_fit" if (bandwidth, schedule) == (25, "b") else "fits",
            "step_time_s": 100 / bandwidth + len(schedule),
            "usd_per_ttoken": 1000.0 * bandwidth,
            "days_per_ttoken": 100 / bandwidth,
        }
        for bandwidth in (25, 50, 100)
        for schedule in ("a", "b")
    ]
    return pd.DataFrame.from_records(records)


def test_lines(table, tmp_path):
    ax = sweep.lines(table, "topology.nic.bandwidth", ["train.schedule"], "step_time_s", title="t")
    one, two = ax.get_lines()
    assert list(one.get_xdata()) == [25, 50, 100]
    assert list(one.get_ydata()) == [5, 3, 2]
    assert np.isnan(two.get_ydata()[0])
    assert ax.get_xlabel() == "topology.nic.bandwidth (GB/s)"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert one.get_marker() != two.get_marker()
    assert save(ax, tmp_path / "lines.png").stat().st_size > 10_000


def test_heat_map_crosses_out_what_does_not_fit(table, tmp_path):
    ax = sweep.heat_map(table, "topology.nic.bandwidth", "train.schedule", "step_time_s")
    (image,) = ax.get_images()
    found = image.get_array().filled(np.nan)
    assert found[0].tolist() == [5, 3, 2]
    assert np.isnan(found[1, 0])
    assert "×" in [text.get_text() for text in ax.texts]
    save(ax, tmp_path / "heat.png")


def test_pareto_numbers_its_front(table, tmp_path):
    ax = sweep.pareto(table, ["topology.nic.bandwidth", "train.schedule"])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "1: bandwidth=25 GB/s, schedule=a" in labels
    assert "3: bandwidth=100 GB/s, schedule=a" in labels
    save(ax, tmp_path / "pareto.png")


def test_the_best_of_keys_that_are_not_shown(table):
    ax = sweep.lines(table, "train.schedule", [], "step_time_s")
    (line,) = ax.get_lines()
    assert list(line.get_ydata()) == [2, 2]


def test_x_prefers_numbers(table):
    assert sweep.best_x(table, ["train.schedule", "topology.nic.bandwidth"]).endswith("bandwidth")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_the_front_is_what_no_point_beats(points):
    x, y = np.array(points, dtype=float).T
    front = sweep.front_of(x, y)

    def beaten(i):
        return any(
            x[j] <= x[i] and y[j] <= y[i] and (x[j] < x[i] or y[j] < y[i]) for j in range(len(x))
        )

    places = {(x[i], y[i]) for i in range(len(x)) if not beaten(i)}
    assert {(x[i], y[i]) for i in front} == places
    assert len(front) == len(places)
