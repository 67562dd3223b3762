"""The interactive timeline: spans as packed columns, a bokeh figure that a script fills."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from simdeep.analysis.attribution import idle_pieces
from simdeep.analysis.blame import part_codes, transfer_kind
from simdeep.analysis.critical import critical_path
from simdeep.analysis.view import idle_of_each
from simdeep.program.columns import I64, Action, Kind
from simdeep.report.html.page import asset
from simdeep.report.style import BLOCKS, INK, PARTS, Look, time_unit

if TYPE_CHECKING:
    from bokeh.models import Plot
    from bokeh.plotting import figure

    from simdeep.analysis.booking import IdlePieces
    from simdeep.analysis.memory import Memory
    from simdeep.engine.timeline import Timeline

MOST_SPANS = 30_000
"""Up to so many spans in view are drawn each for itself, more as bins."""

_GIB = 2**30
_HATCH = {"///": "/", "\\\\\\": "\\", "...": ".", "xx": "x", "||": "|", "--": "-", "////": "/"}
_HATCHES = (" ", *sorted(set(_HATCH.values())))
_TYPES = {"f8": np.float64, "i2": np.int16, "u1": np.uint8, "u2": np.uint16}

#: Of a rank's row: the upper and lower edge of each stream's lane, rows being one apart.
_LANES = {
    "compute": (-0.44, 0.10),
    "comm": (0.12, 0.28),
    "p2p": (0.30, 0.35),
    "p2p_b": (0.36, 0.41),
    "dp": (0.42, 0.47),
    "prefetch": (0.42, 0.47),
}

_COMPONENTS = {
    "attn": Look("attention", "#0072B2"),
    "mlp": Look("MLP and experts", "#E69F00", "///", "#8A5F00"),
    "head": Look("head and loss", "#009E73", "...", "#CFF3E6"),
    "embed": Look("embedding", "#56B4E9", "\\\\\\"),
    "dispatch": Look("dispatch", "#D55E00"),
    "combine": Look("combine", "#CC79A7"),
    "p2p": Look("pipeline transfer", "#F0E442"),
}
_OTHER = Look("other", "#B5B5B5", "||", "#6E6E6E")


@dataclass(frozen=True, slots=True)
class TimelineWidget:
    """HTML of the timeline, and the scripts it needs in order."""

    body: str
    scripts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Reasons:
    """Why the GPUs shown wait: idle intervals, and rows on the critical path."""

    idle: IdlePieces
    critical: I64


def reasons_of(timeline: Timeline, peers: int = 1) -> Reasons:
    """Reasons for a timeline, or for the view `one_of_each` has of it."""
    path = critical_path(timeline).rows
    if peers == 1:
        return Reasons(idle_pieces(timeline), path)
    shown = np.flatnonzero(timeline.program.rank % peers == 0)
    return Reasons(idle_of_each(timeline, peers), np.flatnonzero(np.isin(shown, path)))


def timeline_widget(timeline: Timeline, memory: Memory, reasons: Reasons) -> TimelineWidget:
    """An interactive timeline of every rank with memory over time under it.

    Args:
        timeline: what ran when.
        memory: of the same ranks.
        reasons: why it waits, `reasons_of(timeline)` or of the larger timeline it is a view of.
    """
    columns, labels, lanes = _columns(timeline, reasons)
    scale, unit = time_unit(max(timeline.makespan_ns, 1))
    document = {
        "columns": {
            name: [kind, base64.b64encode(np.asarray(values, _TYPES[kind]).tobytes()).decode()]
            for name, (kind, values) in columns.items()
        },
        "labels": labels,
        "lanes": lanes,
        "scale": scale,
        "end": timeline.makespan_ns,
        "most": MOST_SPANS,
        "hatches": _HATCHES,
        "item": _plain_ids(_figures(timeline, memory, scale, unit)),
    }
    data = json.dumps(document, separators=(",", ":")).replace("</", "<\\/")
    body = (
        "<noscript><p>The timeline needs a script; the charts and tables do not.</p></noscript>"
        "<div class='controls'>"
        "<label>Colour by <select id='colour'><option value='action'>action</option>"
        "<option value='component'>component</option></select></label>"
        "<label><input type='checkbox' id='idle' checked> bubbles and exposed communication</label>"
        "<label><input type='checkbox' id='critical'> critical path</label>"
        "<button type='button' id='reset'>Whole step</button>"
        "<span class='note'>Wheel zooms, dragging pans, hovering names a span.</span></div>"
        "<ul class='legend' id='timeline-legend'></ul>"
        "<div class='chart' id='timeline-plot'></div><p class='note' id='timeline-note'></p>"
        f"<script type='application/json' id='timeline-data'>{data}</script>"
    )
    return TimelineWidget(body, (_bokeh_script(), asset("timeline.js")))


def _bokeh_script() -> str:
    path = files("bokeh") / "server" / "static" / "js" / "bokeh.min.js"
    return path.read_text(encoding="utf-8")


def _columns(
    timeline: Timeline, reasons: Reasons
) -> tuple[dict[str, Any], list[dict[str, Any]], list[list[Any]]]:
    """Spans and idle intervals as columns, sorted by start; labels and lanes they point to."""
    program = timeline.program
    codes = part_codes(program)
    rows = np.flatnonzero((program.kind != Kind.SYNC) & (timeline.end_ns > timeline.start_ns))
    idle = reasons.idle
    on_path = np.zeros(program.n, np.uint8)
    on_path[reasons.critical] = 1

    lanes = [[*_LANES.get(name, _LANES["dp"]), name] for name in program.streams]
    labels: list[dict[str, Any]] = []
    index: dict[tuple[str, str, str], int] = {}

    def label(key: tuple[str, str, str], made: dict[str, Any]) -> int:
        if key not in index:
            index[key] = len(labels)
            labels.append(made)
        return index[key]

    of_rows = [
        label((c, a, p), _span_label(c, a, p))
        for c, a, p in (
            (program.components[c], Action(a).name, str(codes.parts[k]))
            for c, a, k in zip(
                program.component[rows].tolist(),
                program.action[rows].tolist(),
                codes.code[rows].tolist(),
                strict=True,
            )
        )
    ]
    of_idle = [
        label(("", "", str(idle.parts[code])), _idle_label(str(idle.parts[code])))
        for code in idle.code.tolist()
    ]
    none, compute = np.full(len(of_idle), -1), program.streams.index("compute")
    start = np.concatenate((timeline.start_ns[rows], idle.start_ns))
    order = np.argsort(start, kind="stable")
    both = {
        "start": ("f8", start),
        "end": ("f8", np.concatenate((timeline.end_ns[rows], idle.end_ns))),
        "rank": ("i2", np.concatenate((program.rank[rows], idle.rank))),
        "lane": ("u1", np.concatenate((program.stream[rows], np.full(len(of_idle), compute)))),
        "label": ("u2", np.array([*of_rows, *of_idle])),
        "layer": ("i2", np.concatenate((program.layer[rows], none))),
        "microbatch": ("i2", np.concatenate((program.microbatch[rows], none))),
        "stage": ("i2", np.concatenate((program.stage[rows], none))),
        "critical": ("u1", np.concatenate((on_path[rows], np.zeros(len(of_idle), np.uint8)))),
    }
    return {name: (kind, values[order]) for name, (kind, values) in both.items()}, labels, lanes


def _span_label(component: str, action: str, part: str) -> dict[str, Any]:
    """What a span is called and how it is painted by action and by component."""
    kind = transfer_kind(component)
    if part.startswith("data_parallel"):
        by_action = by_component = PARTS.get(part, _OTHER)
        name = by_action.label
    elif part.startswith("exposed_comm"):
        by_action = by_component = _COMPONENTS.get(kind, PARTS["exposed_comm"])
        name = f"{kind} ({'B' if action == 'I' else action})"
    else:
        by_action = BLOCKS.get(action, _OTHER)
        by_component = _COMPONENTS.get(component, _OTHER)
        name = f"{component} ({action})"
    return _label(name, action, part, by_action, by_component)


def _idle_label(part: str) -> dict[str, Any]:
    look = PARTS.get(part, PARTS.get(part.split(".")[0], PARTS["exposed_comm"]))
    if part != "bubble":
        look = Look(look.label, "#FFFFFF", "x", "#D55E00")
    return _label(look.label, "", part, look, look) | {"idle": True}


def _label(name: str, action: str, part: str, *looks: Look) -> dict[str, Any]:
    order = [*BLOCKS.values(), *_COMPONENTS.values(), *PARTS.values(), _OTHER]
    painted = [
        {
            "name": look.label,
            "fill": look.fill,
            "hatch": _HATCH.get(look.hatch, look.hatch or " "),
            "css": _css(look),
            "order": order.index(look) if look in order else len(order),
        }
        for look in looks
    ]
    made = {"name": name, "letter": action[:1], "part": part, "idle": False}
    return made | {"action": painted[0], "component": painted[1]}


def _css(look: Look) -> str:
    if not look.hatch:
        return look.fill
    return f"repeating-linear-gradient(45deg, {look.fill} 0 3px, {look.line} 3px 4px), {look.fill}"


def _figures(timeline: Timeline, memory: Memory, scale: float, unit: str) -> Any:
    from bokeh.core.types import ID
    from bokeh.embed import json_item
    from bokeh.layouts import column
    from bokeh.models import Range1d

    end = timeline.makespan_ns / scale
    shared = Range1d(start=0, end=end, bounds=(0, end))
    layout = column(
        _timeline_figure(timeline, shared, unit),
        _memory_figure(memory, shared, scale, unit),
        sizing_mode="stretch_width",
    )
    return json_item(layout, ID("timeline-plot"))


def _figure(shared: Any, unit: str, **settings: Any) -> figure:
    """A figure over the common time axis, as wide as the page: wheel zooms, dragging pans."""
    from bokeh.plotting import figure

    made = figure(
        sizing_mode="stretch_width",
        x_range=shared,
        active_drag="xpan",
        active_scroll="xwheel_zoom",
        x_axis_label=f"time ({unit})",
        output_backend="canvas",
        **settings,
    )
    made.toolbar.logo = None
    return made


def _timeline_figure(timeline: Timeline, shared: Any, unit: str) -> Plot:
    from bokeh.models import ColumnDataSource, HoverTool, Range1d

    program = timeline.program
    ranks = program.n_ranks
    made = _figure(
        shared,
        unit,
        name="timeline",
        height=min(150 + 34 * ranks, 1100),
        y_range=Range1d(start=ranks - 0.5, end=-0.5),
        tools="xpan,xwheel_zoom,box_zoom,reset",
    )
    made.ygrid.visible = False
    step = 1 if ranks <= 32 else ranks // 16
    ticks = list(range(0, ranks, step))
    made.yaxis.ticker = ticks
    made.yaxis.major_label_overrides = {rank: _rank_name(timeline, rank) for rank in ticks}
    columns = ["left", "right", "top", "bottom", "fill", "label", "rank", "stream"]
    columns += ["start", "length", "layer", "microbatch", "stage", "part"]
    # A glyph for each hatch: bokeh draws a pattern anew for every bar of a glyph that mixes them.
    spans = [
        made.quad(
            left="left",
            right="right",
            top="top",
            bottom="bottom",
            fill_color="fill",
            hatch_pattern=hatch,
            hatch_color="#333333",
            hatch_alpha=0.45,
            hatch_scale=7,
            hatch_weight=0.6,
            line_color=None,
            source=ColumnDataSource({name: [] for name in columns}),
            name=f"spans{hatch}",
        )
        for hatch in _HATCHES
    ]
    made.text(
        x="x",
        y="y",
        text="text",
        text_align="center",
        text_baseline="middle",
        text_font_size="10px",
        text_color="#000000",
        source=ColumnDataSource({"x": [], "y": [], "text": []}),
        name="captions",
    )
    made.segment(
        x0="left",
        x1="right",
        y0="y",
        y1="y",
        line_color="#C00000",
        line_width=3,
        source=ColumnDataSource({"left": [], "right": [], "y": []}),
        name="critical",
    )
    said = [("", "@label"), ("rank", "@rank, stage @stage, stream @stream")]
    said += [("from", "@start"), ("length", "@length"), ("layer", "@layer")]
    said += [("micro-batch", "@microbatch"), ("booked as", "@part")]
    made.add_tools(HoverTool(renderers=list(spans), tooltips=said, point_policy="follow_mouse"))
    return made


def _rank_name(timeline: Timeline, rank: int) -> str:
    program = timeline.program
    stages = np.unique(program.stage[(program.rank == rank) & (program.stage >= 0)]).tolist()
    if not stages:
        return f"rank {rank}"
    said = ", ".join(map(str, stages)) if len(stages) <= 4 else f"{stages[0]} to {stages[-1]}"
    return f"rank {rank} (stage{'s' * (len(stages) > 1)} {said})"


def _memory_figure(memory: Memory, shared: Any, scale: float, unit: str) -> Plot:
    from bokeh.models import ColumnDataSource, DataRange1d, HoverTool

    peak = memory.peak
    made = _figure(
        shared,
        unit,
        name="memory",
        height=240,
        y_range=DataRange1d(start=0),
        y_axis_label="GiB in use",
        tools="xpan,xwheel_zoom,reset",
    )
    fullest, emptiest = int(peak.argmax()), int(peak.argmin())
    looks = {fullest: ("#D55E00", "solid"), emptiest: ("#0072B2", "dashed")}
    for rank, (colour, dash) in looks.items():
        at, used = memory.timeline(rank)
        # What is held before the first change and after the last is memory in use, too.
        base = [sum(int(part[rank]) for part in memory.static.values())]
        at = np.concatenate(([0], at, [round(shared.end * scale)]))
        used = np.concatenate((base, used, used[-1:] if len(used) else base))
        source = ColumnDataSource({"x": at / scale, "y": used / _GIB, "rank": [rank] * len(at)})
        said = "fullest" if rank == fullest else "emptiest"
        made.step(
            x="x",
            y="y",
            mode="after",
            line_color=colour,
            line_dash=dash,
            line_width=1.5,
            source=source,
            legend_label=f"rank {rank}, the {said}",
        )
    made.line(
        x=[0, shared.end],
        y=[memory.capacity_gib] * 2,
        line_color=INK,
        line_dash="dotted",
        legend_label="capacity",
    )
    made.add_layout(made.legend[0], "above")
    made.legend.orientation = "horizontal"
    made.legend.label_text_font_size = "10px"
    made.add_tools(HoverTool(tooltips=[("rank", "@rank"), ("GiB", "@y{0.00}")], mode="mouse"))
    return made


def _plain_ids(item: Any) -> Any:
    """The same figures with ids counted from 1: bokeh's count on through a process."""
    text = json.dumps(item)
    seen: dict[str, str] = {}

    def numbered(match: re.Match[str]) -> str:
        return f'"{seen.setdefault(match[1], f"m{len(seen) + 1}")}"'

    return json.loads(re.sub(r'"(p\d+)"', numbered, text))
