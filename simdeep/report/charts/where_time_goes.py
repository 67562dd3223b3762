"""Where each rank's time goes: stacked bars that add up to the step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simdeep.analysis.attribution import Attribution
from simdeep.analysis.blame import COMPUTING, Part
from simdeep.program.columns import I64
from simdeep.report.charts.canvas import axes_or_new, legend_beside, swatch
from simdeep.report.style import PARTS, styled, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More bars than this are drawn as one stepped area: a bar would be a pixel wide.
_MAX_BARS = 64


@styled
def time_by_rank(
    attribution: Attribution, ax: Axes | None = None, *, title: str = "Where the time goes"
) -> Axes:
    """Stack every part of every rank's time; the legend gives each part's share over all ranks.

    Args:
        attribution: `analysis.attribution.attribute` of a timeline.
        ax: where to draw; a new figure if None.
        title: heading.
    """
    ax = axes_or_new(ax, 11.0, 4.6)
    ranks = attribution.n_ranks
    scale, unit = time_unit(attribution.makespan_ns)
    stack = _stack(attribution)
    whole = max(attribution.makespan_ns, 1) * max(ranks, 1)
    bottom = np.zeros(ranks)
    handles = []
    for name, ns in stack.items():
        look, height = PARTS[name], ns / scale
        share = 100 * float(ns.sum()) / whole
        shown = f"{share:.1f} %" if share >= 0.05 else "< 0.1 %"
        handles.append(swatch(look, f"{look.label}  {shown}"))
        paint: dict[str, Any] = {
            "facecolor": look.fill,
            "edgecolor": look.line if look.hatch else look.fill,
            "hatch": look.hatch or None,
            "linewidth": 0.0,
        }
        if ranks <= _MAX_BARS:
            ax.bar(np.arange(ranks), height, 0.82, bottom=bottom, **paint)
        else:
            edges, low = np.arange(ranks + 1) - 0.5, np.append(bottom, bottom[-1:])
            ax.fill_between(edges, low, low + np.append(height, height[-1:]), step="post", **paint)
        bottom = bottom + height
    ax.set_xlim(-0.6, max(ranks, 1) - 0.4)
    ax.set_ylim(0, max(attribution.makespan_ns, 1) / scale * 1.02)
    if ranks <= 32:
        ax.set_xticks(range(ranks))
    ax.set_title(title)
    ax.set_xlabel("rank")
    ax.set_ylabel(f"time in the step ({unit})")
    legend_beside(ax, handles[::-1], "share of all ranks' time")
    return ax


def _stack(attribution: Attribution) -> dict[str, I64]:
    """Nanoseconds by rank for the parts that hold time, in the order of `PARTS`."""
    sums: dict[str, I64] = {}
    for part, ns in zip(attribution.parts, attribution.ns, strict=True):
        if ns.any():
            name = _shown_as(part)
            sums[name] = sums[name] + ns if name in sums else ns
    return {name: sums[name] for name in PARTS if name in sums}


def _shown_as(part: Part) -> str:
    if part.group == COMPUTING:
        return f"{COMPUTING}.{part.detail[0]}"
    return str(part) if str(part) in PARTS else part.group
