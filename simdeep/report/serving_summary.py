"""A serving result as text for a console."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from simdeep.report.summary import plain, seconds, short
from simdeep.report.tables import grid, titled
from simdeep.serving.results import Quantiles

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from simdeep.serving.results import ServeResult


def serving_report(result: ServeResult) -> Iterator[RenderableType]:
    """Everything `simdeep run` shows of a serving scenario, top to bottom."""
    from rich.text import Text

    yield Text(serving_headline(result))
    yield Text("")
    yield Text(result.limit.sentence)
    yield Text("")
    yield from titled("What users see", _latencies(result))
    yield from titled("Throughput and cost", _throughput(result))
    yield from titled("How busy", _utilisation(result))
    if result.by_hour:
        yield from titled("Hour by hour", _hours(result))
    yield from titled("What shaped this answer", _inputs(result))
    yield Text(_engine(result))


def serving_headline(result: ServeResult) -> str:
    """The answer in a few sentences."""
    found = result.figures
    gpus = sum(found.gpus.values())
    gpu = result.scenario.topology.gpu.id.upper()
    said = [
        f"{round(gpus):,} {gpu} GPUs serve {amount(found.requests_per_s)} requests a second: "
        f"{amount(found.input_tokens_per_s)} input tokens and "
        f"{amount(found.output_tokens_per_s)} output tokens a second.",
        f"The first token comes after {seconds(found.ttft_s.p50)} (p99 "
        f"{seconds(found.ttft_s.p99)}), then one every {seconds(found.tpot_s.p50)} (p99 "
        f"{seconds(found.tpot_s.p99)}).",
        f"A million input tokens cost ${plain(found.usd_per_mtok_input)}, a million output tokens "
        f"${plain(found.usd_per_mtok_output)}.",
        slo_sentence(result),
    ]
    return " ".join(part for part in said if part)


def slo_sentence(result: ServeResult) -> str:
    """Whether the SLO is met, and by how many requests each of its promises is; empty if none."""
    found, slo = result.figures, result.scenario.slo
    if found.slo_attainment is None:
        return ""
    texts = {
        "TTFT": f"the first token within {seconds(slo.ttft or 0)}",
        "TPOT": f"{seconds(slo.tpot or 0)} a token",
    }
    parts = ", ".join(f"{texts[name]}: {share:.1%}" for name, share in found.slo_parts.items())
    verb = "is met" if result.meets_slo else "is NOT met"
    return (
        f"The SLO {verb}: {found.slo_attainment:.1%} of the requests keep it, {slo.share:.0%} "
        f"promised ({parts})."
    )


def amount(value: float) -> str:
    """A count in words that read like English: `1,800`, `7.04 million`."""
    rounded = float(f"{value:.3g}")
    for scale, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(rounded) >= scale:
            return f"{plain(rounded / scale)} {word}"
    return plain(value)


def clock(hour: float) -> str:
    """An hour of the day as a clock shows it: `01:15`."""
    minutes = round(60 * hour)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _latencies(result: ServeResult) -> Table:
    found, slo = result.figures, result.scenario.slo
    table = grid("latency", "mean>", "p50>", "p90>", "p99>", "SLO>")
    rows: tuple[tuple[str, str, Quantiles, float | None], ...] = (
        ("time to first token", "ttft_s", found.ttft_s, slo.ttft),
        ("time an output token (TPOT)", "tpot_s", found.tpot_s, slo.tpot),
        ("gap between tokens", "", result.gap_s, None),
        ("end to end", "e2e_s", found.e2e_s, None),
    )
    for name, code, values, limit in rows:
        cells = [seconds(values.mean)]
        for point in ("p50", "p90", "p99"):
            error = result.errors.get(f"{code}.{point}")
            text = seconds(getattr(values, point))
            cells.append(text if error is None else f"{text} ±{seconds(error, 2)}")
        table.add_row(name, *cells, "" if limit is None else seconds(limit))
    return table


def _throughput(result: ServeResult) -> Table:
    found = result.figures
    table = grid("figure", "value>", "± (95%)>", "what it is")

    def add(name: str, value: str, code: str = "", what: str = "") -> None:
        error = result.errors.get(code)
        table.add_row(name, value, "" if error is None else plain(error, 2), what)

    add(
        "goodput, requests/s",
        plain(found.goodput_rps, 4),
        "goodput_rps",
        "those that keep the whole SLO",
    )
    add(
        "input tokens/s a node",
        plain(found.input_tokens_per_s_per_node, 4),
        "input_tokens_per_s_per_node",
        f"cached ones included; {plain(found.new_tokens_per_s, 4)}/s computed in all",
    )
    add(
        "output tokens/s a node",
        plain(found.output_tokens_per_s_per_node, 4),
        "output_tokens_per_s_per_node",
        f"{plain(found.output_tokens_per_s, 4)}/s in all",
    )
    speed = found.tokens_per_s_per_user
    add("tokens/s a user", plain(speed), "tokens_per_s_per_user", "one over the mean TPOT")
    nodes = ", ".join(f"{plain(n)} {role}" for role, n in found.nodes.items())
    add("nodes", plain(sum(found.nodes.values()), 4), "", f"{nodes}; mean of what is paid for")
    cost = found.usd_per_hour
    add("dollars an hour", f"${plain(cost, 4)}", "", f"${short(24 * cost, digits=4)} a day")
    for side in ("input", "output"):
        code = f"usd_per_mtok_{side}"
        add(f"dollars a million {side} tokens", f"${plain(getattr(found, code))}", code)
    return table


def _utilisation(result: ServeResult) -> Table:
    found = result.figures
    table = grid("component", "value>")
    for name, share in found.utilisation.items():
        table.add_row(name, f"{share:.1%}")
    for role, share in found.kv_occupancy.items():
        table.add_row(f"{role} KV cache in use", f"{share:.1%}")
    table.add_row("sequences decoding on a rank", plain(found.rows_per_rank))
    waiting = found.in_state["waiting"] + found.in_state["backlog"]
    table.add_row("prompts waiting", plain(waiting))
    table.add_row("requests waiting to decode", plain(found.in_state["held"]))
    table.add_row("preemptions in 1,000 requests", plain(1e3 * found.preempted))
    table.add_row("requests redone after failures, in 1,000", plain(1e3 * found.redone))
    return table


def _hours(result: ServeResult) -> Table:
    roles, promises = list(result.kinds.kinds), list(result.figures.slo_parts)
    table = grid("from>", "requests/s>", *(f"{role} units>" for role in roles), "TTFT p90>",
                 "TPOT p90>", *(f"{name} kept>" for name in promises))  # fmt: skip
    for run, found in zip(result.runs, result.by_hour, strict=True):
        units = [str(run.window.units[role]) for role in roles]
        cells = [""] * (2 + len(promises))
        if found is not None:
            cells = [seconds(found.ttft_s.p90), seconds(found.tpot_s.p90)]
            cells += [f"{found.slo_parts[name]:.1%}" for name in promises]
        start = "" if run.window.hour is None else clock(run.window.hour)
        table.add_row(start, plain(run.window.rate, 4), *units, *cells)
    return table


def _inputs(result: ServeResult) -> Table:
    scenario = result.scenario
    traffic, window = scenario.traffic, scenario.window
    assert traffic is not None
    table = grid("input", "value")
    for role, unit in result.kinds.units.items():
        kind = result.kinds.kinds[role]
        table.add_row(
            f"{role} units",
            f"{kind.units} of {unit.gpus} GPUs: TP{unit.tp} DP{unit.dp} EP{unit.ep}; a rank's KV "
            f"cache holds {kind.kv_tokens:,} tokens",
        )
    lengths = "lengths from the trace"
    if traffic.arrival != "trace":
        lengths = (
            f"{plain(traffic.input.mean, 4)} input and {plain(traffic.output.mean, 4)} output "
            f"tokens on average (cv {traffic.input.cv:g} and {traffic.output.cv:g})"
        )
    table.add_row("traffic", f"{traffic.arrival}; {lengths}; {traffic.cached_share:.1%} cached")
    table.add_row(
        "simulated",
        f"{len(result.runs)} window{'s' if len(result.runs) > 1 else ''}, {window.duration:g} s "
        f"measured after {window.warmup:g} s; seed {scenario.simulate.seed}"
        if traffic.arrival != "trace"
        else "the trace",
    )
    if result.figures.unfinished > 0:
        table.add_row(
            "not done at the end",
            f"{result.figures.unfinished:.1%} of the requests measured: they count with the pace "
            "they had",
        )
    return table


def _engine(result: ServeResult) -> str:
    done = [run.outcome for run in result.runs if run.outcome is not None]
    count, wall = sum(o.requests.n for o in done), sum(o.wall_s for o in done)
    return (
        f"Engine: {result.scenario.simulate.engine}, {count:,} requests in {seconds(wall)}. "
        f"Fingerprint {result.scenario.fingerprint[:12]}."
    )
