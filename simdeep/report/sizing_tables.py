"""A sizing as text for a console."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simdeep.report.tables import grid, titled
from simdeep.serving.sizing.candidates import describe
from simdeep.serving.sizing.why import alternatives, misses, reason, shortfall
from simdeep.units import fmt_time

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from simdeep.serving.sizing.front import Deployment
    from simdeep.serving.sizing.goal import Goal
    from simdeep.serving.sizing.size import SizeResult
    from simdeep.serving.sizing.verify import Verified

DROPPED = {
    "rules": "forbidden by rules",
    "memory": "weights and buffers are more than a GPU has",
    "kv": "the KV cache does not hold the longest request",
    "tpot": "a single row takes longer than the TPOT promised",
    "ttft": "a prompt alone takes longer than the TTFT promised",
    "gpus": "the cluster has too few GPUs for the rate",
}
"""Why designs are dropped."""


def sizing_tables(result: SizeResult, launch: str | None = None) -> Iterator[RenderableType]:
    """Everything `simdeep size` shows."""
    from rich.text import Text

    winner = result.winner
    if winner is None:
        yield Text(f"No deployment meets the goal ({goal_text(result.goal)}).\n")
        near = result.nearest
        what = "" if near is None else f"{deployment_text(near.deployment)}: "
        yield Text(f"Nearest: {what}{shortfall(result)}.\n")
    else:
        yield Text(_headline(result, winner) + "\n")
        yield from titled("Why it won", Text(reason(result)))
        others = alternatives(result)
        if others:
            yield from titled(
                "The cheapest with another value of one choice, by the estimate",
                _alternatives(result),
            )
        title = "Pareto front: dollars, TPOT, TTFT (simulated; +- is half a 95% interval)"
        yield from titled(title, _front(result.front, result))
    if winner is None and result.verified:
        yield from titled("Simulated", _front(result.verified, result))
    yield from titled("How the space was searched", _searched(result))
    if launch is not None:
        yield from titled("Launch commands", Text(launch))


def goal_text(goal: Goal) -> str:
    """The goal in words."""
    parts = [f"TTFT {fmt_time(goal.ttft_s, 3)}"] if goal.ttft_s is not None else []
    parts += [f"TPOT {fmt_time(goal.tpot_s, 3)}"] if goal.tpot_s is not None else []
    load = f"{goal.rate:,.6g} requests/s" if goal.rate is not None else f"{goal.gpus:,} GPUs"
    return f"{load}, {goal.share:.0%} of requests within {' and '.join(parts)}"


def deployment_text(one: Deployment) -> str:
    """A deployment in words."""
    units = " and ".join(
        f"{count} x {describe(one.parts[role].design.unit)}" for role, count in one.units.items()
    )
    return f"{one.gpus:,} {one.scenario.topology.gpu.name}: {units}"


def _headline(result: SizeResult, winner: Verified) -> str:
    figures, one = winner.figures, winner.deployment
    nodes = -(-one.gpus // one.scenario.topology.gpus_per_node)
    met = figures.slo_attainment or 0.0
    error = winner.errors.get("slo_attainment")
    about = "" if error is None else f" +- {error:.1%}"
    return (
        f"{deployment_text(one)} ({nodes:,} nodes) serve {one.rate:,.5g} requests/s for "
        f"${winner.usd_per_mtok:,.3f} per million tokens (input ${figures.usd_per_mtok_input:,.3f},"
        f" output ${figures.usd_per_mtok_output:,.3f}), "
        f"${one.gpus * one.scenario.usd_per_gpu_hour:,.0f} an hour. {met:.1%}{about} of requests "
        f"meet the goal ({goal_text(result.goal)}); median TTFT {fmt_time(figures.ttft_s.p50, 3)}, "
        f"TPOT {fmt_time(figures.tpot_s.p50, 3)}."
    )


def _alternatives(result: SizeResult) -> Table:
    table = grid("choice", "value", "$/Mtoken>", "more>")
    for other in alternatives(result):
        table.add_row(other.choice, other.value, f"{other.usd_per_mtok:.3f}", f"{other.more:+.1%}")
    return table


def _front(shown: Sequence[Verified], result: SizeResult) -> Table:
    several = len({one.deployment.scenario.topology.gpu.id for one in shown}) > 1
    rate = ["req/s>"] if result.goal.rate is None else []
    table = grid("units", "GPUs>", *rate, "$/Mtok>", "TTFT p50>", "TPOT p50>", "met>")
    for one in shown:
        figures, deployment = one.figures, one.deployment
        units = "\n".join(
            f"{count} x {describe(deployment.parts[role].design.unit)}"
            for role, count in deployment.units.items()
        )
        gpu = f" {deployment.scenario.topology.gpu.id}" if several else ""
        table.add_row(
            units if one.meets else f"{units}\n({misses(one, result).split(';')[0]})",
            f"{deployment.gpus:,}{gpu}",
            *([f"{deployment.rate:,.4g}"] if rate else []),
            f"{one.usd_per_mtok:.3f}",
            _with_error(figures.ttft_s.p50, one.errors.get("ttft_s.p50")),
            _with_error(figures.tpot_s.p50, one.errors.get("tpot_s.p50")),
            f"{figures.slo_attainment or 0.0:.1%}",
        )
    return table


def _with_error(seconds: float, error: float | None) -> str:
    text = fmt_time(seconds, 3)
    return text if error is None else f"{text}\n+- {fmt_time(error, 3)}"


def _searched(result: SizeResult) -> Table:
    judged = result.judged
    table = grid("what became of the candidates", "number>")
    table.add_row("units: combinations of the allowed values", f"{judged.tally.combinations:,}")
    for name, count in judged.tally.dropped.most_common():
        table.add_row(f"  dropped: {DROPPED[name]}", f"{count:,}")
    table.add_row("  iterations simulated to price the others", f"{judged.iterations:,}")
    table.add_section()
    table.add_row("deployments judged by the estimate", f"{judged.candidates:,}")
    for name, count in judged.dropped.most_common():
        if count:
            table.add_row(f"  dropped: {name}", f"{count:,}")
    simulated = len(result.verified)
    table.add_row("simulated request by request", f"{simulated:,}")
    meets = len(result.meeting)
    table.add_row("  of them meet the goal", f"{meets:,}")
    if result.refused:
        table.add_row(f"  refused: {result.refused[0]}", f"{len(result.refused):,}")
    requests = sum(one.figures.measured for one in result.verified)
    table.add_row("  requests measured in them", f"{requests:,}")
    return table
