"""A plan as text for a console."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simdeep.report.plan_why import difference
from simdeep.report.summary import gpu_name, plain, seconds, short
from simdeep.report.tables import grid, titled

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from simdeep.planner.plan import Plan, PlanResult

_PARTS = {
    "computing": "computing",
    "exposed_comm": "exposed communication",
    "data_parallel": "data parallel",
    "launch_gap": "launch gaps",
    "bubble": "pipeline bubble",
}
_PRUNED = {
    "memory": "memory: more than a GPU has",
    "compute": "compute bound: slower than the ranking even with free transfers and no bubble",
    "bubble": "bubble bound: slower with filling and draining the pipeline",
    "communication": "communication bound: slower with transfers that nothing hides",
}


def plan_tables(result: PlanResult, launch: str | None = None) -> Iterator[RenderableType]:
    """Everything `simdeep plan` shows."""
    from rich.text import Text

    if not result.plans:
        yield Text(f"No plan: {result.tightest}.\n")
    else:
        yield Text(_headline(result) + "\n")
        shown = result.plans[: result.space.keep]
        yield from titled("The best plans", _ranking(result, shown))
        yield from titled("Where their time goes", _where(shown[:5]))
        for other, name in _rivals(result):
            yield from titled(f"Why the first plan beats {name}", _why(result.plans[0], other))
        yield from titled(
            "Pareto front: time, dollars, free memory", _ranking(result, result.pareto[:12])
        )
        if result.effects:
            yield from titled("What matters to the first plan", _effects(result))
    if result.near:
        title = "Better, but a little too large"
        yield from titled(title, _ranking(result, result.near))
    yield from titled("How the space was searched", _pruned(result))
    if launch is not None:
        yield from titled("Launch arguments of the first plan", Text(launch))


def _headline(result: PlanResult) -> str:
    best = result.plans[0]
    topology, judged = best.scenario.topology, best.judged
    goal = result.scenario.goal.tokens
    text = (
        f"{describe(best)} takes {seconds(judged.step_time_s)} a step on {topology.gpus:,} "
        f"{gpu_name(best.scenario)}: ${short(best.usd_per_ttoken)} and "
        f"{plain(best.days_per_ttoken)} days per trillion tokens, MFU {best.mfu:.1%}, "
        f"{judged.memory_peak_gib:.1f} of {judged.capacity_gib:.1f} GiB."
    )
    if goal is not None:
        share = goal / 1e12
        text += (
            f" {short(goal, 'tokens')} take {plain(best.days_per_ttoken * share)} days and "
            f"${short(best.usd_per_ttoken * share)}."
        )
    deadline = result.objective.limits.deadline_s
    if deadline is not None:
        rate = best.scenario.tokens_per_step / judged.step_time_s
        text += f" The deadline allows {short(rate * deadline, 'tokens')}."
    if result.found.proved:
        text += f" No other of {result.candidates:,} candidates is better (proved)."
    else:
        text += (
            f" The search was cut short: of {result.candidates:,} candidates none can be better by "
            f"more than {result.gap:.1%}; raise plan.simulations to close the gap."
        )
    return text


def describe(plan: Plan) -> str:
    """A plan in a few words."""
    return f"{degrees(plan)} under {plan.choice.schedule}"


def degrees(plan: Plan) -> str:
    """Its degrees of parallelism; those of 1 are left out."""
    c = plan.choice
    words = [f"PP{c.pp}"]
    optional = ("vpp", "tp", "cp", "ep")
    words += [f"{name.upper()}{getattr(c, name)}" for name in optional if getattr(c, name) > 1]
    return " ".join([*words, f"DP{c.dp}", f"ZeRO-{c.zero}"])


_SHORT = {"interleaved-1f1b": "1f1b-i", "interleaved-1f1b-overlap": "1f1b-i-overlap"}
_NO_RECOMPUTE = "none"


def _ranking(result: PlanResult, plans: Sequence[Plan]) -> Table:
    many = len(result.clusters) > 1
    columns = ["#>", *(["GPUs"] if many else []), "layout", "mbs>", "schedule", "recompute", "SMs>"]
    table = grid(*columns, "step>", "$/Ttoken>", "MFU>", "GiB>")
    for place, plan in enumerate(plans, 1):
        c = plan.choice
        gpus = f"{plan.scenario.topology.gpus:,} {gpu_name(plan.scenario)}"
        table.add_row(
            str(place),
            *([gpus] if many else []),
            degrees(plan),
            str(c.mbs),
            _SHORT.get(c.schedule, c.schedule),
            ", ".join(c.recompute) or _NO_RECOMPUTE,
            str(c.comm_sms),
            seconds(plan.judged.step_time_s, 4),
            short(plan.usd_per_ttoken),
            f"{plan.mfu:.1%}",
            f"{plan.judged.memory_peak_gib:.1f}",
        )
    return table


def _where(plans: Sequence[Plan]) -> Table:
    table = grid("part, mean over ranks", *(f"plan {i}>" for i in range(1, len(plans) + 1)))
    for name, label in _PARTS.items():
        table.add_row(label, *(seconds(plan.parts.get(name, 0.0)) for plan in plans))
    return table


def _rivals(result: PlanResult) -> Iterator[tuple[Plan, str]]:
    if len(result.plans) > 1:
        yield result.plans[1], "the second"
    own = result.own
    if own is not None and own.judged.step_time_s != result.plans[0].judged.step_time_s:
        yield own, f"the scenario's own layout ({describe(own)})"


def _why(best: Plan, other: Plan) -> Table:
    found = difference(best, other)
    table = grid("what", "the first>", "the other>", "difference>")
    for name, (ours, theirs) in found["differs"].items():
        table.add_row(name, _text(ours), _text(theirs), "")
    table.add_section()
    for name, more in found["parts_s"].items():
        row = (seconds(best.parts[name]), seconds(other.parts[name]), f"{more:+.3f} s")
        table.add_row(_PARTS[name], *row)
    ours, theirs = best.judged.step_time_s, other.judged.step_time_s
    total = f"{found['seconds']:+.3f} s ({found['share']:+.1%})"
    table.add_row("the step", seconds(ours, 4), seconds(theirs, 4), total)
    return table


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)


def _effects(result: PlanResult) -> Table:
    table = grid("input", "change>", "step>", "share>")
    for effect in result.effects:
        table.add_row(
            effect.name, effect.change, f"{effect.seconds:+.3f} s", f"{effect.share:+.1%}"
        )
    return table


def _pruned(result: PlanResult) -> Table:
    table = grid("what became of the candidates", "number>")
    refused = sum(result.refused_by_rule.values())
    table.add_row("combinations of the allowed values", f"{result.combinations:,}")
    worst = sorted(result.refused_by_rule.items(), key=lambda item: -item[1])[:3]
    text = "; ".join(f"{rule}: {count:,}" for rule, count in worst)
    table.add_row(f"forbidden by rules ({text})" if worst else "forbidden by rules", f"{refused:,}")
    table.add_row("legal candidates, all judged by bounds", f"{result.candidates:,}")
    for name, label in _PRUNED.items():
        table.add_row(f"ruled out by {label}", f"{result.found.pruned.get(name, 0):,}")
    table.add_row("simulated", f"{len(result.found.judged):,}")
    if result.found.refused:
        table.add_row("the simulator refused", f"{len(result.found.refused):,}")
    left = result.candidates - sum(result.found.pruned.values()) - len(result.found.judged)
    table.add_row("left open", f"{left - len(result.found.refused):,}")
    return table
