"""Time of an all-to-all against SMs, against the size of its group, and against the node limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simdeep.cost.moe import NodeLimit, fewest_sms
from simdeep.network import DIRECTIONS, EpPoint, ExpertsPoint, SmPoint
from simdeep.report.charts.canvas import axes_or_new, legend_beside, new_figure
from simdeep.report.style import ALARM, FAINT, INK, LINES, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
"""Behind a text, so that lines do not cross it."""


@styled
def time_against_sms(
    points: Sequence[SmPoint], own: int | None = None, ax: Axes | None = None
) -> Axes:
    """Time of each direction by the SMs that copy; where more stop helping is marked.

    Args:
        points: of both directions.
        own: the setting's own number of SMs.
        ax: where to draw; a new figure if None.
    """
    ax = axes_or_new(ax, 8.6, 4.4)
    handles = []
    for i, direction in enumerate(DIRECTIONS):
        mine = [(p.sms, p.time_s) for p in points if p.direction == direction]
        colour, marker = LINES[i]
        (line,) = ax.plot(
            [s for s, _ in mine],
            [t * 1e3 for _, t in mine],
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.6,
            label=direction,
        )
        handles.append(line)
        enough = fewest_sms(mine)
        time = dict(mine)[enough]
        ax.annotate(
            f"{enough} SMs are enough",
            (enough, time * 1e3),
            (10, 16),
            textcoords="offset points",
            fontsize=8,
            color=colour,
            bbox=_CLEAR,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8},
        )
    if own is not None:
        handles.append(ax.axvline(own, color=INK, linestyle=":", linewidth=1.0, label=f"{own} SMs"))
    ax.set_xticks(sorted({p.sms for p in points}))
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
    ax.set_title("Time against communication SMs (enough: within 5% of the best)")
    ax.set_xlabel("SMs that copy tokens")
    ax.set_ylabel("time until the last GPU is done (ms)")
    legend_beside(ax, handles)
    return ax


@styled
def time_against_ep(
    points: Sequence[EpPoint], own: int | None = None, ax: Axes | None = None
) -> Axes:
    """Time of each direction by the GPUs of the group; the bottleneck stands at each point.

    Args:
        points: of both directions.
        own: the setting's own size.
        ax: where to draw; a new figure if None.
    """
    ax = axes_or_new(ax, 8.6, 4.4)
    sizes = sorted({p.ep for p in points})
    high = max(p.time_s for p in points)
    scale, unit = (1e3, "ms") if high >= 1e-3 else (1e6, "µs")
    handles = []
    for i, direction in enumerate(DIRECTIONS):
        mine = [p for p in points if p.direction == direction]
        colour, marker = LINES[i]
        (line,) = ax.plot(
            [p.ep for p in mine],
            [p.time_s * scale for p in mine],
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.6,
            label=direction,
        )
        handles.append(line)
        for p in mine:
            ax.annotate(
                p.bottleneck,
                (p.ep, p.time_s * scale),
                (0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=colour,
                bbox=_CLEAR,
            )
    if own is not None:
        handles.append(
            ax.axvline(own, color=INK, linestyle=":", linewidth=1.0, label=f"this group: {own}")
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(s) for s in sizes])
    ax.minorticks_off()
    ax.margins(x=0.08)
    ax.set_ylim(0, 1.12 * high * scale)
    ax.grid(axis="y")
    ax.set_title("Time against the size of the group (what sets it at each point)")
    ax.set_xlabel("GPUs of the expert-parallel group")
    ax.set_ylabel(f"time until the last GPU is done ({unit})")
    legend_beside(ax, handles)
    return ax


@styled
def node_limits(
    limits: Sequence[NodeLimit], experts: Sequence[ExpertsPoint], ratio: float
) -> Figure:
    """Two panels: port times by node limit, and time by experts a node with the claim marked.

    Args:
        limits: of 1, 2, ... nodes, by ports alone.
        experts: by experts a node, by ports alone.
        ratio: NVLink over IB bandwidth: experts a node that cost no more than the IB time.
    """
    figure = new_figure(12.4, 4.8)
    left, right = figure.subplots(1, 2)
    x = [p.limit for p in limits]
    for i, (label, values) in enumerate(
        (
            ("IB ports", [p.ib_s for p in limits]),
            ("NVLink ports", [p.nvlink_s for p in limits]),
            ("the dispatch", [p.time_s for p in limits]),
        )
    ):
        colour, marker = LINES[(0, 1, 4)[i]]
        style = {"linestyle": (0, (3, 2))} if i == 2 else {}
        ms = [v * 1e3 for v in values]
        left.plot(x, ms, color=colour, marker=marker, linewidth=1.5, label=label, **style)
    topk = limits[0].topk
    labels = [f"{p.limit}\n{topk / p.nodes_per_token:.2f}" for p in limits]
    over = [p.limit for p in limits if topk / p.nodes_per_token > ratio]
    if over:
        left.axvspan(0.5, max(over) + 0.5, color=ALARM, alpha=0.07, zorder=0)
        left.annotate(
            f"over {ratio:g} experts\na node: NVLink\nsets the time",
            (0.58, 0.98),
            xycoords=("data", "axes fraction"),
            ha="left",
            va="top",
            fontsize=7.5,
            color=ALARM,
        )
    left.set_xticks(x, labels)
    left.set_xlim(0.5, max(x) + 0.5)
    left.set_ylim(bottom=0)
    left.grid(axis="y")
    left.set_title(f"Limit of nodes for {topk} experts a token, real gating on 8 nodes")
    left.set_xlabel("nodes a token may use, and experts on each (mean)")
    left.set_ylabel("time for 1,024 tokens a GPU, ports alone (ms)")
    left.legend(loc="lower right")
    per_node = [p.experts_per_node for p in experts]
    relative = [p.time_s / p.ib_s for p in experts]
    right.plot(per_node, relative, color=LINES[4][0], linewidth=1.8, label="the dispatch")
    right.plot(
        per_node,
        [p.nvlink_s / p.ib_s for p in experts],
        color=LINES[1][0],
        linewidth=1.2,
        linestyle="--",
        label="NVLink ports",
    )
    right.axhline(1.0, color=LINES[0][0], linewidth=1.2, linestyle=":", label="IB ports")
    right.axvspan(min(per_node), ratio, color=FAINT, alpha=0.5, zorder=0)
    right.axvline(ratio, color=ALARM, linewidth=1.2)
    right.annotate(
        f"up to {ratio:g} experts a node\n({round(4 * ratio)} on 4 nodes) cost the IB time:\n"
        "arXiv 2412.19437, sec 3.2.2",
        (ratio, 1.0),
        (-8, 40),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=ALARM,
    )
    right.set_xlim(min(per_node), max(per_node))
    right.set_ylim(bottom=0)
    right.grid(axis="y")
    right.set_title("Experts a node, each on a GPU of its own")
    right.set_xlabel("experts of a token on each of its 4 nodes")
    right.set_ylabel("time over that of the IB ports")
    right.legend(loc="lower right")
    return figure
