"""The pipeline over time: ranks as rows, one bar for each entry of the schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simdeep.engine.timeline import Timeline
from simdeep.report.charts.blocks import LOOKS, Bars, data_parallel_bars, schedule_bars
from simdeep.report.charts.canvas import (
    axes_or_new,
    figure_of,
    legend_beside,
    new_figure,
    swatch,
)
from simdeep.report.style import BLOCKS, WAITING, styled, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

_LABEL_POINTS = (7.5, 6.0, 5.0)
_HALF_ROW = 0.42
# Length of the two close-ups, in typical blocks.
_NEAR_BLOCKS = 16
# Narrower bars than this (in points) show their hatch as noise: colour alone says more.
_HATCH_POINTS = 9.0


@styled
def pipeline_gantt(
    timeline: Timeline,
    ax: Axes | None = None,
    *,
    window_ns: tuple[int, int] | None = None,
    title: str = "Pipeline schedule",
    legend: bool = True,
) -> Axes:
    """Draw the schedule as it ran.

    Bars wide enough carry their micro-batch (`forward|backward` when overlapped) and a hatch.
    A long wait inside a block is drawn pale; short ones, as for an exposed all-to-all, are part of
    the bar and are told apart in the chart of where the time goes.

    Args:
        timeline: what ran when.
        ax: where to draw; a new figure if None.
        window_ns: draw this stretch of time only.
        title: heading.
        legend: explain the colours to the right of the chart.
    """
    ranks = timeline.program.n_ranks
    ax = axes_or_new(ax, 15.0, min(2.0 + 0.32 * ranks, 20.0))
    low, high = window_ns or (0, max(timeline.makespan_ns, 1))
    scale, unit = time_unit(high - low)
    ax.set_xlim(low / scale, high / scale)
    ax.set_ylim(ranks - 0.5, -0.5)
    ax.set_title(title)
    ax.set_xlabel(f"time ({unit})")
    ax.set_ylabel("pipeline rank")
    ax.set_yticks(range(0, ranks, max(1, ranks // 32)))
    ax.tick_params(axis="y", length=0)

    dp = _within(data_parallel_bars(timeline), low, high)
    whole = schedule_bars(timeline)
    blocks = _within(whole, low, high)
    pieces = _within(schedule_bars(timeline, _long_pause(whole)), low, high)
    if legend:
        legend_beside(ax, _legend(blocks, pieces, dp))
    points = _points_per_ns(ax, low, high)
    _draw(ax, dp, scale, points, zorder=2)
    _draw_waiting(ax, blocks, scale)
    _draw(ax, pieces, scale, points, zorder=4)
    _outline(ax, blocks, scale, points)
    _label(ax, _widest(pieces), scale, points, (low, high))
    return ax


@styled
def pipeline_page(
    timeline: Timeline, figure: Figure | None = None, *, title: str = "Pipeline schedule"
) -> Figure:
    """The whole step, and below it its beginning and end, near enough to read micro-batches.

    A step of few blocks is readable as it is and gets one panel.
    """
    ranks = timeline.program.n_ranks
    makespan = max(timeline.makespan_ns, 1)
    bars = schedule_bars(timeline)
    typical = float(np.median(bars.end_ns - bars.start_ns)) if len(bars) else 0.0
    near = int(_NEAR_BLOCKS * typical)
    if not 0 < near < makespan / 2:
        figure = figure or new_figure(15.0, min(2.0 + 0.32 * ranks, 20.0))
        pipeline_gantt(timeline, figure.subplots(), title=title)
        return figure
    figure = figure or new_figure(15.0, min(3.6 + 0.5 * ranks, 24.0))
    axes = figure.subplot_mosaic([["all", "all"], ["begin", "end"]])
    pipeline_gantt(timeline, axes["all"], title=title, legend=False)
    for name, low, heading in (
        ("begin", 0, "Beginning of the step"),
        ("end", makespan - near, "End of the step"),
    ):
        window = (low, low + near)
        pipeline_gantt(timeline, axes[name], window_ns=window, title=heading, legend=False)
    figure.legend(
        handles=_legend(
            bars, schedule_bars(timeline, _long_pause(bars)), data_parallel_bars(timeline)
        ),
        loc="outside lower center",
        ncols=len(LOOKS) + 1,
    )
    return figure


def _within(bars: Bars, low: int, high: int) -> Bars:
    return bars.take(np.flatnonzero((bars.end_ns > low) & (bars.start_ns < high)))


def _long_pause(blocks: Bars) -> int:
    """Pauses longer than this cut a bar: the waits for all-to-all of a lone F or B do not."""
    return int(0.3 * np.median(blocks.end_ns - blocks.start_ns)) if len(blocks) else 0


def _widest(pieces: Bars) -> Bars:
    """Of each block's pieces the longest: the one to write on."""
    order = np.lexsort((pieces.end_ns - pieces.start_ns, pieces.block, pieces.rank))
    rank, block = pieces.rank[order], pieces.block[order]
    last = np.append((rank[1:] != rank[:-1]) | (block[1:] != block[:-1]), True)[: len(order)]
    return pieces.take(order[last | (block < 0)])


