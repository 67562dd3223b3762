"""Prediction beside measurement: step times against each other, two Gantts one above the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from simdeep.program.schedule import Overlap, Spans
from simdeep.report.charts.canvas import axes_or_new, legend_beside, new_figure, swatch
from simdeep.report.style import BLOCKS, FAINT, INK, LINES, styled, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EMULATED = "emulated: waits of calibrated length instead of computing"
_BAND = 0.08
_ROW = 0.8
_LABEL_SHARE = 0.018
"""Of the chart's width: narrower bars carry no micro-batch."""


@styled
def predicted_measured(
    predicted_s: Sequence[float],
    measured_s: Sequence[float],
    groups: Sequence[str],
    ax: Axes | None = None,
    *,
    emulated: bool = False,
    title: str = "Step time, predicted and measured",
) -> Axes:
    """Predicted over measured step times, both logarithmic, with the line where they are equal.

    Args:
        predicted_s: seconds, point by point.
        measured_s: the same points' seconds.
        groups: what a point belongs to (its schedule): colour and marker.
        ax: where to draw; a new figure if None.
        emulated: say that computing was replaced by waits.
        title: heading.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    ax = axes_or_new(ax, 7.0, 5.2)
    both = np.array([predicted_s, measured_s]) * 1e3
    low, high = both.min() / 1.15, both.max() * 1.15
    line = np.array([low, high])
    band = ax.fill_between(
        line, line * (1 - _BAND), line * (1 + _BAND), color=FAINT, lw=0, label="within 8%"
    )
    (equal,) = ax.plot(line, line, color=INK, lw=1.0, label="predicted = measured")
    handles = [equal, band]
    for i, group in enumerate(dict.fromkeys(groups)):
        colour, marker = LINES[i % len(LINES)]
        mine = np.array([g == group for g in groups])
        (dots,) = ax.plot(
            both[1][mine],
            both[0][mine],
            marker,
            color=colour,
            ms=6,
            mec="white",
            mew=0.5,
            label=group,
        )
        handles.append(dots)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    ax.grid(True)
    ax.set_xlabel("measured step (ms)" + (", " + EMULATED if emulated else ""))
    ax.set_ylabel("predicted step (ms)")
    ax.set_title(title)
    legend_beside(ax, handles)
    return ax


@styled
def gantts_above(
    predicted: Spans,
    measured: Spans,
    figure: Figure | None = None,
    *,
    title: str = "",
    emulated: bool = False,
) -> Figure:
    """The same table as predicted (above) and as it ran (below), on one time axis.

    Args:
        predicted: spans in seconds, 0 being the start of the step.
        measured: the same of the real run.
        figure: where to draw; a new one if None.
        title: heading.
        emulated: say that computing was replaced by waits.
    """
    ranks = predicted.table.n_ranks
    figure = figure or new_figure(13.0, min(2.4 + 0.8 * ranks, 24.0))
    above, below = figure.subplots(2, 1, sharex=True)
    longest = max(predicted.makespan, measured.makespan)
    scale, unit = time_unit(longest * 1e9)
    measured_title = "Measured" + (f" ({EMULATED})" if emulated else "")
    for ax, spans, heading in (
        (above, predicted, f"Predicted: {title}" if title else "Predicted"),
        (below, measured, measured_title),
    ):
        _draw(ax, spans, scale / 1e9, longest)
        ax.set_title(heading)
        ax.set_ylabel("rank")
        ax.set_yticks(range(ranks))
        ax.set_ylim(ranks - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
    below.set_xlim(0.0, longest / (scale / 1e9))
    below.set_xlabel(f"time from the start of the step ({unit})")
    kinds = dict.fromkeys(_look(cell) for row in predicted.table.rows for cell in row)
    figure.legend(
        handles=[swatch(BLOCKS[kind]) for kind in kinds],
        loc="outside lower center",
        ncols=len(kinds),
    )
    return figure


def _look(cell: object) -> str:
    return "FB" if isinstance(cell, Overlap) else str(getattr(cell, "kind", ""))


def _draw(ax: Axes, spans: Spans, scale: float, longest: float) -> None:
    """One bar a cell, with its micro-batch where there is room."""
    for rank, row in enumerate(spans.table.rows):
        for cell, start, end in zip(row, spans.start[rank], spans.end[rank], strict=True):
            look = BLOCKS[_look(cell)]
            ax.barh(
                rank,
                (end - start) / scale,
                _ROW,
                start / scale,
                color=look.fill,
                edgecolor="white",
                linewidth=0.4,
            )
            if look.hatch and end - start > _LABEL_SHARE / 3 * longest:
                ax.barh(
                    rank,
                    (end - start) / scale,
                    _ROW,
                    start / scale,
                    color="none",
                    edgecolor=look.line,
                    hatch=look.hatch,
                    linewidth=0.0,
                )
            if end - start > _LABEL_SHARE * longest:
                text = f"{cell.f.mb}|{cell.b.mb}" if isinstance(cell, Overlap) else str(cell.mb)
                ax.text(
                    (start + end) / 2 / scale,
                    rank,
                    text,
                    ha="center",
                    va="center",
                    fontsize=7,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8},
                )
