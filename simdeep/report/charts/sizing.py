"""Charts of a sizing: the simulated deployments, and everything the estimate judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from simdeep.report.charts.canvas import axes_or_new, legend_beside
from simdeep.report.style import ALARM, INK, LINES, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from simdeep.serving.sizing.size import SizeResult
    from simdeep.serving.sizing.verify import Verified


@styled
def front_chart(result: SizeResult, ax: Axes | None = None) -> Axes:
    """Dollars over TPOT of every simulated deployment, medians with 95% intervals.

    Those that meet the goal are filled; the winner has a ring.

    Args:
        result: with at least one simulated deployment.
        ax: where to draw; a new figure if None.
    """
    ax = axes_or_new(ax, 9.0, 4.8)
    ways = list(dict.fromkeys(one.deployment.way for one in result.verified))
    for place, way in enumerate(ways):
        for meets in (True, False):
            shown = [v for v in result.verified if v.deployment.way == way and v.meets == meets]
            if shown:
                _points(ax, shown, place, f"{way}, {'meets' if meets else 'misses'} the goal")
    front = sorted((v.figures.tpot_s.p50 * 1e3, v.usd_per_mtok) for v in result.front)
    lowest = np.minimum.accumulate([usd for _, usd in front]) if front else np.zeros(0)
    if len(front) > 1:
        ms = [at for at, _ in front]
        ax.step(ms, lowest, where="post", color=INK, linewidth=1.0, label="lowest cost", zorder=1)
    winner = result.winner
    if winner is not None:
        at = winner.figures.tpot_s.p50 * 1e3
        ax.plot(
            at,
            winner.usd_per_mtok,
            "o",
            markersize=15,
            markerfacecolor="none",
            color=INK,
            linestyle="",
            label="winner",
        )
    _goal_line(ax, result)
    ax.grid(True)
    ax.set_ylim(bottom=0.0)
    ax.set_xlim(left=0.0)
    ax.set_xlabel("time per output token (ms), median")
    ax.set_ylabel("US dollars per million tokens")
    ax.set_title(f"{len(result.verified)} deployments simulated request by request")
    handles, _ = ax.get_legend_handles_labels()
    legend_beside(ax, handles)
    return ax


def _points(ax: Axes, shown: Sequence[Verified], place: int, label: str) -> None:
    colour, marker = LINES[place % len(LINES)]
    marker = marker.strip("-") or "o"
    ms = np.array([v.figures.tpot_s.p50 for v in shown]) * 1e3
    error = np.array([v.errors.get("tpot_s.p50", 0.0) for v in shown]) * 1e3
    ax.errorbar(
        ms,
        [v.usd_per_mtok for v in shown],
        xerr=error,
        fmt=marker,
        color=colour,
        markerfacecolor=colour if shown[0].meets else "white",
        markersize=6,
        linewidth=1.0,
        linestyle="",
        label=label,
    )


@styled
def candidates_chart(result: SizeResult, ax: Axes | None = None) -> Axes:
    """Dollars over TPOT of every deployment left by the estimate, by way of serving.

    Args:
        result: with at least one such deployment.
        ax: where to draw; a new figure if None.
    """
    ax = axes_or_new(ax, 9.0, 4.8)
    left = result.judged.deployments
    for place, way in enumerate(dict.fromkeys(one.way for one in left)):
        colour, marker = LINES[place % len(LINES)]
        shown = [one for one in left if one.way == way]
        ax.plot(
            [one.tpot_s * 1e3 for one in shown],
            [one.usd_per_mtok for one in shown],
            marker.strip("-") or "o",
            color=colour,
            markersize=3.5,
            alpha=0.6,
            linestyle="",
            label=f"{way} ({len(shown):,})",
        )
    _goal_line(ax, result)
    ax.grid(True)
    ax.set_yscale("log")
    ax.set_xlim(left=0.0)
    ax.set_xlabel(f"time per output token (ms), {result.goal.share:.0%} of requests, estimated")
    ax.set_ylabel("US dollars per million tokens")
    ax.set_title(f"{len(left):,} of {result.judged.candidates:,} deployments left by the estimate")
    handles, _ = ax.get_legend_handles_labels()
    legend_beside(ax, handles)
    return ax


def _goal_line(ax: Axes, result: SizeResult) -> None:
    if result.goal.tpot_s is not None:
        at = result.goal.tpot_s * 1e3
        share = f"{result.goal.share:.0%} of requests"
        ax.axvline(at, color=ALARM, linestyle="--", linewidth=1.2, label=f"goal for {share}")
