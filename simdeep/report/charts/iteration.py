"""Charts of one serving iteration: two layers on their streams, what takes how long, memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from simdeep.program.columns import Kind
from simdeep.report.charts.canvas import axes_or_new, legend_beside, swatch
from simdeep.report.style import ALARM, INK, MEMORY, Look, styled, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from simdeep.engine.timeline import Timeline
    from simdeep.program.columns import I64

_BATCHES = {
    0: Look("micro-batch 0", "#56B4E9"),
    1: Look("micro-batch 1", "#E69F00", "///", "#8A5F00"),
    -1: Look("both micro-batches", "#B5B5B5"),
}
_KINDS = {
    "compute": Look("kernels", "#0072B2"),
    "transfer": Look("transfers", "#D55E00", "///", "#7A3500"),
    "host": Look("launches by the host", "#B5B5B5"),
}
_KV, _FREE = Look("KV cache", "#E69F00"), Look("free", "#FFFFFF", "////", "#8C8C8C")
_LETTER = 0.0052
"""Width of a letter over the chart's: narrower bars carry no name."""


@styled
def iteration_streams(timeline: Timeline, ax: Axes | None = None, layers: int = 2) -> Axes:
    """Streams of the first GPU over some layers in the middle of an iteration.

    Args:
        timeline: of an iteration.
        ax: where to draw; a new figure if None.
        layers: how many layers to show.
    """
    program = timeline.program
    ran = (program.rank == 0) & (program.kind != Kind.SYNC)
    ran &= timeline.end_ns > timeline.start_ns
    known = np.unique(program.layer[ran & (program.layer >= 0)])
    first = int(known[max(len(known) - layers, 0) // 2])
    middle = ran & (program.layer >= first) & (program.layer < first + layers)
    middle &= program.stream == program.streams.index("compute")
    low, high = int(timeline.start_ns[middle].min()), int(timeline.end_ns[middle].max())
    rows = np.flatnonzero(ran & (timeline.end_ns > low) & (timeline.start_ns < high))
    scale, unit = time_unit(high - low)
    used = [s for s in range(len(program.streams)) if np.any(program.stream[rows] == s)]
    ax = axes_or_new(ax, 15.0, 0.9 + 0.8 * len(used))
    _draw(ax, timeline, rows, used, low, high, scale)
    ax.set_xlim(0, (high - low) / scale)
    ax.set_ylim(len(used) - 0.5, -0.5)
    ax.set_yticks(range(len(used)), [f"{program.streams[s]} stream" for s in used])
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(f"time from the start of layer {first} ({unit})")
    last = first + layers - 1
    ax.set_title(f"Layers {first} to {last} on one GPU's streams" if last > first else "One layer")
    batches = [
        look for batch, look in _BATCHES.items() if np.any(program.microbatch[rows] == batch)
    ]
    legend_beside(ax, [swatch(look) for look in batches])
    return ax


def _draw(
    ax: Axes, timeline: Timeline, rows: I64, used: list[int], low: int, high: int, scale: float
) -> None:
    program = timeline.program
    for row in rows.tolist():
        left, right = max(int(timeline.start_ns[row]), low), min(int(timeline.end_ns[row]), high)
        look = _BATCHES.get(int(program.microbatch[row]), _BATCHES[-1])
        lane, width = used.index(int(program.stream[row])), (right - left) / scale
        edge = look.line if look.hatch else "white"
        ax.barh(
            lane,
            width,
            0.8,
            (left - low) / scale,
            facecolor=look.fill,
            edgecolor=edge,
            hatch=look.hatch or None,
            linewidth=0.3,
        )
        name = program.components[int(program.component[row])]
        share = (right - left) / (high - low)
        if share > 0.012:
            ax.text(
                (left + right) / 2 / scale - low / scale,
                lane,
                name,
                ha="center",
                va="center",
                rotation=0 if share > _LETTER * (len(name) + 1) else 90,
                fontsize=7,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.75},
            )


@styled
def iteration_parts(
    parts: Mapping[str, tuple[float, str]], whole_s: float, ax: Axes | None = None
) -> Axes:
    """Bars of what the parts of an iteration take; they overlap, so they add up to more than it.

    Args:
        parts: name to seconds and kind: `compute`, `transfer` or `host`.
        whole_s: of the iteration, drawn as a line.
        ax: where to draw; a new figure if None.
    """
    ax = axes_or_new(ax, 9.0, 0.9 + 0.24 * len(parts))
    names = sorted(parts, key=lambda name: -parts[name][0])
    scale, unit = time_unit(whole_s * 1e9)
    for place, name in enumerate(names):
        seconds, kind = parts[name]
        look, length = _KINDS[kind], seconds * 1e9 / scale
        edge = look.line if look.hatch else look.fill
        ax.barh(
            place,
            length,
            0.72,
            facecolor=look.fill,
            edgecolor=edge,
            hatch=look.hatch or None,
            linewidth=0.0,
        )
        ax.text(length, place, f" {seconds / whole_s:.1%}", va="center", fontsize=8)
    line = ax.axvline(whole_s * 1e9 / scale, color=INK, linestyle="--", linewidth=1.0)
    line.set_label("the iteration")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    longest = max([whole_s, *(seconds for seconds, _ in parts.values())])
    ax.set_xlim(0, 1.1 * longest * 1e9 / scale)
    ax.set_xlabel(f"time of both micro-batches ({unit}); shares of the iteration beside the bars")
    ax.set_title("Parts of the iteration; they overlap")
    kinds = [_KINDS[kind] for kind in _KINDS if any(k == kind for _, k in parts.values())]
    legend_beside(ax, [*(swatch(look) for look in kinds), line])
    return ax


@styled
def unit_memory(parts: Mapping[str, float], capacity_gib: float, ax: Axes | None = None) -> Axes:
    """One bar: what fills a GPU of a serving unit.

    Args:
        parts: name to GiB, in order; `KV cache` last.
        capacity_gib: of the GPU.
        ax: where to draw; a new figure if None.
    """
    ax = axes_or_new(ax, 9.0, 2.2)
    left, handles = 0.0, []
    looks = [*MEMORY, *(Look("", look.fill, "xx", INK) for look in MEMORY)]
    rest = {"free": max(capacity_gib - sum(parts.values()), 0.0)}
    for number, (name, gib) in enumerate({**parts, **rest}.items()):
        look = {"KV cache": _KV, "free": _FREE}.get(name, looks[number % len(looks)])
        if gib <= 0:
            continue
        edge = look.line if look.hatch else look.fill
        style: dict[str, Any] = {
            "facecolor": look.fill,
            "edgecolor": edge,
            "hatch": look.hatch or None,
        }
        ax.barh(0, gib, 0.6, left, linewidth=0.0, **style)
        handles.append(swatch(look, f"{name} {gib:.1f} GiB"))
        left += gib
    ax.axvline(capacity_gib, color=ALARM, linestyle="--", linewidth=1.2)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xlim(0, 1.02 * max(left, capacity_gib))
    ax.set_xlabel("GPU memory (GiB); dashed: capacity")
    ax.set_title(f"Memory of a GPU: {sum(parts.values()):.1f} of {capacity_gib:.1f} GiB")
    legend_beside(ax, handles)
    return ax
