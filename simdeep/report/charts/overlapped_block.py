"""One block of the schedule under the lens: its streams, and who has the SMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simdeep.analysis.blame import transfer_kind
from simdeep.engine.timeline import Timeline
from simdeep.errors import InputError
from simdeep.program.columns import I64, Action, Kind
from simdeep.report.charts.blocks import LOOKS, schedule_bars
from simdeep.report.charts.canvas import figure_of, new_figure, swatch
from simdeep.report.charts.sm_lane import COMM_SMS, COMPUTE_SMS, draw_sms
from simdeep.report.style import BLOCKS, FAINT, Look, styled, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_THIN_LANE = 0.5
# Mean width of a letter over its font size.
_EM = 0.67
_COMM_LOOKS = {
    "F": Look("forward transfer", "#F7C6A3"),
    "I": Look("backward transfer", "#B34E00"),
    "P2P": Look("pipeline transfer", "#F0E442"),
}
_COMPUTE_LOOKS = {a: BLOCKS[a] for a in "FIW"}


def typical_block(timeline: Timeline) -> tuple[int, int]:
    """Rank and block id of an overlapped F and B from the middle of the step.

    Of the middle rank's overlapped blocks, the one in the middle of the row; without any, the
    middle block of whatever kind.

    Raises:
        InputError: the timeline has no blocks.
    """
    bars = schedule_bars(timeline)
    bars = bars.take(np.flatnonzero(bars.block >= 0))
    if not len(bars):
        raise InputError("the timeline has no schedule blocks to draw")
    both = bars.take(np.flatnonzero(bars.look == LOOKS.index("FB")))
    bars = both if len(both) else bars
    ranks = np.unique(bars.rank)
    bars = bars.take(np.flatnonzero(bars.rank == ranks[len(ranks) // 2]))
    middle = len(bars) // 2
    return int(bars.rank[middle]), int(bars.block[middle])


@styled
def overlapped_block(
    timeline: Timeline,
    rank: int | None = None,
    block: int | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw one block's streams above the SMs in use.

    Tasks of other blocks that run in the same stretch of time are drawn in grey.

    Args:
        timeline: what ran when.
        rank: whose block (default: `typical_block`).
        block: which entry of its schedule (default: `typical_block`).
        figure: where to draw; a new one if None.
    """
    if rank is None or block is None:
        rank, block = typical_block(timeline)
    program = timeline.program
    figure = figure or new_figure(15.0, 5.0)
    streams, sms = figure.subplots(2, 1, sharex=True, height_ratios=[1.6, 1])
    mine = np.flatnonzero(
        (program.rank == rank)
        & (program.block == block)
        & (program.kind != Kind.SYNC)
        & (program.action <= Action.W)
    )
    if not len(mine):
        raise InputError(f"rank {rank} has no block {block} to draw")
    low, high = int(timeline.start_ns[mine].min()), int(timeline.end_ns[mine].max())
    rows = np.flatnonzero(
        (program.rank == rank)
        & (program.kind != Kind.SYNC)
        & (timeline.end_ns > low)
        & (timeline.start_ns < high)
        & (timeline.end_ns > timeline.start_ns)
    )
    scale, unit = time_unit(high - low)
    streams.set_xlim(0, (high - low) / scale)
    shown = _draw_streams(streams, timeline, rows, block, low, scale)
    streams.set_title(_title(timeline, mine, rank, high - low))
    draw_sms(sms, timeline, rows, low, high, scale)
    sms.set_xlabel(f"time in the block ({unit})")
    figure.legend(
        handles=[swatch(look) for look in (*shown, COMPUTE_SMS, COMM_SMS)],
        loc="outside lower center",
        ncols=len(shown) + 2,
    )
    return figure


def _title(timeline: Timeline, mine: I64, rank: int, length_ns: int) -> str:
    program = timeline.program

    def name(actions: tuple[Action, ...], what: str) -> list[str]:
        found = program.microbatch[mine[np.isin(program.action[mine], actions)]]
        return [f"{what} of micro-batch {found[0]}"] if len(found) else []

    acts = " beside ".join(name((Action.F,), "forward") + name((Action.I, Action.W), "backward"))
    scale, unit = time_unit(length_ns)
    return f"One block of rank {rank}: {acts}, {length_ns / scale:.1f} {unit}"


