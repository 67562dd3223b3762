"""The report of `simdeep validate gpu`: as data, as Markdown, and as a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simdeep.report.charts.canvas import axes_or_new
from simdeep.report.style import styled
from simdeep.validate.gpu import TOLERANCE, Compared

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PREDICTED, MEASURED = "#0072B2", "#E69F00"
"""Okabe and Ito's blue and orange."""


@dataclass(frozen=True)
class GpuReport:
    """Everything compared, and what it was measured on.

    `beside` is F beside B on two streams. Kernels that fill the GPU take turns there, so the
    prediction is their sum.
    """

    layer: Sequence[Compared]
    effects: Sequence[Compared]
    held: Sequence[Compared]
    beside: Compared
    clock_mhz: tuple[float, float]
    device: Mapping[str, Any]
    calibration: str
    held_sms: int
    times: Mapping[str, Any]

    @property
    def holds(self) -> bool:
        """Whether every judged figure is within the tolerance."""
        judged = [c for c in (*self.layer, *self.effects) if c.judged]
        return all(abs(c.error) <= TOLERANCE for c in judged)

    def as_json(self) -> dict[str, Any]:
        """One object; times in microseconds."""
        return {
            "calibration": self.calibration,
            "device": dict(self.device),
            "tolerance": TOLERANCE,
            "holds": self.holds,
            "clock_mhz": {"predicted": self.clock_mhz[0], "measured": self.clock_mhz[1]},
            "layer_us": [_row(c) for c in self.layer],
            "held_sms": self.held_sms,
            "slow_down_by_held_sms": [_row(c) for c in self.effects],
            "components_held_us": [_row(c) for c in self.held],
            "forward_beside_backward_us": _row(self.beside),
            "measured_us": dict(self.times),
        }

    def as_markdown(self) -> str:
        """The report to read."""
        facts = self.device
        mhz = f"{self.clock_mhz[0]:.0f} MHz predicted, {self.clock_mhz[1]:.0f} read"
        lines = [
            f"# A DeepSeek-V3 layer on one {facts['device']}",
            "",
            "One MoE layer as a rank of EP64 holds it (four routed experts and the shared one, "
            "MLA, hidden 7,168, 4,096 tokens, 32,768 expert rows, BF16, no recomputation), made by "
            "`simdeep validate gpu`. "
            f"Predicted from the calibration `{self.calibration}`, which has no row of this run; "
            f"torch {facts.get('torch')}, CUDA {facts.get('cuda')}, driver {facts.get('driver')}.",
            "",
            f"Judged figures are in bold; each must be within {TOLERANCE:.0%}: "
            f"{'all are' if self.holds else 'not all are'}.",
            "",
            f"## Times in a row of forward and backward passes (clock: {mhz})",
            "",
            *_table(self.layer, "us", "{:.0f}"),
            "",
            f"## Slow-down by {self.held_sms} SMs that another kernel holds",
            "",
            "Time with the SMs held over time without; the library is not told.",
            "",
            *_table(self.effects, "ratio", "{:.3f}"),
            "",
            f"## Components while {self.held_sms} SMs are held",
            "",
            *_table(self.held, "us", "{:.0f}"),
            "",
            "## F beside B on two streams",
            "",
            "Kernels that fill the GPU take turns: predicted is the sum of all components.",
            "",
            *_table([self.beside], "us", "{:.0f}"),
            "",
        ]
        return "\n".join(lines)


def _row(c: Compared) -> dict[str, Any]:
    return {
        "name": c.name,
        "predicted": c.predicted,
        "measured": c.measured,
        "error": c.error,
        "judged": c.judged,
    }


def _table(rows: Sequence[Compared], unit: str, form: str) -> list[str]:
    made = [f"| | predicted, {unit} | measured, {unit} | off |", "|---|---|---|---|"]
    for c in rows:
        cells = [c.name.replace("+", " + "), form.format(c.predicted), form.format(c.measured)]
        cells.append(f"{c.error:+.1%}")
        if c.judged:
            cells = [f"**{cell}**" for cell in cells]
        made.append("| " + " | ".join(cells) + " |")
    return made


@styled
def components_chart(report: GpuReport, ax: Axes | None = None) -> Axes:
    """Each component's predicted and measured time, side by side."""
    ax = axes_or_new(ax, 8.0, 4.2)
    rows = [c for c in report.layer if not c.judged]
    places = range(len(rows))
    width = 0.38
    predicted = [c.predicted / 1e3 for c in rows]
    measured = [c.measured / 1e3 for c in rows]
    left = [p - width / 2 for p in places]
    right = [p + width / 2 for p in places]
    ax.bar(left, predicted, width, label="predicted", color=PREDICTED)
    ax.bar(right, measured, width, label="measured", color=MEASURED, hatch="//")
    for place, c in zip(places, rows, strict=True):
        top = max(c.predicted, c.measured) / 1e3
        ax.annotate(f"{c.error:+.1%}", (place, top), ha="center", va="bottom", fontsize=9)
    ax.set_xticks([*places], [c.name.replace(".", " ") for c in rows])
    ax.set_ylim(0, 1.15 * max(*predicted, *measured))
    ax.set_ylabel("time (ms)")
    ax.set_title(f"DeepSeek-V3 layer on {report.device['device']}: predicted beside measured")
    ax.legend(loc="upper left", frameon=False)
    return ax
