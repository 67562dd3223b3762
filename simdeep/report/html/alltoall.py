"""The report of an expert dispatch and combine on the fabric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

import simdeep
from simdeep.report.html.markup import answer, blocks, inputs_table, svg, table_html
from simdeep.report.html.page import Section, page
from simdeep.report.inputs import Input
from simdeep.report.summary import plain, seconds
from simdeep.report.tables import grid
from simdeep.units import fmt_bandwidth

if TYPE_CHECKING:
    from simdeep.network import Outcome

_TRAFFIC = "Traffic and port loads"
_INPUTS = "What shaped this answer"


def alltoall_page(name: str, outcomes: Sequence[Outcome]) -> str:
    """A whole HTML document; the same outcomes give the same text.

    Args:
        name: of the scenario.
        outcomes: its directions, simulated.
    """
    from simdeep.report.alltoall_tables import alltoall_tables, headline

    said = blocks(alltoall_tables(outcomes))
    tables = [
        Section(f"table{number}", title, "".join(parts))
        for number, (title, parts) in enumerate(said.items())
        if title
    ]
    sections = [
        *tables,
        Section("traffic", _TRAFFIC, _drawn(outcomes)),
        Section("inputs", _INPUTS, inputs_table(_inputs(outcomes[0])) + _setting(outcomes)),
    ]
    foot = f"Made by simdeep {simdeep.__version__} from {escape(name)}. Same setting, same report."
    title = f"simdeep report: {name}"
    return page(title, headline(outcomes), _answer(outcomes), sections, foot)


def traffic(outcomes: Sequence[Outcome]) -> str:
    """Charts and tables of an all-to-all, as part of a page."""
    from simdeep.report.alltoall_tables import alltoall_tables

    said = blocks(alltoall_tables(outcomes))
    tables = (
        (f"<h3>{escape(title)}</h3>" if title else "") + "".join(parts)
        for title, parts in said.items()
    )
    return _drawn(outcomes) + "".join(tables)


def _drawn(outcomes: Sequence[Outcome]) -> str:
    from simdeep.report.charts.ports import port_loads
    from simdeep.report.charts.traffic import traffic_matrix

    body = []
    for outcome in outcomes:
        name = outcome.direction
        body.append(f"<h3>{escape(name.capitalize())}</h3>")
        body.append(svg(traffic_matrix(outcome), f"bytes from GPU to GPU of the {name}"))
        body.append(svg(port_loads(outcome), f"busy time of every GPU's ports in the {name}"))
    return "".join(body)


def _answer(outcomes: Sequence[Outcome]) -> str:
    from simdeep.report.alltoall_tables import CAUSES

    cells: list[tuple[str, str, str]] = []
    for outcome in outcomes:
        note = f"limited by {CAUSES[outcome.bottleneck]}"
        cells.append((outcome.direction, seconds(outcome.time_s), note))
        rate = plain(outcome.row()["ib_gbps_logical"])
        if outcome.setting.nodes > 1:
            cells.append((f"{outcome.direction} over IB", f"{rate} GB/s", "a GPU, logical"))
    setting, routed = outcomes[0].setting, outcomes[0].routed
    cells += [
        ("group", f"EP{setting.ep}", f"{setting.tokens:,} tokens a GPU"),
        ("nodes of a token", plain(routed.nodes_per_token), f"of {setting.nodes}"),
        ("busiest over mean GPU", f"{routed.max_over_mean_load:.2f}", "by (token, expert)"),
    ]
    return answer(cells)


def _inputs(outcome: Outcome) -> Iterator[Input]:
    setting = outcome.setting
    topology = setting.topology
    text = f"{setting.model}: {setting.hidden:,} wide, {setting.dtype} tokens"
    yield Input("model", text, "Hugging Face config.json")
    known = [topology.sources.get(key, "") for key in ("nvlink.bandwidth", "nic.bandwidth")]
    yield Input(
        "cluster",
        f"{topology.name}: NVLink {fmt_bandwidth(topology.nvlink_bw)}, NIC "
        f"{fmt_bandwidth(topology.nic_bw)} a GPU and direction",
        "; ".join(dict.fromkeys(filter(None, known))) or "topology file",
    )
    source = "data/alltoall/deepep.yaml: published rates of DeepEP's kernels"
    yield Input("kernels", f"{setting.mode}, {setting.comm_sms} SMs", source)


def _setting(outcomes: Sequence[Outcome]) -> str:
    from simdeep.report.alltoall_json import setting_json

    table = grid("setting", "value")
    for key, value in setting_json(outcomes[0].setting).items():
        table.add_row(key.replace("_", " "), "" if value is None else str(value))
    return "<h3>The setting</h3>" + table_html(table)
