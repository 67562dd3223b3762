"""What a run of every GPU shows beyond a folded one: stragglers, faults, effective time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from simdeep.report.summary import seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simdeep.analysis.steps import FaultCost
    from simdeep.api import Result

SHOWN = 8
"""Stragglers listed on the console; JSON has `LISTED`."""

LISTED = 32


def unfolded_json(result: Result, cost: FaultCost | None) -> dict[str, Any]:
    """Keys of a result whose GPUs are all simulated, or whose scenario tells of failures."""
    found: dict[str, Any] = {}
    if result.stragglers is not None:
        per_node = result.scenario.topology.gpus_per_node
        found["stragglers"] = [
            {"rank": s.rank, "node": s.rank // per_node, "why": s.why, **_seconds(asdict(s))}
            for s in result.stragglers.slowest(LISTED)
        ]
    if cost is not None:
        found["faults"] = asdict(cost) | {"added_s": cost.added_s, "ratio": cost.ratio}
    if result.effective is not None:
        found["effective_training"] = asdict(result.effective)
    return found


def _seconds(straggler: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in straggler.items() if name != "rank"}


def unfolded_tables(result: Result, cost: FaultCost | None) -> Iterator[RenderableType]:
    """Tables behind those of a folded run."""
    from simdeep.report.tables import grid, titled

    stragglers = result.stragglers
    if stragglers is not None:
        table = grid("GPU>", "node>", "why", "compute>", "over peers>", "others waited>", "held>")
        per_node = result.scenario.topology.gpus_per_node
        for s in stragglers.slowest(SHOWN):
            table.add_row(
                str(s.rank),
                str(s.rank // per_node),
                s.why,
                seconds(s.compute_s),
                seconds(s.slower_s),
                seconds(s.caused_s),
                seconds(s.held_s),
            )
        yield from titled(f"GPUs that others lost most to, {SHOWN} of {_gpus(result)}", table)
    if cost is not None:
        table = grid("what", "value>")
        table.add_row("step with the faults", seconds(cost.with_s))
        table.add_row("step without", seconds(cost.without_s))
        table.add_row("the faults add", f"{seconds(cost.added_s)} ({cost.ratio - 1:+.1%})")
        yield from titled("Faults", table)
    effective = result.effective
    if effective is not None:
        table = grid("what", "value>")
        share = f"{effective.ratio:.1%} ({effective.low:.1%} to {effective.high:.1%})"
        table.add_row("share of time that trains, 5th to 95th percentile", share)
        table.add_row(f"failures in {effective.days:g} days", f"{effective.failures_per_run:.1f}")
        table.add_row("lost to checkpoints", f"{effective.checkpoints:.2%}")
        table.add_row("lost to restarts", f"{effective.restarts:.2%}")
        table.add_row("lost to training again", f"{effective.repeated:.2%}")
        table.add_row("checkpoint every", seconds(effective.interval_s))
        table.add_row("best interval", seconds(effective.optimum_s))
        yield from titled("Effective training time", table)


def _gpus(result: Result) -> str:
    return f"{result.timeline.program.n_ranks:,}"
