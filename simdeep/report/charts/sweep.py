"""Charts of a sweep: lines over one key, a heat map over two, and what is worth its money.

All take the table of points: one row each, the varied keys as columns of text, `status` and the
figures. Only points that fit are drawn as values; where several share a place, the best of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simdeep.report.charts.canvas import axes_or_new, figure_of, legend_beside
from simdeep.report.style import ALARM, INK, LINES, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NUMBER = re.compile(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(\D.*)?")
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
_MOST_LINES = len(LINES) * len(_DASHES)
_NAMED = 6

_LABELS = {
    "step_time_s": "step time (s)",
    "tokens_per_s": "tokens a second",
    "tokens_per_s_per_gpu": "tokens a second and GPU",
    "mfu": "MFU",
    "mfu_causal": "MFU, causal",
    "gpu_hours_per_ttoken": "GPU-hours a trillion tokens",
    "days_per_ttoken": "days a trillion tokens",
    "usd_per_ttoken": "US dollars a trillion tokens",
    "bubble_over_makespan": "bubble, share of the step",
    "exposed_comm_s": "exposed communication (s a step)",
    "comm_overlap": "communication beside compute, share",
    "memory_peak_gib": "peak memory (GiB)",
    "total_ms": "overlapped pair (ms)",
    "exposed_comm_ms": "exposed communication (ms)",
}
_MORE_IS_BETTER = {"tokens_per_s", "tokens_per_s_per_gpu", "mfu", "mfu_causal", "comm_overlap"}


def figure_label(figure: str) -> str:
    """A figure's name as an axis says it."""
    return _LABELS.get(figure, figure)


def best_x(table: pd.DataFrame, keys: Sequence[str]) -> str:
    """The key to draw along the horizontal axis: numbers before names, then the most values."""
    return max(
        keys, key=lambda key: (_numbers(_unique(table[key])) is not None, table[key].nunique())
    )


