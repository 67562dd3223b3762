"""Who has a rank's SMs over a stretch of time: compute from below, communication from above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simdeep.analysis.sm_use import sm_use
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I64
from simdeep.report.style import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPUTE_SMS = Look("SMs computing", "#7FB8DE")
COMM_SMS = Look("SMs copying (communication)", "#E8A070", "///", "#8A3D00")


def draw_sms(ax: Axes, timeline: Timeline, rows: I64, low: int, high: int, scale: float) -> None:
    """Draw the SMs that the tasks `rows` (of one rank) hold between `low` and `high`, as steps."""
    priced, use = timeline.priced, sm_use(timeline, rows)
    total = priced.hardware_sms
    # Clipped, steps before `low` fall together: the last of them holds from there on.
    clipped = np.clip(use.at_ns, low, high)
    last = np.append(clipped[1:] != clipped[:-1], True)
    edges = clipped[last]
    begin, held, computing = edges[:-1], use.copying[last][:-1], use.computing[last][:-1]

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
