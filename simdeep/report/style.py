"""Colours, hatches and settings every chart shares.

Colours are Okabe and Ito's (safe for the common kinds of colour blindness). Neighbours also differ
in lightness or carry a hatch, so charts survive a grey printer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

DPI = 150
INK = "#222222"
FAINT = "#D9D9D9"
ALARM = "#C00000"


@dataclass(frozen=True, slots=True)
class Look:
    """How one kind of thing is drawn: legend text, fill, hatch (matplotlib code), hatch colour."""

    label: str
    fill: str
    hatch: str = ""
    line: str = INK


#: Bars of the pipeline chart. B is an input and a weight gradient in one block.
BLOCKS = {
    "F": Look("forward (F)", "#56B4E9"),
    "I": Look("input gradient (I)", "#E69F00", "///", "#8A5F00"),
    "W": Look("weight gradient (W)", "#009E73", "...", "#CFF3E6"),
    "B": Look("full backward (B = I + W)", "#F0E442", "\\\\\\", "#8F8510"),
    "FB": Look("overlapped F & B", "#0072B2"),
    "grad_sync": Look("gradient reduction", "#B5B5B5", "||", "#6E6E6E"),
    "optimizer": Look("optimizer", "#4D4D4D"),
    "param_sync": Look("parameter gathering", "#B5B5B5", "--", "#6E6E6E"),
}

#: A long stretch inside a block of the pipeline chart in which nothing of it computed.
WAITING = Look("long wait inside a block", "#E2E2E2")

#: Parts of a rank's time, bottom to top of a stacked bar; F, I, W and transfers as in timelines.
PARTS = {
    "computing.F": Look("forward compute", "#56B4E9"),
    "computing.I": Look("input-gradient compute", "#E69F00", "///", "#8A5F00"),
    "computing.W": Look("weight-gradient compute", "#009E73", "...", "#CFF3E6"),
    "exposed_comm.dispatch": Look("exposed dispatch", "#D55E00"),
    "exposed_comm.combine": Look("exposed combine", "#CC79A7"),
    "exposed_comm.p2p": Look("exposed pipeline transfer", "#F0E442", "...", "#8F8510"),
    "exposed_comm.tp": Look("exposed tensor parallel", "#0072B2", "\\\\\\", "#BFE0F5"),
    "exposed_comm.cp": Look("exposed context parallel", "#0072B2", "...", "#BFE0F5"),
    "exposed_comm.fsdp": Look("exposed sharding traffic", "#0072B2", "xx", "#BFE0F5"),
    "exposed_comm": Look("other exposed transfer", "#0072B2"),
    "data_parallel.grad_sync": Look("gradient reduction", "#B5B5B5", "||", "#6E6E6E"),
    "data_parallel.optimizer": Look("optimizer", "#4D4D4D"),
    "data_parallel.param_sync": Look("parameter gathering", "#B5B5B5", "--", "#6E6E6E"),
    "launch_gap": Look("launch gaps", "#000000"),
    "bubble": Look("pipeline bubble", "#FFFFFF", "////", "#8C8C8C"),
}

#: Memory parts get these in the order they come; activations always the last entry.
MEMORY = (
    Look("", "#0072B2"),
    Look("", "#56B4E9", "///", "#1C6E9E"),
    Look("", "#009E73"),
    Look("", "#CC79A7", "\\\\\\", "#7A3F5F"),
    Look("", "#F0E442", "...", "#8F8510"),
    Look("", "#B5B5B5"),
    Look("", "#4D4D4D"),
)
ACTIVATION_LOOK = Look("activations", "#E69F00")

#: Lines of a comparison: colour, marker.
LINES = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#000000", "v"),
    ("#E69F00", "P"),
    ("#56B4E9", "X"),
)

# Any: matplotlib's own stubs name every setting in some versions and none in others.
RC: dict[Any, Any] = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    # Ids inside an SVG come from this instead of from chance: the same chart, the same bytes.
    "svg.hashsalt": "simdeep",
}


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run a chart function under `RC`, leaving the caller's matplotlib settings as they were."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(RC):
            return function(*args, **kwargs)

    return wrapper


def time_unit(longest_ns: float) -> tuple[float, str]:
    """Nanoseconds in the unit that suits a chart of this length, and the unit's name."""
    for scale, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if longest_ns >= scale:
            return scale, unit
    return 1.0, "ns"
