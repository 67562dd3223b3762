"""How long each GPU's ports are busy in an all-to-all, against when the GPU is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simdeep.cost.moe.result import PORTS
from simdeep.network import Outcome
from simdeep.report.charts.canvas import axes_or_new, legend_beside
from simdeep.report.style import ALARM, INK, LINES, styled, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES = {
    "nic-out": "NIC out",
    "nic-in": "NIC in",
    "nvlink-out": "NVLink out",
    "nvlink-in": "NVLink in",
}
_FEW = 96
"""Up to so many GPUs each has a marker of its own."""


@styled
def port_loads(outcome: Outcome, ax: Axes | None = None, draw: int = 0) -> Axes:
    """Busy time of every GPU's ports by rank, the hottest one marked.

    Args:
        outcome: a direction of an all-to-all.
        ax: where to draw; a new figure if None.
        draw: which routing draw.
    """
    ax = axes_or_new(ax, 11.0, 4.4)
    busy, run = outcome.kernel.port_s[:, draw], outcome.runs[draw]
    scale, unit = time_unit(run.time_s * 1e9)
    scale /= 1e9
    rank = np.arange(busy.shape[1])
    few = len(rank) <= _FEW
    handles = []
    for i, port in enumerate(PORTS):
        if not busy[i].any():
            continue
        colour, marker = LINES[i]
        (line,) = ax.plot(
            rank,
            busy[i] / scale,
            color=colour,
            marker=marker if few else None,
            markersize=3.5,
            linewidth=0.9,
            label=_NAMES[port],
        )
        handles.append(line)
    (done,) = ax.plot(
        rank,
        run.finish_s / scale,
        color=INK,
        linewidth=1.2,
        linestyle=(0, (4, 2)),
        label="GPU done",
    )
    handles.append(done)
    hottest = int(busy.argmax())
    at, which = hottest % len(rank), hottest // len(rank)
    name, _ = outcome.hot_ports(1, draw)[0]
    ax.plot(at, busy[which, at] / scale, "o", markersize=10, fillstyle="none", color=ALARM)
    ax.annotate(
        f"hottest: {name}",
        (at, busy[which, at] / scale),
        (0, -20),
        textcoords="offset points",
        ha="left" if at < len(rank) / 2 else "right",
        fontsize=8,
        color=ALARM,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    )
    ax.set_ylim(0, 1.12 * run.time_s / scale)
    ax.set_xlim(-0.5, len(rank) - 0.5)
    ax.grid(axis="y")
    ax.set_title(f"Port loads of a {outcome.direction}: {name} is the hottest")
    ax.set_xlabel("rank of the group")
    ax.set_ylabel(f"busy time at achieved bandwidth ({unit})")
    legend_beside(ax, handles)
    return ax