def _draw_streams(
    ax: Axes, timeline: Timeline, rows: I64, block: int, low: int, scale: float
) -> list[Look]:
    program = timeline.program
    used = [s for s in range(len(program.streams)) if (program.stream[rows] == s).any()]
    # Streams that hardly carry anything get thin lanes below those of compute and all-to-all.
    height = [1.0 if program.streams[s] in ("compute", "comm") else _THIN_LANE for s in used]
    centre = np.cumsum(height) - np.array(height) / 2
    ax.set_yticks(centre, [f"{program.streams[s]} stream" for s in used])
    ax.set_ylim(sum(height), 0)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelbottom=False)
    figure = figure_of(ax)
    figure.draw_without_rendering()
    box = ax.get_window_extent()
    across = box.width * 72 / figure.dpi / ax.get_xlim()[1]
    down = box.height * 72 / figure.dpi / sum(height)
    shown: dict[str, Look] = {}
    other = Look("another block", FAINT)
    for start, end, task in _runs(timeline, rows):
        lane = used.index(int(program.stream[task]))
        is_compute = program.kind[task] == Kind.COMPUTE
        action = Action(int(program.action[task])).name
        looks = _COMPUTE_LOOKS if is_compute else _COMM_LOOKS
        look = looks.get(action, other)
        if program.block[task] not in (block, -1):
            look = other
        shown[look.label] = look
        x, width = (start - low) / scale, (end - start) / scale
        ax.barh(
            centre[lane],
            width,
            0.82 * height[lane],
            left=x,
            facecolor=look.fill,
            edgecolor=look.line if look.hatch else "white",
            hatch=look.hatch or None,
            linewidth=0.5,
        )
        x, right = max(x, 0.0), min(x + width, ax.get_xlim()[1])
        room = (0.82 * height[lane] * down, (right - x) * across)
        _name(ax, (x + right) / 2, centre[lane], _text(timeline, task), room, look)
    order = [*_COMPUTE_LOOKS.values(), *_COMM_LOOKS.values()]
    rank_of = {look.label: i for i, look in enumerate(order)}
    return sorted(shown.values(), key=lambda look: rank_of.get(look.label, len(order)))


def _runs(timeline: Timeline, rows: I64) -> list[tuple[int, int, int]]:
    """Neighbours on a stream that are the same step of the same layer, as (start, end, a task)."""
    program = timeline.program
    runs: list[tuple[int, int, int]] = []
    order = rows[np.lexsort((rows, timeline.start_ns[rows], program.stream[rows]))]
    columns = np.stack(
        [
            getattr(program, name)[order]
            for name in ("stream", "kind", "action", "component", "layer", "microbatch", "block")
        ]
    )
    for i, task in enumerate(order.tolist()):
        start, end = int(timeline.start_ns[task]), int(timeline.end_ns[task])
        if i and (columns[:, i] == columns[:, i - 1]).all():
            runs[-1] = (runs[-1][0], end, task)
        else:
            runs.append((start, end, task))
    return runs


def _text(timeline: Timeline, task: int) -> str:
    program = timeline.program
    component = program.components[int(program.component[task])]
    action = Action(int(program.action[task]))
    name = component if program.kind[task] == Kind.COMPUTE else transfer_kind(component)
    return f"{name}({action.name})" if action <= Action.W else name


def _name(ax: Axes, x: float, y: float, text: str, room: tuple[float, float], look: Look) -> None:
    """Write a bar's name in it: on one line, on two, or upright; nothing if none fits."""
    two, (tall, wide) = text.replace("(", "\n("), room
    forms = ((text, 7.5, 0), (two, 7.5, 0), (two, 6.3, 0), (text, 7.0, 90), (text, 6.0, 90))
    for form, size, rotation in forms:
        length = _EM * size * max(map(len, form.split("\n")))
        if length <= (tall if rotation else wide) and 1.4 * size <= (wide if rotation else tall):
            break
    else:
        return
    ax.text(
        x,
        y,
        form,
        ha="center",
        va="center",
        fontsize=size,
        rotation=rotation,
        linespacing=1.0,
        color="white" if look.label == _COMM_LOOKS["I"].label else "black",
        clip_on=True,
        bbox={"facecolor": look.fill, "edgecolor": "none", "pad": 0.8} if look.hatch else None,
    ).set_in_layout(False)
