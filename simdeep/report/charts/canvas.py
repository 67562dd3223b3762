"""Figures without pyplot: nothing global, safe in threads and without a display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simdeep.errors import InputError, Problem
from simdeep.report.style import Look, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

FORMATS = (".svg", ".png", ".pdf")

# What would make two files of one chart differ, or say when and by what they were made.
_METADATA: dict[str, dict[str, Any]] = {
    ".svg": {"Date": None, "Creator": "simdeep"},
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": "simdeep"},
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches whose layout keeps labels and legends apart."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """The caller's axes, or those of a new figure."""
    if ax is not None:
        return ax
    new: Axes = new_figure(width, height).subplots()
    return new


def figure_of(ax: Axes) -> Figure:
    """The figure axes belong to."""
    from matplotlib.figure import Figure

    figure = ax.figure
    if not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def swatch(look: Look, label: str = "") -> Patch:
    """A legend entry for filled things."""
    from matplotlib.patches import Patch

    return Patch(
        facecolor=look.fill,
        edgecolor=look.line if look.hatch else look.fill,
        hatch=look.hatch or None,
        linewidth=0.6,
        label=label or look.label,
    )


def legend_beside(ax: Axes, handles: list[Any], title: str | None = None) -> None:
    """A legend to the right of the data, first entry at the top."""
    ax.legend(
        handles=handles,
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        handlelength=1.6,
        handleheight=1.1,
        alignment="left",
    )


@styled
def save(figure: Figure | Axes, path: str | Path) -> Path:
    """Write a figure as SVG, PNG (150 dpi) or PDF; the same chart gives the same bytes.

    Raises:
        InputError: the suffix is none of these.
    """
    from matplotlib.axes import Axes

    path = Path(path)
    if path.suffix not in _METADATA:
        rule = f"a chart is written as {', '.join(FORMATS)}, not {path.suffix or 'no suffix'}"
        raise InputError([Problem(str(path), "", rule)])
    if isinstance(figure, Axes):
        figure = figure_of(figure)
    figure.savefig(path, metadata=_METADATA[path.suffix])
    return path
