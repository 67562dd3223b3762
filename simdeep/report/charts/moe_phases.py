"""Phases of MoE layers, predicted beside measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simdeep.report.charts.canvas import axes_or_new, legend_beside, swatch
from simdeep.report.style import INK, Look, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PREDICTED = Look("predicted", "#56B4E9")
_MEASURED = Look("measured (quartiles)", "#E69F00", "///", "#8A5F00")


class PhaseTimes(NamedTuple):
    """Seconds of one phase: predicted, and measured with its quartiles."""

    predicted_s: float
    measured_s: float
    low_s: float
    high_s: float


@styled
def moe_phases(
    groups: Mapping[str, Sequence[PhaseTimes]],
    phases: Sequence[str],
    ax: Axes | None = None,
    *,
    title: str = "Expert parallel layers: predicted beside measured",
) -> Axes:
    """Draw a pair of bars for each phase of each group, with the error above.

    Args:
        groups: times of every phase by the group's name, such as its number of tokens.
        phases: names of the phases, as many as each group has times.
        ax: where to draw; a new figure if None.
        title: heading.
    """
    ax = axes_or_new(ax, 1.5 + 0.62 * len(phases) * len(groups), 4.6)
    at, names = [], []
    x = 0.0
    top = max(max(t.predicted_s, t.high_s) for times in groups.values() for t in times) * 1e3
    for group, times in groups.items():
        first = x
        for phase, time in zip(phases, times, strict=True):
            _pair(ax, x, time, top)
            at.append(x)
            names.append(phase)
            x += 1.0
        middle = (first + x - 1.0) / 2
        ax.text(middle, 0.98, group, transform=ax.get_xaxis_transform(), ha="center", va="top")
        x += 0.7
    ax.set_xticks(at, names, rotation=55, ha="right", rotation_mode="anchor")
    ax.set_ylim(0, top * 1.22)
    ax.set_ylabel("time in a step, all MoE layers (ms)")
    ax.grid(axis="y")
    ax.set_title(title)
    legend_beside(ax, [swatch(_PREDICTED), swatch(_MEASURED)])
    return ax


def _pair(ax: Axes, x: float, time: PhaseTimes, top: float) -> None:
    ax.bar(x - 0.2, time.predicted_s * 1e3, width=0.4, color=_PREDICTED.fill)
    ax.bar(
        x + 0.2,
        time.measured_s * 1e3,
        width=0.4,
        color=_MEASURED.fill,
        hatch=_MEASURED.hatch,
        edgecolor=_MEASURED.line,
        linewidth=0,
    )
    spread = np.array([[time.measured_s - time.low_s], [time.high_s - time.measured_s]]) * 1e3
    ax.errorbar([x + 0.2], [time.measured_s * 1e3], yerr=spread, color=INK, linewidth=1, capsize=2)
    height = max(time.predicted_s, time.high_s) * 1e3 + 0.01 * top
    error = time.predicted_s / time.measured_s - 1
    ax.text(x, height, f"{100 * error:+.0f}%", ha="center", va="bottom", fontsize=6.5)
