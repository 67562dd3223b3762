"""Why the winner won: what limits it, the runner-up, and the best without each of its choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simdeep.serving.sizing.candidates import Miss
from simdeep.serving.sizing.front import Deployment
from simdeep.serving.sizing.size import SizeResult
from simdeep.serving.sizing.verify import Verified, shares
from simdeep.units import fmt_time


@dataclass(frozen=True)
class Alternative:
    """The cheapest deployment, by the estimate, with another value of one choice."""

    choice: str
    value: str
    usd_per_mtok: float
    more: float


def _unit_of(deployment: Deployment, role: str) -> object:
    part = next((p for r, p in deployment.parts.items() if r == role), None)
    return None if part is None else part.design.unit


def _of(role: str, name: str) -> Callable[[Deployment], str | None]:
    def value(deployment: Deployment) -> str | None:
        unit = _unit_of(deployment, role)
        return None if unit is None else str(getattr(unit, name))

    return value


CHOICES: dict[str, Callable[[Deployment], str | None]] = {
    "serving": lambda d: d.way,
    "GPU": lambda d: d.scenario.topology.gpu.name,
    "prefill unit GPUs": _of("prefill", "gpus"),
    "prefill TP": _of("prefill", "tp"),
    "prefill replicas": _of("prefill", "redundant"),
    "decode unit GPUs": _of("decode", "gpus"),
    "decode TP": _of("decode", "tp"),
    "decode replicas": _of("decode", "redundant"),
    "decode batch limit": _of("decode", "max_rows"),
    "decode drafts": _of("decode", "mtp_tokens"),
    "decode micro-batches": _of("decode", "microbatches"),
    "mixed TP": _of("mixed", "tp"),
    "mixed batch limit": _of("mixed", "max_rows"),
    "mixed chunk": _of("mixed", "chunk_tokens"),
}


def alternatives(result: SizeResult) -> tuple[Alternative, ...]:
    """What another value of each choice would cost, the estimate on both sides."""
    winner = result.winner
    if winner is None:
        return ()
    found = []
    own = winner.deployment
    for name, value in CHOICES.items():
        mine = value(own)
        if mine is None:
            continue
        best: dict[str, float] = {}
        for one in result.judged.deployments:
            other = value(one)
            if other is not None:
                best[other] = min(best.get(other, one.usd_per_mtok), one.usd_per_mtok)
        base = min(best.get(mine, own.usd_per_mtok), own.usd_per_mtok)
        rest = {other: usd for other, usd in best.items() if other != mine}
        if rest:
            other = min(rest, key=rest.__getitem__)
            text = f"{other} instead of {mine}"
            found.append(Alternative(name, text, rest[other], rest[other] / base - 1))
    return tuple(sorted(found, key=lambda a: -a.more))


def reason(result: SizeResult) -> str:
    """Why the winner won, in sentences."""
    winner, second = result.winner, result.runner_up
    assert winner is not None
    text = winner.limit
    if second is not None:
        ours, theirs = winner.figures, second.figures
        text += (
            f" The runner-up costs {second.usd_per_mtok / winner.usd_per_mtok - 1:+.1%} "
            f"({second.deployment.gpus:,} GPUs for {second.deployment.rate:,.4g} requests/s), with "
            f"median TTFT {fmt_time(theirs.ttft_s.p50, 3)} against {fmt_time(ours.ttft_s.p50, 3)} "
            f"and TPOT {fmt_time(theirs.tpot_s.p50, 3)} against {fmt_time(ours.tpot_s.p50, 3)}."
        )
    return text


def shortfall(result: SizeResult) -> str:
    """Why nothing meets the goal: the nearest, and what it misses by."""
    nearest = result.nearest
    if nearest is not None:
        return misses(nearest, result)
    # Without a single role's units there is no deployment: each role's nearest stands for it.
    found: dict[str, Miss] = {}
    for miss in sorted(result.judged.tally.misses, key=lambda m: (_ORDER[m.reason], m.by)):
        found.setdefault(miss.role, miss)
    if not found:
        return "no unit of the allowed values follows the rules; widen the scenario's size section"
    worst = max(found.values(), key=lambda m: (_ORDER[m.reason], m.by))
    return f"{worst.text} ({worst.by:.2f} times what may be)"


_ORDER = {"gpus": 0, "tpot": 1, "ttft": 1, "kv": 2, "memory": 3}


def misses(verified: Verified, result: SizeResult) -> str:
    """By what a simulated deployment misses the goal."""
    goal, parts = result.goal, []
    ttft, tpot = shares(verified, goal)
    if verified.growing is not None:
        parts.append(f"the queue for its {verified.growing} units grows")
    for name, share, promised in (("ttft", ttft, goal.ttft_s), ("tpot", tpot, goal.tpot_s)):
        if promised is not None and share > 1:
            value = fmt_time(share * promised, 3)
            text = f"{name.upper()} is {value} where {fmt_time(promised, 3)} is promised"
            parts.append(f"{text} ({share - 1:+.0%})")
    met = verified.figures.slo_attainment or 0.0
    parts.append(f"{met:.1%} of requests meet the goal, {goal.share:.0%} shall")
    return "; ".join(parts)
