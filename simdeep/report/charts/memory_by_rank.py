"""Memory of each rank at its peak against what a GPU has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simdeep.analysis.memory import ACTIVATIONS, GIB, Memory
from simdeep.report.charts.canvas import axes_or_new, legend_beside, swatch
from simdeep.report.style import ACTIVATION_LOOK, ALARM, MEMORY, styled

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


@styled
def memory_by_rank(
    memory: Memory, ax: Axes | None = None, *, title: str = "Memory at each rank's peak"
) -> Axes:
    """Stack what makes up each rank's peak; ranks over capacity are marked.

    Args:
        memory: `analysis.memory.memory` of a timeline.
        ax: where to draw; a new figure if None.
        title: heading.
    """
    from matplotlib.lines import Line2D

    ax = axes_or_new(ax, 11.0, 4.6)
    ranks = len(memory.peak)
    x, bottom = np.arange(ranks), np.zeros(ranks)
    handles: list[Artist] = []
    statics = [name for name in memory.breakdown if name != ACTIVATIONS]
    for i, name in enumerate([*statics, ACTIVATIONS]):
        look = ACTIVATION_LOOK if name == ACTIVATIONS else MEMORY[i % len(MEMORY)]
        height = memory.breakdown[name] / GIB
        edge = look.line if look.hatch else look.fill
        ax.bar(
            x,
            height,
            0.82,
            bottom=bottom,
            facecolor=look.fill,
            edgecolor=edge,
            hatch=look.hatch or None,
            linewidth=0.0,
        )
        handles.append(swatch(look, name.replace("_", " ")))
        bottom = bottom + height
    over = memory.over_capacity()
    if len(over):
        ax.bar(
            over,
            memory.peak[over] / GIB,
            0.82,
            facecolor="none",
            edgecolor=ALARM,
            linewidth=1.8,
            zorder=3,
        )
    for rank in over.tolist() if ranks <= 32 else []:
        excess = memory.peak[rank] / GIB - memory.capacity_gib
        ax.annotate(
            f"+{excess:.1f}",
            (rank, memory.peak[rank] / GIB),
            (0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=ALARM,
            fontweight="bold",
        )
    ax.axhline(memory.capacity_gib, color=ALARM, linewidth=1.4, linestyle="--", zorder=4)
    handles.append(
        Line2D(
            [],
            [],
            color=ALARM,
            linewidth=1.4,
            linestyle="--",
            label=f"capacity {memory.capacity_gib:.1f} GiB",
        )
    )
    ax.set_ylim(0, 1.1 * max(memory.capacity_gib, float(bottom.max(initial=0))))
    ax.set_xlim(-0.6, max(ranks, 1) - 0.4)
    if ranks <= 32:
        ax.set_xticks(x)
    verdict = (
        f"{len(over)} of {ranks} ranks over capacity by the GiB shown" if len(over) else "fits"
    )
    ax.set_title(f"{title}: {memory.peak_gib:.1f} GiB, {verdict}")
    ax.set_xlabel("rank")
    ax.set_ylabel("GPU memory (GiB)")
    legend_beside(ax, handles[::-1])
    return ax
