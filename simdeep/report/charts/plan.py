"""Charts of a plan: every simulated layout with the Pareto front, and where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simdeep.report.charts.canvas import axes_or_new, legend_beside, swatch
from simdeep.report.style import ALARM, INK, LINES, PARTS, Look, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from simdeep.planner.plan import PlanResult

_LOOKS = {
    "computing": Look("computing", "#56B4E9"),
    "exposed_comm": Look("exposed communication", "#D55E00", "///", "#7A3500"),
    "data_parallel": Look("data parallel", "#4D4D4D"),
    "launch_gap": PARTS["launch_gap"],
    "bubble": PARTS["bubble"],
}


@styled
def pareto_chart(result: PlanResult, ax: Axes | None = None) -> Axes:
    """Step time over memory of every simulated plan that fits, the front joined by a line.

    Args:
        result: with at least one plan.
        ax: where to draw; a new figure if None.
    """
    ax = axes_or_new(ax, 9.0, 4.8)
    shown = result.plans
    slowest = shown[0].judged.step_time_s * 2.0
    schedules = list(dict.fromkeys(plan.choice.schedule for plan in shown))
    for place, schedule in enumerate(schedules):
        colour, marker = LINES[place % len(LINES)]
        points = [
            (plan.judged.memory_peak_gib, plan.judged.step_time_s)
            for plan in shown
            if plan.choice.schedule == schedule and plan.judged.step_time_s <= slowest
        ]
        if points:
            x, y = np.array(points).T
            # Hollow and of different sizes: plans of two schedules often coincide.
            style: dict[str, Any] = {"linestyle": "", "markersize": 5 + 2 * (place % 3)}
            ax.plot(x, y, marker, color=colour, markerfacecolor="none", label=schedule, **style)
    front = [(p.judged.memory_peak_gib, p.judged.step_time_s) for p in result.pareto]
    front = sorted(point for point in front if point[1] <= slowest)
    x, y = np.array(front).T
    ax.step(x, y, where="post", color=INK, linewidth=1.0, label="Pareto front", zorder=1)
    capacity = shown[0].judged.capacity_gib - result.space.headroom_gib
    ax.axvline(capacity, color=ALARM, linestyle="--", linewidth=1.2, label="GPU memory")
    if result.own is not None and result.own.judged.step_time_s <= slowest:
        own = result.own.judged
        style = {"markersize": 15, "color": INK, "markerfacecolor": "none", "linestyle": ""}
        ax.plot(own.memory_peak_gib, own.step_time_s, "*", label="scenario's own layout", **style)
    ax.grid(True)
    ax.set_xlabel("memory of the fullest rank (GiB)")
    ax.set_ylabel("step time (s)")
    ax.set_title(f"{len(shown)} best simulated plans of {result.candidates:,} candidates")
    handles, _ = ax.get_legend_handles_labels()
    legend_beside(ax, handles)
    return ax


@styled
def parts_chart(result: PlanResult, ax: Axes | None = None) -> Axes:
    """Stacked bars: what a rank's time goes to, mean over ranks, for the plans of the ranking.

    Args:
        result: with at least one plan.
        ax: where to draw; a new figure if None.
    """
    ax = axes_or_new(ax, 9.0, 4.8)
    detailed = [plan for plan in result.plans if plan.parts][:10]
    names = [f"{i}" for i in range(1, len(detailed) + 1)]
    if result.own is not None and result.own.parts:
        detailed, names = [*detailed, result.own], [*names, "own"]
    place, bottom = np.arange(len(detailed)), np.zeros(len(detailed))
    for name, look in _LOOKS.items():
        height = np.array([plan.parts.get(name, 0.0) for plan in detailed])
        ax.bar(
            place,
            height,
            0.8,
            bottom=bottom,
            facecolor=look.fill,
            edgecolor=look.line if look.hatch else look.fill,
            hatch=look.hatch or None,
            linewidth=0.0,
        )
        bottom = bottom + height
    ax.set_xticks(place, names)
    ax.set_xlabel("plan by rank (own: the scenario's own layout)")
    ax.set_ylabel("time in the step (s), mean over ranks")
    ax.set_title("Where the time of the best plans goes")
    legend_beside(ax, [swatch(look) for look in reversed(_LOOKS.values())])
    return ax
