"""Who has a rank's SMs over a stretch of time: compute from below, communication from above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I64, Kind
from simdeep.report.style import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPUTE_SMS = Look("SMs computing", "#7FB8DE")
COMM_SMS = Look("SMs copying (communication)", "#E8A070", "///", "#8A3D00")


def draw_sms(ax: Axes, timeline: Timeline, rows: I64, low: int, high: int, scale: float) -> None:
    """Draw the SMs that the tasks `rows` (of one rank) hold between `low` and `high`, as steps."""
    program, priced = timeline.program, timeline.priced
    edges = np.unique(np.clip([timeline.start_ns[rows], timeline.end_ns[rows]], low, high))
    begin = edges[:-1]
    live = (timeline.start_ns[rows] <= begin[:, None]) & (timeline.end_ns[rows] > begin[:, None])
    is_compute = program.kind[rows] == Kind.COMPUTE
    held = (live * np.where(is_compute, 0, priced.sms[rows])).sum(axis=1)
    want = (live * np.where(is_compute, priced.sm_want[rows], 0)).max(axis=1, initial=0)
    total = priced.hardware_sms
    free = total - (priced.comm_sms if priced.static_split else held)
    # A memory-bound kernel wants no SMs of its own in particular: it spreads over all it may use.
    running = (live & is_compute).any(axis=1)
    computing = np.where(running, np.where(want > 0, np.minimum(want, free), free), 0)

    x = (edges - low) / scale
    for bottom, top, look in (
        (np.zeros(len(begin)), computing, COMPUTE_SMS),
        (total - held, np.full(len(begin), total), COMM_SMS),
    ):
        ax.fill_between(
            x,
            np.append(bottom, bottom[-1:]),
            np.append(top, top[-1:]),
            step="post",
            facecolor=look.fill,
            edgecolor=look.line,
            hatch=look.hatch or None,
            linewidth=0.0,
        )
    split = total - priced.comm_sms
    ax.axhline(split, color="black", linewidth=0.7, linestyle=(0, (4, 3)))
    ax.set_ylim(0, total)
    ax.set_yticks([0, split, total] if 0 < split < total else [0, total])
    ax.set_ylabel("SMs in use")
    length = np.diff(edges)
    whole = max(int(length.sum()), 1) * total
    shares = [100 * float((length * sms).sum()) / whole for sms in (computing, held)]
    ax.set_title(
        f"SMs: {split} compute + {priced.comm_sms} communication; on average "
        f"{shares[0]:.0f} % of all SMs compute, {shares[1]:.0f} % copy",
        fontsize=9,
        fontweight="normal",
    )
