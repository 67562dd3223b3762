"""The bubble at several numbers of micro-batches, simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simdeep.cli.console import Progress
from simdeep.cli.options import Source

if TYPE_CHECKING:
    from simdeep.api import Result
    from simdeep.report.charts import BubbleCurve
    from simdeep.spec.scenario import Scenario

_BELOW = 3
_SPAN = 8
"""The curve begins at this part of the scenario's micro-batches, but not below two a rank."""


def bubble_curve(source: Source, result: Result, bar: Progress) -> BubbleCurve | None:
    """Simulate a training step with other batch sizes; None where there is no pipeline.

    Args:
        source: where the scenario of `result` came from.
        result: the point of the scenario's own batch size.
        bar: told of each simulation.
    """
    from simdeep.api import simulate
    from simdeep.report.charts import BubbleCurve

    scenario = result.scenario
    if scenario.kind != "train" or scenario.layout.pp < 2:
        return None
    per_microbatch = scenario.layout.dp * scenario.train.mbs
    found = {scenario.microbatches: result}
    for count in microbatch_counts(scenario):
        bar.stage(f"simulating {scenario.train.schedule} with {count} micro-batches")
        found[count] = simulate(
            source.load(
                simulate__engine="compiled",
                train__schedule=scenario.train.schedule,
                train__gbs=str(count * per_microbatch),
            )
        )
    points = sorted(found)
    bubbles = [found[count].bubbles for count in points]
    closed = [b.closed_form_s for b in bubbles if b.closed_form_s is not None]
    return BubbleCurve(
        schedule=scenario.train.schedule,
        microbatches=tuple(points),
        bubble_s=tuple(b.bubble_s.mean for b in bubbles),
        makespan_s=tuple(b.makespan_s for b in bubbles),
        closed_form_s=tuple(closed) if len(closed) == len(points) else (),
    )


def microbatch_counts(scenario: Scenario) -> tuple[int, ...]:
    """A few even counts below the scenario's own, in equal ratios, and some above.

    Only counts that the schedule can run; the scenario's own is left out.
    """
    from simdeep.program.schedule import schedule_problems

    layout, own = scenario.layout, scenario.microbatches
    name = scenario.train.schedule
    low = max(2 * layout.pp, own // _SPAN)
    below = [2 * round(low * (own / low) ** (step / _BELOW) / 2) for step in range(_BELOW)]
    wanted = {*(below if low < own else [4 * own]), 2 * own} - {own}
    allowed = (m for m in wanted if not schedule_problems(name, layout.pp, m, layout.vpp))
    return tuple(sorted(allowed))
