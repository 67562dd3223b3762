"""Who sends how much to whom in a dispatch: over InfiniBand and over NVLink."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simdeep.cost.moe import token_bytes
from simdeep.network import Outcome
from simdeep.report.charts.canvas import new_figure
from simdeep.report.style import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MIB = float(1 << 20)


@styled
def traffic_matrix(outcome: Outcome, draw: int = 0) -> Figure:
    """Bytes from GPU to GPU of a draw, a panel for each network.

    Args:
        outcome: a direction of an all-to-all.
        draw: which routing draw.
    """
    setting, routed = outcome.setting, outcome.routed
    size = token_bytes(outcome.direction, setting.hidden, setting.dtype) / _MIB
    node = np.arange(setting.ep) // setting.per_node
    if routed.pairs is not None:
        pairs = routed.pairs.pairs[draw] * ~np.eye(setting.ep, dtype=bool)
        inside = node[:, None] == node[None, :]
        panels = [("InfiniBand", pairs * ~inside), ("NVLink", pairs * inside)]
        ends = ("source GPU", "expert's GPU")
    else:
        matrix = routed.dispatches.traffic(draw)
        panels = [("InfiniBand", matrix.ib), ("NVLink", matrix.nvl)]
        ends = ("source GPU", "landing GPU")
    if setting.nodes == 1:
        panels = panels[1:]
    figure = new_figure(6.4 * len(panels), 5.6)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (name, copies) in zip(axes, panels, strict=True):
        combine = outcome.direction == "combine"
        values = (copies.T if combine else copies) * size
        labels = _labels(ends, name, low_latency=routed.pairs is not None)
        _panel(ax, values, name, labels[::-1] if combine else labels, setting.per_node)
    who = f"{outcome.direction} of {setting.ep} GPUs, {setting.tokens:,} tokens each"
    figure.suptitle(f"Traffic of a {who}", x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def _labels(ends: tuple[str, str], network: str, *, low_latency: bool) -> tuple[str, str]:
    if low_latency or network == "InfiniBand":
        return ends
    return "landing GPU", "expert's GPU"


def _panel(ax: Axes, values: np.ndarray, name: str, labels: tuple[str, str], per_node: int) -> None:
    shown = np.where(values > 0, values, np.nan)
    low, high = (0.0, 1.0)
    if (values > 0).any():
        low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    image = ax.imshow(shown, cmap="viridis", interpolation="nearest", vmin=low, vmax=max(high, low))
    total = values.sum() / 1024
    ax.set_title(f"{name}: {total:,.2f} GiB in all")
    ax.set_ylabel(f"from: {labels[0]}")
    ax.set_xlabel(f"to: {labels[1]}")
    ranks = len(values)
    if ranks > per_node and ranks // per_node <= 32:
        for edge in range(per_node, ranks, per_node):
            ax.axhline(edge - 0.5, color="#BBBBBB", linewidth=0.4)
            ax.axvline(edge - 0.5, color="#BBBBBB", linewidth=0.4)
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85)
    bar.set_label("MiB from GPU to GPU (white: none)")
