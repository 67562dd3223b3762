"""Predicted against measured iteration times, a panel for each half of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from simdeep.published.score import Scored, score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Final = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"),
    "#222222",
)
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")


def scatter(runs: Sequence[Scored], ax: Axes | None = None) -> Axes:
    """Predicted over measured against measured iteration time (s), a mark for each family.

    Hollow marks are runs of the fit half, filled ones of the test half.
    """
    from simdeep.report.charts.canvas import axes_or_new

    ax = axes_or_new(ax, 10.0, 6.0)
    ax.axhspan(0.95, 1.05, color="#D9D9D9", zorder=0, label="within 5%")
    ax.axhline(1.0, color="#222222", linewidth=0.8)
    shown = [run for run in runs if run.error is not None and run.quantity == "iteration_s"]
    families = list(dict.fromkeys(run.case.family for run in shown))
    for index, family in enumerate(families):
        colour = _COLOURS[index % len(_COLOURS)]
        marker = _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)]
        inside = [run for run in shown if run.case.family == family]
        mape = score(run for run in inside if run.case.half == "test").mape
        label = family if mape is None else f"{family} ({mape:.1%})"
        for half, face in (("fit", "none"), ("test", colour)):
            part = [run for run in inside if run.case.half == half]
            ax.scatter(
                [run.measured or 0.0 for run in part],
                [1 + (run.error or 0.0) for run in part],
                s=26,
                marker=marker,
                facecolors=face,
                edgecolors=colour,
                linewidths=0.9,
                label=label if half == "test" else None,
            )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("measured iteration time (s)")
    ax.set_ylabel("predicted over measured")
    ax.set_title("Published runs: hollow, fit half; filled, test half (its MAPE in brackets)")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return ax