def _legend(blocks: Bars, pieces: Bars, dp: Bars) -> list[Patch]:
    shown = sorted({*blocks.look.tolist(), *dp.look.tolist()})
    waiting = [swatch(WAITING)] if len(pieces) > len(blocks) else []
    return [swatch(BLOCKS[LOOKS[i]]) for i in shown] + waiting


def _points_per_ns(ax: Axes, low: int, high: int) -> float:
    """Points (1/72 inch) a nanosecond takes once labels and legend have their room."""
    figure = figure_of(ax)
    figure.draw_without_rendering()
    pixels: float = ax.get_window_extent().width
    return pixels * 72 / figure.dpi / (high - low)


def _corners(bars: Bars, scale: float) -> Any:
    """Rectangles as (bars, 4, 2) corner points."""
    x0, x1 = bars.start_ns / scale, bars.end_ns / scale
    y0, y1 = bars.rank - _HALF_ROW, bars.rank + _HALF_ROW
    x, y = np.stack([x0, x0, x1, x1], axis=1), np.stack([y0, y1, y1, y0], axis=1)
    return np.stack([x, y], axis=2)


def _add(ax: Axes, bars: Bars, scale: float, **paint: Any) -> None:
    from matplotlib.collections import PolyCollection

    ax.add_collection(PolyCollection(_corners(bars, scale), **paint), autolim=False)


def _draw(ax: Axes, bars: Bars, scale: float, points: float, zorder: int) -> None:
    """Fill bars, one collection for each look."""
    for i in np.unique(bars.look):
        look = BLOCKS[LOOKS[i]]
        one = bars.take(np.flatnonzero(bars.look == i))
        length = (one.end_ns - one.start_ns).astype(np.float64)
        # Width at a moment picked by chance: a few long bars count for more than many short ones.
        wide = float((length**2).sum() / length.sum()) * points >= _HATCH_POINTS
        _add(
            ax,
            one,
            scale,
            facecolors=look.fill,
            edgecolors=look.line,
            linewidths=0.0,
            hatch=look.hatch if wide and look.hatch else None,
            zorder=zorder,
        )


def _draw_waiting(ax: Axes, blocks: Bars, scale: float) -> None:
    _add(ax, blocks, scale, facecolors=WAITING.fill, linewidths=0.0, zorder=3)


def _outline(ax: Axes, blocks: Bars, scale: float, points: float) -> None:
    """White edges keep blocks that follow each other apart."""
    if len(blocks):
        width = float(np.median(blocks.end_ns - blocks.start_ns)) * points
        line = min(0.5, width / 8)
        _add(ax, blocks, scale, facecolors="none", edgecolors="white", linewidths=line, zorder=5)


def _label(ax: Axes, bars: Bars, scale: float, points: float, window: tuple[int, int]) -> None:
    """Write micro-batches on bars, all in one size; not at all if few have room for it."""
    low, high = window
    start, end = np.maximum(bars.start_ns, low), np.minimum(bars.end_ns, high)
    pairs = zip(bars.forward.tolist(), bars.backward.tolist(), strict=True)
    texts = ["|".join(str(m) for m in pair if m >= 0) for pair in pairs]
    needed = np.array([0.62 * (len(text) + 0.6) for text in texts])
    sizes = np.array(_LABEL_POINTS)
    room = (end - start) * points >= needed * sizes[:, None]
    labelled = room.sum(axis=1)
    if labelled[-1] < 0.3 * len(bars) or not len(bars):
        return
    # The largest size that costs hardly any label.
    chosen = int(np.argmax(labelled >= 0.9 * labelled[-1]))
    size, fits = float(sizes[chosen]), room[chosen]
    for i in np.flatnonzero(fits).tolist():
        look = LOOKS[int(bars.look[i])]
        ax.text(
            (start[i] + end[i]) / 2 / scale,
            int(bars.rank[i]),
            texts[i],
            ha="center",
            va="center_baseline",
            fontsize=size,
            color="white" if look == "FB" else "black",
            zorder=6,
            clip_on=True,
            bbox=_backing(look),
        ).set_in_layout(False)


def _backing(look: str) -> dict[str, Any] | None:
    """A patch of plain colour under a label, where a hatch would run through it."""
    if not BLOCKS[look].hatch:
        return None
    return {"facecolor": BLOCKS[look].fill, "edgecolor": "none", "pad": 0.6}
