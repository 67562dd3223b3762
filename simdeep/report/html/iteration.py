"""The report of a serving scenario without traffic: one iteration of each of its units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import simdeep
from simdeep.report.html.markup import answer, details, inputs_table, plain_text, svg, table_html
from simdeep.report.html.page import Section, page
from simdeep.report.serving_inputs import serving_inputs
from simdeep.report.serving_iteration import Look, iterations_json, iterations_report
from simdeep.report.summary import plain, seconds
from simdeep.report.tables import grid

if TYPE_CHECKING:
    from simdeep.serving.iteration import Iteration
    from simdeep.spec.serve import ServeScenario

_MEANING = {
    "embed": "token embedding",
    "project": "norm and down projections before attention",
    "query": "query and key-value projections of attention",
    "core": "attention itself: scores, softmax and values over the KV cache",
    "output": "output projection of attention",
    "gate": "norm and gate: which experts a token goes to",
    "norm": "norms between blocks",
    "dense": "FFN of the dense layers",
    "shared": "the shared expert",
    "experts": "the routed experts' GEMMs",
    "receive": "putting received tokens together",
    "head": "output head and sampling",
    "draft_in": "input of the module that drafts tokens",
    "dispatch": "tokens to their experts (all-to-all)",
    "combine": "results back from the experts (all-to-all)",
    "gather": "all-gather of a tensor parallel group",
    "reduce": "reduce-scatter or all-reduce of a tensor parallel group",
    "regather": "all-gather after the reduction",
    "launch": "the host launching kernels",
}
_TRANSFERS = ("dispatch", "combine", "gather", "reduce", "regather")


def iteration_page(scenario: ServeScenario, found: Mapping[str, Look]) -> str:
    """A whole HTML document; the same scenario gives the same text.

    Args:
        scenario: without traffic.
        found: its iterations by role, as `looked_at` gives them.
    """
    said = {role: _headline(role, look) for role, look in found.items()}
    document = iterations_json(scenario, found)
    each = document.get("units", dict.fromkeys(found, document))
    cells = [cell for role in found for cell in _cells(role, each[role], len(found) > 1)]
    sections = [s for role, look in found.items() for s in _sections(role, look[0], each[role])]
    foot = (
        f"Made by simdeep {simdeep.__version__} from {escape(scenario.name)}; fingerprint "
        f"<code>{scenario.fingerprint}</code>. Same scenario, same report."
    )
    title = f"simdeep report: {scenario.name}"
    whole = [*sections, _inputs(scenario)]
    return page(title, " ".join(said.values()), answer(cells), whole, foot)


def _headline(role: str, look: Look) -> str:
    return plain_text(next(iter(iterations_report({role: look})))).strip()


def _cells(role: str, unit: Mapping[str, Any], several: bool) -> Iterator[tuple[str, str, str]]:
    """The figures a lead wants first."""
    of = f"{role}: " if several else ""
    batch = []
    if unit["prefill_tokens_per_rank"]:
        batch.append(f"{unit['prefill_tokens_per_rank']:,.0f} prompt tokens")
    if unit["decode_rows_per_rank"]:
        batch.append(f"{unit['decode_rows_per_rank']:,.0f} sequences")
    yield f"{of}iteration", seconds(unit["iteration_ms"] / 1e3), f"{', '.join(batch)} a rank"
    per_node = f"{plain(unit['tokens_per_s_per_node'], 4)} a node"
    yield f"{of}tokens/s a GPU", plain(unit["tokens_per_s_per_gpu"], 4), per_node
    if user := unit["tokens_per_s_per_user"]:
        yield f"{of}tokens/s a user", plain(user), "that a decoding sequence gains"
    waits = unit["exposed_comm_ms"] / unit["iteration_ms"]
    yield f"{of}exposed communication", f"{waits:.1%}", "a transfer runs and no kernel"
    memory = unit["memory"]
    room = f"{memory['kv_capacity_tokens']:,} tokens a rank"
    yield f"{of}KV cache", f"{memory['kv_gib']:.1f} GiB", room


def _sections(role: str, look: Iteration, unit: Mapping[str, Any]) -> Iterator[Section]:
    from simdeep.report.charts import iteration as charts

    name = f"{role.capitalize()} iteration"
    streams = svg(charts.iteration_streams(look.timeline), f"streams of a GPU, {role} iteration")
    note = (
        "<p class='note'>What overlaps comes out of the simulation: kernels on the compute stream, "
        "dispatch and combine on the communication stream.</p>"
    )
    yield Section(f"{role}-streams", f"{name} on its streams", note + streams)
    kinds = {part: _kind(part) for part in look.parts}
    parts = {part: (value, kinds[part]) for part, value in look.parts.items() if value}
    drawn = svg(charts.iteration_parts(parts, look.seconds), f"parts of the {role} iteration")
    yield Section(f"{role}-parts", f"{name}: where the time goes", _parts(look) + drawn)
    memory = unit["memory"]
    sizes = {key.replace("_", " "): gib for key, gib in memory["parts_gib"].items() if gib}
    sizes["KV cache"] = memory["kv_gib"]
    table = grid("part", "GiB>", "share of the GPU>")
    for part, gib in sizes.items():
        table.add_row(part, f"{gib:.2f}", f"{gib / memory['capacity_gib']:.1%}")
    bar = svg(charts.unit_memory(sizes, memory["capacity_gib"]), f"memory of a GPU, {role} unit")
    room = (
        f"<p>A token takes {memory['kv_bytes_per_token']:,.0f} bytes of KV cache, so that a rank "
        f"holds {memory['kv_capacity_tokens']:,} tokens.</p>"
    )
    title = f"Memory of a GPU of a {role} unit"
    yield Section(f"{role}-memory", title, table_html(table) + room + bar)


def _kind(part: str) -> str:
    if part == "launch":
        return "host"
    return "transfer" if part in _TRANSFERS else "compute"


def _parts(look: Iteration) -> str:
    table = grid("part", "time>", "of the iteration>", "what it is")
    for part, value in sorted(look.parts.items(), key=lambda item: -item[1]):
        if value:
            share = f"{value / look.seconds:.1%}"
            table.add_row(part, seconds(value), share, _MEANING.get(part, ""))
    table.add_section()
    for text, value in (
        ("no kernel runs", look.exposed_s),
        ("of it while a transfer does", look.exposed_comm_s),
        ("the iteration", look.seconds),
    ):
        table.add_row(text, seconds(value), f"{value / look.seconds:.1%}", "")
    return table_html(table)


def _inputs(scenario: ServeScenario) -> Section:
    from simdeep.report.output import scenario_text

    listing = f"<pre>{escape(scenario_text(scenario.name, scenario.resolved()))}</pre>"
    body = inputs_table(serving_inputs(scenario))
    body += details("The whole scenario, as a file", listing)
    return Section("inputs", "What shaped this answer", body)
