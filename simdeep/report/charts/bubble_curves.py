"""Bubble against the number of micro-batches, schedule by schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simdeep.report.charts.canvas import axes_or_new, legend_beside
from simdeep.report.style import LINES, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class BubbleCurve:
    """One schedule's bubble at several numbers of micro-batches.

    `bubble_s` and `makespan_s` are simulated (mean over ranks; seconds); `closed_form_s` is the
    published formula at each point, empty if there is none.
    """

    schedule: str
    microbatches: tuple[int, ...]
    bubble_s: tuple[float, ...]
    makespan_s: tuple[float, ...]
    closed_form_s: tuple[float, ...] = ()


@styled
def bubble_curves(
    curves: Sequence[BubbleCurve],
    ax: Axes | None = None,
    *,
    title: str = "Pipeline bubble against micro-batches",
) -> Axes:
    """Draw each schedule's bubble as a share of the step, simulated and by closed form.

    The closed form's share is of its own step: simulated time without bubble, plus the formula's.

    Args:
        curves: one for each schedule.
        ax: where to draw; a new figure if None.
        title: heading.
    """
    from matplotlib.lines import Line2D

    ax = axes_or_new(ax, 9.0, 4.8)
    handles = []
    for i, curve in enumerate(curves):
        colour, marker = LINES[i % len(LINES)]
        bubble, makespan = np.array(curve.bubble_s), np.array(curve.makespan_s)
        (line,) = ax.plot(
            curve.microbatches,
            100 * bubble / makespan,
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.6,
            label=curve.schedule,
        )
        handles.append(line)
        if curve.closed_form_s:
            closed = np.array(curve.closed_form_s)
            share = 100 * closed / (makespan - bubble + closed)
            ax.plot(curve.microbatches, share, color=colour, linewidth=1.3, linestyle=(0, (2, 2)))
    if any(curve.closed_form_s for curve in curves):
        handles.append(
            Line2D([], [], color="black", linewidth=1.3, linestyle=(0, (2, 2)), label="closed form")
        )
    points = sorted({m for curve in curves for m in curve.microbatches})
    if len(points) > 1 and points[-1] >= 8 * points[0]:
        ax.set_xscale("log", base=2)
    ax.set_xticks(points, [str(m) for m in points], minor=False)
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
    ax.set_title(title)
    ax.set_xlabel("micro-batches in a step")
    ax.set_ylabel("bubble, share of the step (%)")
    legend_beside(ax, handles)
    return ax
