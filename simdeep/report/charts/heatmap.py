"""One number for each GPU of a cluster, drawn where the GPU is: node by node, GPUs stacked."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.report.charts.canvas import axes_or_new, figure_of
from simdeep.report.style import ALARM, INK, styled, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NODES_A_ROW = 32
_NAMED = 5


@styled
def gpu_heatmap(
    ns: npt.ArrayLike,
    gpus_per_node: int,
    ax: Axes | None = None,
    *,
    title: str = "Time lost to each GPU",
    label: str = "other GPUs' waiting for it, above its peers' median",
) -> Axes:
    """Colour every GPU by a time; 32 nodes to a row, a node's GPUs one below the other.

    The GPUs with the largest times are framed and named.

    Args:
        ns: nanoseconds of each GPU, in rank order.
        gpus_per_node: GPUs of a node.
        ax: where to draw; a new figure if None.
        title: heading.
        label: what the colour means, without its unit.
    """
    values = np.asarray(ns, dtype=np.float64)
    nodes = -(-len(values) // gpus_per_node)
    wide = min(nodes, _NODES_A_ROW)
    bands = -(-nodes // wide)
    scale, unit = time_unit(float(np.abs(values).max(initial=0.0)))
    image = np.full((bands * (gpus_per_node + 1) - 1, wide), np.nan)
    row, column = _places(np.arange(len(values)), gpus_per_node, wide)
    image[row, column] = values / scale
    ax = axes_or_new(ax, 11.0, min(11.0, 2.2 + 0.13 * len(image)))
    drawn = ax.imshow(image, cmap="cividis", aspect="auto", interpolation="nearest")
    figure_of(ax).colorbar(drawn, ax=ax, label=textwrap.fill(f"{label} ({unit})", 30), pad=0.01)
    _name_largest(ax, values, row, column, gpus_per_node, scale, unit)
    middle = np.arange(bands) * (gpus_per_node + 1) + (gpus_per_node - 1) / 2
    first = np.arange(bands) * wide
    last = np.minimum(first + wide, nodes) - 1
    names = [f"{a}–{b}" if a != b else f"{a}" for a, b in zip(first, last, strict=True)]
    ax.set_yticks(middle, names)
    ax.set_xticks(range(0, wide, max(1, wide // 8)))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("node within its row")
    ax.set_ylabel(f"nodes, {gpus_per_node} GPUs each from the top")
    ax.set_title(title, pad=18)
    return ax


def _places(
    gpu: npt.NDArray[np.int64], per_node: int, wide: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row and column of each GPU; an empty row is left between rows of nodes."""
    node = gpu // per_node
    return node // wide * (per_node + 1) + gpu % per_node, node % wide


def _name_largest(
    ax: Axes,
    values: npt.NDArray[np.float64],
    row: npt.NDArray[np.int64],
    column: npt.NDArray[np.int64],
    per_node: int,
    scale: float,
    unit: str,
) -> None:
    from matplotlib.patches import Rectangle

    order = np.argsort(-values, kind="stable")[:_NAMED]
    named = [gpu for gpu in order.tolist() if values[gpu] > 0]
    for gpu in named:
        corner = (column[gpu] - 0.5, row[gpu] - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=ALARM, linewidth=1.2))
    if named:
        words = [f"GPU {gpu} ({values[gpu] / scale:.3g} {unit})" for gpu in named]
        text = f"largest, framed: {', '.join(words)}"
        ax.text(0, 1.005, text, transform=ax.transAxes, fontsize=7.5, color=INK, va="bottom")
