from __future__ import annotations

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from simdeep.analysis.attribution import attribute
from simdeep.analysis.memory import GIB, memory
from simdeep.errors import InputError
from simdeep.report import charts
from simdeep.report.charts.blocks import LOOKS, schedule_bars
from simdeep.report.style import PARTS, time_unit
from tests.analysis.tiny_programs import Tiny, pipeline, two_rank_pipeline

CURVES = [
    charts.BubbleCurve("1f1b", (8, 16, 64), (3.0, 3.0, 3.0), (9.0, 15.0, 51.0), (2.5, 2.5, 2.5)),
    charts.BubbleCurve("dualpipe", (8, 16, 64), (1.0, 1.0, 1.0), (7.0, 13.0, 49.0)),
]


@pytest.fixture(scope="module")
def timeline():
    return pipeline(4, 12, layers=2).timeline()


@pytest.fixture(scope="module")
def filled(timeline):
    static = {"parameters": np.array([20, 30, 40, 79]) * GIB, "buffers": 2 * GIB}
    return memory(timeline, static, capacity_gib=79.5)


def every_chart(timeline, filled):
    return {
        "gantt": charts.pipeline_gantt(timeline),
        "page": charts.pipeline_page(timeline),
        "time": charts.time_by_rank(attribute(timeline)),
        "block": charts.overlapped_block(timeline),
        "memory": charts.memory_by_rank(filled),
        "bubble": charts.bubble_curves(CURVES),
    }


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_chart_gives_the_same_bytes(tmp_path, suffix):
    timeline = pipeline(2, 3).timeline()
    filled = memory(timeline, {"parameters": 30 * GIB}, capacity_gib=20.0)
    for name, chart in every_chart(timeline, filled).items():
        charts.save(chart, tmp_path / f"{name}{suffix}")
    for name, chart in every_chart(timeline, filled).items():
        again = charts.save(chart, tmp_path / f"{name}-again{suffix}")
        first = (tmp_path / f"{name}{suffix}").read_bytes()
        assert again.read_bytes() == first, name
        assert b"<dc:date>" not in first


def test_png_is_150_dpi(timeline, tmp_path):
    path = charts.save(charts.pipeline_gantt(timeline), tmp_path / "g.png")
    width = int.from_bytes(path.read_bytes()[16:20], "big")
    assert width == 15 * 150


def test_unknown_format_is_refused(timeline, tmp_path):
    with pytest.raises(InputError, match=r"\.svg, \.png, \.pdf, not \.gif"):
        charts.save(charts.pipeline_gantt(timeline), tmp_path / "g.gif")


def test_given_axes_are_used_and_settings_left_alone(timeline, filled):
    before = matplotlib.rcParams.copy()
    figure = Figure()
    axes = figure.subplots(2, 2).ravel()
    assert charts.pipeline_gantt(timeline, axes[0]) is axes[0]
    assert charts.time_by_rank(attribute(timeline), axes[1]) is axes[1]
    assert charts.memory_by_rank(filled, axes[2]) is axes[2]
    assert charts.bubble_curves(CURVES, axes[3]) is axes[3]
    other = Figure()
    assert charts.overlapped_block(timeline, figure=other) is other
    assert matplotlib.rcParams.copy() == before


def test_axes_are_labelled_with_units(timeline, filled):
    drawn = every_chart(timeline, filled)
    for chart in drawn.values():
        for ax in [chart] if isinstance(chart, Axes) else chart.axes:
            assert ax.get_title(loc="left")
    assert drawn["gantt"].get_xlabel() == "time (ms)"
    assert drawn["time"].get_ylabel() == "time in the step (ms)"
    assert drawn["memory"].get_ylabel() == "GPU memory (GiB)"
    assert drawn["bubble"].get_ylabel() == "bubble, share of the step (%)"


def test_legends_lie_outside_the_data(timeline, filled):
    for name, chart in every_chart(timeline, filled).items():
        if not isinstance(chart, Axes):
            continue
        chart.figure.draw_without_rendering()
        legend = chart.get_legend().get_window_extent()
        assert legend.x0 >= chart.get_window_extent().x1, name
        assert legend.x1 <= chart.figure.bbox.x1, name


def test_tasks_of_a_block_are_one_bar(timeline):
    bars = schedule_bars(timeline)
    program = timeline.program
    blocks = {(int(r), int(b)) for r, b in zip(program.rank, program.block, strict=True) if b >= 0}
    assert len(bars) == len(blocks)
    first = bars.take(np.flatnonzero(bars.rank == 3))
    assert [LOOKS[i] for i in first.look] == ["F", *["FB"] * 11, "B"]
    assert first.forward.tolist() == [*range(12), -1]
    assert first.backward.tolist() == [-1, *range(12)]