@styled
def lines(
    table: pd.DataFrame,
    x: str,
    others: Sequence[str],
    y: str,
    ax: Axes | None = None,
    *,
    title: str = "",
) -> Axes:
    """A figure over one key, a line for every combination of the other keys.

    With more combinations than lines can be told apart, there is one for each value of the first
    of `others`, through the best of the rest. A gap is a point that does not fit or is illegal.

    Args:
        table: the points.
        x: key along the horizontal axis.
        others: the other varied keys.
        y: figure to draw.
        ax: where to draw; a new figure if None.
        title: heading.
    """
    ax = axes_or_new(ax, 9.0, 4.8)
    shown, rest = _shown_keys(table, others)
    values = _unique(table[x])
    places, unit = _places(values)
    handles = []
    curves = [(label, _best_by(group, x, y)) for label, group in _groups(table, shown)]
    for i, (label, best) in enumerate((label, best) for label, best in curves if best):
        heights = [best.get(value, math.nan) for value in values]
        colour, marker = LINES[i % len(LINES)]
        (line,) = ax.plot(
            places,
            heights,
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.6,
            linestyle=_DASHES[i // len(LINES) % len(_DASHES)],
            label=label,
        )
        handles.append(line)
    _set_x(ax, values, places, x, unit)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(_plain)
    ax.grid(axis="y")
    ax.set_ylabel(figure_label(y))
    ax.set_title(title if not rest else f"{title}: the best over {', '.join(rest)}")
    if shown:
        legend_beside(ax, handles, title="\n".join(shown))
    return ax


@styled
def heat_map(
    table: pd.DataFrame, x: str, lane: str, y: str, ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """A figure over two keys, each cell with its number; crossed out where nothing fits.

    Args:
        table: the points.
        x: key of the columns.
        lane: key of the rows.
        y: figure to draw; of several points in a cell, the best.
        ax: where to draw; a new figure if None.
        title: heading.
    """
    columns, rows = _unique(table[x]), _unique(table[lane])
    image = np.full((len(rows), len(columns)), np.nan)
    for i, value in enumerate(rows):
        best = _best_by(table[table[lane] == value], x, y)
        image[i] = [best.get(column, math.nan) for column in columns]
    ax = axes_or_new(ax, min(14.0, 3.2 + 0.75 * len(columns)), min(11.0, 1.8 + 0.42 * len(rows)))
    drawn = ax.imshow(image, cmap="cividis", aspect="auto", interpolation="nearest")
    figure_of(ax).colorbar(drawn, ax=ax, label=figure_label(y), pad=0.02, format=_plain)
    _number_cells(ax, image)
    ax.set_xticks(range(len(columns)), columns, rotation=30 if _long(columns) else 0)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(x)
    ax.set_ylabel(lane)
    others = " (best of the other keys)" if _crowded(table, [x, lane]) else ""
    ax.set_title(f"{title}{others}")
    return ax


@styled
def pareto(
    table: pd.DataFrame,
    keys: Sequence[str],
    ax: Axes | None = None,
    *,
    x: str = "usd_per_ttoken",
    y: str = "days_per_ttoken",
    title: str = "",
) -> Axes:
    """Two figures against each other, less of both being better, and the points none beats.

    Args:
        table: the points.
        keys: the varied keys, by which points on the front are named.
        ax: where to draw; a new figure if None.
        x: figure along the horizontal axis.
        y: figure along the vertical axis.
        title: heading.
    """
    ax = axes_or_new(ax, 9.0, 5.2)
    fitting = table[table["status"] == "fits"]
    across, up = fitting[x].to_numpy(np.float64), fitting[y].to_numpy(np.float64)
    front = front_of(across, up)
    handles = [
        ax.scatter(across, up, s=22, color="#56B4E9", edgecolor=INK, linewidth=0.4, label="fits"),
        ax.plot(
            across[front],
            up[front],
            color=ALARM,
            marker="s",
            markersize=6,
            linewidth=1.3,
            linestyle=(0, (4, 2)),
            label="front: none is better in both",
        )[0],
    ]
    _number_front(ax, fitting.iloc[front], keys, across[front], up[front], handles)
    ax.grid(True)
    ax.xaxis.set_major_formatter(_plain)
    ax.yaxis.set_major_formatter(_plain)
    ax.set_xlabel(figure_label(x))
    ax.set_ylabel(figure_label(y))
    ax.set_title(title)
    ax.margins(0.08)
    legend_beside(ax, handles)
    return ax


def front_of(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> list[int]:
    """Points that no other is at least as good as in both and better in one, by ascending x."""
    found: list[int] = []
    for i in np.lexsort((y, x)).tolist():
        if not found or y[i] < y[found[-1]]:
            found.append(i)
    return found


def _number_front(
    ax: Axes,
    front: pd.DataFrame,
    keys: Sequence[str],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    handles: list[Any],
) -> None:
    """Number the points of the front, at most `_NAMED` of them, and name them in the legend."""
    from matplotlib.lines import Line2D

    chosen = np.unique(np.linspace(0, len(front) - 1, _NAMED).round().astype(int)).tolist()
    for number, i in enumerate(chosen, start=1):
        name = ", ".join(f"{key.rpartition('.')[2]}={front.iloc[i][key]}" for key in keys)
        ax.annotate(
            str(number),
            (x[i], y[i]),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=9,
            fontweight="bold",
            color=INK,
        )
        handles.append(Line2D([], [], linestyle="", label=f"{number}: {name}"))


def _number_cells(ax: Axes, image: npt.NDArray[np.float64]) -> None:
    if image.size > 200:
        return
    low, high = np.nanmin(image), np.nanmax(image)
    for (row, column), value in np.ndenumerate(image):
        if math.isnan(value):
            ax.text(column, row, "×", ha="center", va="center", color=INK, fontsize=8)
            continue
        bright = high > low and (value - low) / (high - low) > 0.55
        text = f"{value:.3g}" if abs(value) < 1e4 else f"{value:,.0f}"
        colour = INK if bright else "white"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def _shown_keys(table: pd.DataFrame, others: Sequence[str]) -> tuple[list[str], list[str]]:
    """Keys whose combinations get a line each, and those of which the best is drawn."""
    shown: list[str] = []
    count = 1
    for key in others:
        count *= table[key].nunique()
        if count > _MOST_LINES:
            break
        shown.append(key)
    return shown, [key for key in others if key not in shown]


def _groups(table: pd.DataFrame, keys: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    if not keys:
        return [("", table)]
    found = table.groupby(list(keys), sort=False)
    return [(", ".join(map(str, name)), group) for name, group in found]


def _best_by(group: pd.DataFrame, key: str, figure: str) -> dict[str, float]:
    """The best figure of the points that fit, for each value of a key."""
    fitting = group[group["status"] == "fits"].groupby(key, sort=False)[figure]
    best = fitting.max() if figure in _MORE_IS_BETTER else fitting.min()
    return {str(value): float(number) for value, number in best.items()}


def _crowded(table: pd.DataFrame, keys: Sequence[str]) -> bool:
    return bool(table.duplicated(list(keys)).any())


def _unique(column: Any) -> list[str]:
    return [str(value) for value in dict.fromkeys(column)]


def _numbers(column: Sequence[str]) -> list[tuple[float, str]] | None:
    """Each value as a number and its unit; None unless all are numbers of one unit."""
    matches = [_NUMBER.fullmatch(str(value)) for value in column]
    found = [(float(m[1]), (m[2] or "").strip()) for m in matches if m is not None]
    same = len(found) == len(matches) and len({unit for _, unit in found}) == 1
    return found if same else None


def _places(values: Sequence[str]) -> tuple[list[float], str | None]:
    """Where values lie, and the unit of numbers; names lie side by side and have no unit."""
    numbers = _numbers(values)
    if numbers is None:
        return [float(i) for i in range(len(values))], None
    return [number for number, _ in numbers], numbers[0][1]


def _set_x(
    ax: Axes, values: Sequence[str], places: Sequence[float], key: str, unit: str | None
) -> None:
    if unit is None:
        ax.set_xticks(list(places), list(values), rotation=30 if _long(values) else 0)
        ax.set_xlabel(key)
        return
    low, high = min(places), max(places)
    steps = np.diff(np.sort(places))
    even = len(steps) > 0 and steps.max() < 1.01 * steps.min()
    if low > 0 and high >= 8 * low and len(places) > 2 and not even:
        ax.set_xscale("log", base=2)
    if len(places) <= 16:
        ax.set_xticks(list(places), [f"{place:g}" for place in places], minor=False)
        ax.minorticks_off()
    ax.set_xlabel(f"{key} ({unit})" if unit else key)


def _plain(value: float, _: float = 0.0) -> str:
    """A tick's number in full: no power of ten apart from the axis."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:g}"


def _long(names: Sequence[str]) -> bool:
    return sum(map(len, names)) > 70
