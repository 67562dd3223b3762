"""The report of a simulated serving deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING

import simdeep
from simdeep.report.html.markup import answer, blocks, details, inputs_table, svg, table_html
from simdeep.report.html.page import Section, page
from simdeep.report.serving_inputs import serving_inputs
from simdeep.report.summary import plain, seconds, short
from simdeep.report.tables import grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from simdeep.serving.results import Quantiles, ServeResult

_USERS, _COST, _BUSY = "What users see", "Throughput and cost", "How busy"
_HOURS, _INPUTS = "Hour by hour", "What shaped this answer"


def serving_page(result: ServeResult) -> str:
    """A whole HTML document; the same result gives the same text.

    Args:
        result: a simulated serving scenario.
    """
    from simdeep.report.serving_summary import serving_headline

    scenario = result.scenario
    said = blocks(_without_wall(result))
    foot = (
        f"Made by simdeep {simdeep.__version__} from {escape(scenario.name)}; fingerprint "
        f"<code>{scenario.fingerprint}</code>. Same scenario, same report."
    )
    title = f"simdeep report: {scenario.name}"
    return page(
        title, serving_headline(result), _answer(result), list(_sections(result, said)), foot
    )


def _without_wall(result: ServeResult) -> Sequence[RenderableType]:
    """What the console shows, without its last line: that has the time of this very run."""
    from simdeep.report.serving_summary import serving_report

    return list(serving_report(result))[:-1]


def _answer(result: ServeResult) -> str:
    """The figures a lead wants first."""
    found, slo = result.figures, result.scenario.slo
    gpus, nodes = sum(found.gpus.values()), sum(found.nodes.values())
    cells = [
        ("time to first token", seconds(found.ttft_s.p50), _tail(found.ttft_s, slo.ttft)),
        ("time an output token", seconds(found.tpot_s.p50), _tail(found.tpot_s, slo.tpot)),
        ("end to end", seconds(found.e2e_s.p50), _tail(found.e2e_s, None)),
    ]
    if found.slo_attainment is not None:
        verdict = "met" if result.meets_slo else "NOT met"
        note = f"of requests; {slo.share:.0%} promised: {verdict}"
        cells.append(("within the SLO", f"{found.slo_attainment:.1%}", note))
    cells += [
        (
            "throughput",
            short(found.output_tokens_per_s, "token/s"),
            f"out, {short(found.input_tokens_per_s, 'token/s')} in",
        ),
        ("deployment", f"{plain(gpus)} GPUs", f"{plain(nodes)} nodes, paid for on average"),
        ("a million output tokens", f"${plain(found.usd_per_mtok_output)}", "US dollars"),
        ("a million input tokens", f"${plain(found.usd_per_mtok_input)}", "US dollars"),
        ("a day", f"${short(24 * found.usd_per_hour)}", f"${plain(found.usd_per_hour)} an hour"),
    ]
    return answer(cells)


def _tail(values: Quantiles, limit: float | None) -> str:
    promised = "" if limit is None else f"; promised {seconds(limit)}"
    return f"median; p99 {seconds(values.p99)}{promised}"


def _sections(result: ServeResult, said: Mapping[str, list[str]]) -> Iterator[Section]:
    from simdeep.report.charts import serving as charts

    used = {"", _INPUTS}

    def text(title: str) -> str:
        used.add(title)
        return "".join(said.get(title, ()))

    latency = svg(charts.latency_cdf(result), "share of requests by latency, against the SLO")
    yield Section("users", _USERS, text(_USERS) + latency)
    yield Section("limit", "What limits it", _limit(result))
    over_time = (
        (charts.queues_over_time, "requests waiting, over time"),
        (charts.batches_over_time, "requests in prefill and decode, over time"),
        (charts.kv_over_time, "share of the KV cache in use, over time"),
    )
    drawn = "".join(svg(draw(result), alt) for draw, alt in over_time)
    yield Section("time", "Queues, batches and KV cache over time", _window(result) + drawn)
    bars = svg(charts.utilisation_bars(result), "how busy each component is")
    yield Section("busy", _BUSY, text(_BUSY) + bars)
    cost = svg(charts.cost_bars(result), "dollars for a million input and output tokens")
    yield Section("cost", _COST, text(_COST) + cost)
    if _HOURS in said:
        yield Section("hours", _HOURS, text(_HOURS))
    for number, title in enumerate(title for title in said if title not in used):
        yield Section(f"more{number}", title, "".join(said[title]))
    yield Section("inputs", _INPUTS, "".join(said.get(_INPUTS, ())) + _sources(result))


def _limit(result: ServeResult) -> str:
    table = grid("limit", "reached>")
    for name, share in sorted(result.limit.pressures.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{share:.0%}")
    note = "<p class='note'>100%: the limit is reached. Latencies count at the SLO's share.</p>"
    return f"<p>{escape(result.limit.sentence)}</p>{table_html(table)}{note}"


def _window(result: ServeResult) -> str:
    if not result.by_hour:
        return ""
    return "<p class='note'>The hour with the most requests of those simulated.</p>"


def _sources(result: ServeResult) -> str:
    from simdeep.report.output import scenario_text

    scenario = result.scenario
    listing = f"<pre>{escape(scenario_text(scenario.name, scenario.resolved()))}</pre>"
    return (
        "<h3>Where the numbers come from</h3>"
        + inputs_table(serving_inputs(scenario))
        + details("The whole scenario, as a file", listing)
    )