def test_bars_are_where_the_spans_are():
    bars = schedule_bars(two_rank_pipeline())
    assert bars.start_ns.tolist() == [0, 10, 13, 23]
    assert bars.end_ns.tolist() == [10, 20, 23, 33]


def test_a_long_wait_cuts_the_bar():
    tiny = Tiny(1)
    a = tiny.compute(0, "F", "attn", 10, block=0, microbatch=0)
    d = tiny.transfer(0, "comm", "dispatch", 50, [a], block=0, microbatch=0)
    tiny.compute(0, "F", "mlp", 10, [d], block=0, microbatch=0)
    assert len(schedule_bars(tiny.timeline(), 50)) == 1
    cut = schedule_bars(tiny.timeline(), 49)
    assert cut.start_ns.tolist() == [0, 60]
    assert cut.end_ns.tolist() == [10, 70]


def test_a_whole_step_takes_few_artists():
    ax = charts.pipeline_gantt(pipeline(16, 120).timeline())
    assert len(ax.patches) == 0
    assert len([c for c in ax.collections if isinstance(c, PolyCollection)]) < 10


def test_stacks_reach_the_makespan(timeline):
    found = attribute(timeline)
    ax = charts.time_by_rank(found)
    tops = [
        max(p.get_y() + p.get_height() for p in bars) for bars in zip(*ax.containers, strict=True)
    ]
    scale, _ = time_unit(found.makespan_ns)
    assert tops == pytest.approx([found.makespan_ns / scale] * 4)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    shares = [float(name.split()[-2]) for name in names if "<" not in name]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_hundreds_of_ranks_become_areas():
    tiny = Tiny(200)
    for rank in range(200):
        tiny.compute(rank, "F", "attn", 10 + rank % 7)
    ax = charts.time_by_rank(attribute(tiny.timeline()))
    assert not ax.patches
    assert charts.pipeline_gantt(tiny.timeline()).get_ylim() == (199.5, -0.5)


def test_ranks_over_capacity_are_marked(filled):
    ax = charts.memory_by_rank(filled)
    assert "1 of 4 ranks over capacity" in ax.get_title(loc="left")
    assert [t.get_text() for t in ax.texts] == ["+1.5"]
    assert "capacity 79.5 GiB" in [t.get_text() for t in ax.get_legend().get_texts()]


def test_block_chart_says_whose_block_it_is(timeline):
    rank, block = charts.typical_block(timeline)
    assert rank == 2
    figure = charts.overlapped_block(timeline, rank, block)
    title = figure.axes[0].get_title(loc="left")
    assert title.startswith("One block of rank 2: forward of micro-batch ")
    assert " beside backward of micro-batch " in title
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()][:2] == [
        "compute stream",
        "comm stream",
    ]
    assert figure.axes[1].get_yticks().tolist() == [0, 112, 132]


def test_block_chart_without_blocks_is_refused(timeline):
    tiny = Tiny(1)
    tiny.compute(0, "F", "attn", 10)
    with pytest.raises(InputError, match="no schedule blocks"):
        charts.overlapped_block(tiny.timeline())
    with pytest.raises(InputError, match="rank 0 has no block 999"):
        charts.overlapped_block(timeline, 0, 999)


def test_closed_forms_are_lines_of_their_own():
    ax = charts.bubble_curves(CURVES)
    assert len(ax.lines) == 3
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([300 / 9, 20, 300 / 51])
    assert ax.lines[1].get_ydata().tolist() == pytest.approx([250 / 8.5, 250 / 14.5, 250 / 50.5])


def test_every_group_of_time_has_a_look(timeline):
    for part in attribute(timeline).parts:
        assert any(name.startswith(part.group) for name in PARTS)


@pytest.mark.parametrize("ns", [0, 1])
def test_empty_timelines_draw(ns, tmp_path):
    tiny = Tiny(2)
    if ns:
        tiny.compute(0, "F", "attn", ns)
    timeline = tiny.timeline()
    for chart in (
        charts.pipeline_page(timeline),
        charts.time_by_rank(attribute(timeline)),
        charts.memory_by_rank(memory(timeline, {}, 80.0)),
        charts.bubble_curves([]),
    ):
        charts.save(chart, tmp_path / "empty.png")


def test_importing_charts_is_light():
    code = (
        "import sys, simdeep.report.charts, simdeep.analysis.frame;"
        "assert not {'matplotlib', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pyplot_stays_out(timeline, filled, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    every_chart(timeline, filled)
