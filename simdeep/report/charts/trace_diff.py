"""Two timelines against each other: length of each phase, and the timelines one above the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simdeep.report.charts.canvas import axes_or_new, legend_beside, new_figure, swatch
from simdeep.report.style import FAINT, INK, PARTS, Look, styled, time_unit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FIRST, _SECOND = Look("", "#0072B2"), Look("", "#E69F00", "///", "#8A5F00")

_PHASES = (
    ("(F)", PARTS["computing.F"]),
    ("(W)", PARTS["computing.W"]),
    ("(I)", PARTS["computing.I"]),
    ("(B)", PARTS["computing.I"]),
)
_TRANSFERS = (
    ("dispatch", PARTS["exposed_comm.dispatch"]),
    ("combine", PARTS["exposed_comm.combine"]),
)
_OTHER = Look("other", "#B5B5B5", "||", "#6E6E6E")


@styled
def phase_lengths(phases: pd.DataFrame, names: tuple[str, str], ax: Axes | None = None) -> Axes:
    """Mean length of each phase in two traces, side by side, with the difference in percent.

    Args:
        phases: columns `phase`, `mean_ns_a`, `mean_ns_b`, `ratio`, a row a phase.
        names: what the two are called.
        ax: where to draw; a new figure if None.
    """
    ax = axes_or_new(ax, 10.0, 4.2)
    longest = np.nanmax(phases[["mean_ns_a", "mean_ns_b"]].to_numpy(float), initial=1.0)
    scale, unit = time_unit(longest)
    x = np.arange(len(phases), dtype=float)
    for offset, column, look in ((-0.2, "mean_ns_a", _FIRST), (0.2, "mean_ns_b", _SECOND)):
        height = phases[column].fillna(0).to_numpy(float) / scale
        ax.bar(x + offset, height, 0.38, color=look.fill, hatch=look.hatch, edgecolor=look.line)
    tops = phases[["mean_ns_a", "mean_ns_b"]].max(axis=1).to_numpy(float) / scale
    for at, top, ratio in zip(x, tops, phases["ratio"].to_numpy(float), strict=True):
        if np.isfinite(ratio):
            ax.text(at, top, f"{100 * ratio:+.1f}%", ha="center", va="bottom", fontsize=8)
    ax.set_xticks(x, phases["phase"].tolist(), rotation=30, ha="right")
    ax.set_ylabel(f"mean length ({unit})")
    ax.set_ylim(0, 1.12 * longest / scale)
    ax.set_title(f"Phases: {names[1]} against {names[0]}")
    ax.grid(axis="y", color=FAINT)
    legend_beside(ax, [swatch(_FIRST, names[0]), swatch(_SECOND, names[1])])
    return ax


@styled
def trace_lanes(
    spans: tuple[pd.DataFrame, pd.DataFrame], names: tuple[str, str], rank: int | None = None
) -> Figure:
    """Streams of one rank of two traces, one above the other on a common time axis.

    Args:
        spans: of each trace: columns `rank`, `stream`, `kind`, `phase`, `start_ns`, `end_ns`.
        names: what the two are called.
        rank: which rank; each trace's first if None.
    """
    own = [s[s["rank"] == (s["rank"].min() if rank is None else rank)] for s in spans]
    lanes = [list(dict.fromkeys(s.sort_values("start_ns")["stream"])) for s in own]
    longest = max((int(s["end_ns"].max() - s["start_ns"].min()) for s in own if len(s)), default=1)
    scale, unit = time_unit(longest)
    figure = new_figure(11.0, 1.6 + 0.42 * sum(map(len, lanes)) + 0.6)
    ratios = [max(len(lane), 1) for lane in lanes]
    axes = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": ratios})
    looks: dict[str, Look] = {}
    for ax, rows, streams, name in zip(axes, own, lanes, names, strict=True):
        _draw_lanes(ax, rows, streams, scale, looks)
        ax.set_title(name)
    axes[-1].set_xlim(0, longest / scale)
    axes[-1].set_xlabel(f"time ({unit})")
    handles = [swatch(look, label) for label, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))
    return figure


def _draw_lanes(
    ax: Axes, rows: pd.DataFrame, streams: list[str], scale: float, looks: dict[str, Look]
) -> None:
    origin = int(rows["start_ns"].min()) if len(rows) else 0
    for y, stream in enumerate(streams):
        lane = rows[rows["stream"] == stream]
        for (kind, phase), cells in lane.groupby(["kind", "phase"], sort=False):
            label, look = _look(str(kind), str(phase))
            looks.setdefault(label, look)
            start = (cells["start_ns"].to_numpy() - origin) / scale
            width = (cells["end_ns"] - cells["start_ns"]).to_numpy() / scale
            ax.broken_barh(
                list(zip(start.tolist(), width.tolist(), strict=True)),
                (y - 0.4, 0.8),
                facecolor=look.fill,
                hatch=look.hatch or None,
                edgecolor=look.line if look.hatch else look.fill,
                linewidth=0.2,
            )
    ax.set_yticks(range(len(streams)), streams)
    ax.set_ylim(len(streams) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_color(INK)


def _look(kind: str, phase: str) -> tuple[str, Look]:
    """Legend text and look of a span."""
    if kind == "communication":
        for start, look in _TRANSFERS:
            if phase.startswith(start):
                return start, look
        return "other transfer", PARTS["exposed_comm"]
    if kind == "compute":
        for end, look in _PHASES:
            if phase.endswith(end):
                return look.label, look
    return (
        ("waiting for others", Look("", "#FFFFFF", "////", "#8C8C8C"))
        if kind == "wait"
        else ("other", _OTHER)
    )
