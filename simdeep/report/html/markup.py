"""HTML of what consoles and charts show already: tables, texts, figures."""

from __future__ import annotations

import io
import re
from html import escape
from typing import TYPE_CHECKING

from simdeep.report.charts.canvas import figure_of
from simdeep.report.style import RC

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import RenderableType
    from rich.table import Table

    from simdeep.report.inputs import Input


def table_html(table: Table) -> str:
    """A console table as an HTML table; right-aligned columns keep their alignment."""
    heads, columns = [], []
    for column in table.columns:
        side = ' class="number"' if column.justify == "right" else ""
        heads.append(f"<th scope='col'{side}>{escape(plain_text(column.header))}</th>")
        columns.append([(side, escape(plain_text(cell))) for cell in column.cells])
    rows = []
    for i, cells in enumerate(zip(*columns, strict=True)):
        ruled = " class='rule'" if i and table.rows[i - 1].end_section else ""
        row = "".join(f"<td{side}>{text}</td>" for side, text in cells)
        rows.append(f"<tr{ruled}>{row}</tr>")
    caption = f"<p class='note'>{escape(plain_text(table.caption))}</p>" if table.caption else ""
    head = (
        f"<thead><tr>{''.join(heads)}</tr></thead>" if any(c.header for c in table.columns) else ""
    )
    return f"<div class='scroll'><table>{head}<tbody>{''.join(rows)}</tbody></table></div>{caption}"


def plain_text(part: object) -> str:
    """Text of a table's cell or a paragraph, markup removed."""
    return str(getattr(part, "plain", part))


def blocks(parts: Iterable[RenderableType]) -> dict[str, list[str]]:
    """What a console would show, as HTML by the heading it stands under ("" before the first)."""
    from rich.table import Table
    from rich.text import Text

    found: dict[str, list[str]] = {"": []}
    title = ""
    for part in parts:
        if isinstance(part, Table):
            found[title].append(table_html(part))
        elif isinstance(part, Text) and part.style == "bold":
            title = part.plain
            found[title] = []
        elif text := plain_text(part).strip():
            # Lines of their own are commands or files.
            tag = "pre" if "\n" in text else "p"
            found[title].append(f"<{tag}>{escape(text)}</{tag}>")
    return found


def svg(chart: Figure | Axes, alt: str) -> str:
    """A chart as inline SVG with a text for those who cannot see it; same chart, same bytes."""
    import matplotlib
    from matplotlib.axes import Axes

    figure = figure_of(chart) if isinstance(chart, Axes) else chart
    stream = io.StringIO()
    with matplotlib.rc_context({**RC, "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # Without the digits of coordinates that nobody sees it is half as large; text keeps its own.
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), text)
    opening = f'<svg role="img" aria-label="{escape(alt)}"'
    return f"<div class='chart'>{text.replace('<svg', opening, 1)}</div>"


def answer(cells: Iterable[tuple[str, str, str]]) -> str:
    """The figures a lead wants first: name, value, and a note on it."""
    cards = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in cells
    )
    return f"<dl class='answer'>{''.join(cards)}</dl>"


def inputs_table(inputs: Iterable[Input]) -> str:
    """Inputs with their sources."""
    from simdeep.report.tables import grid

    table = grid("input", "value", "source")
    for item in inputs:
        table.add_row(item.name, item.value, item.source)
    return table_html(table)


def details(summary: str, body: str) -> str:
    """A part that is folded until it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
