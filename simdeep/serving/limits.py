"""What limits a deployment, in a sentence with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from simdeep.serving.results import Figures, Limit, Run
from simdeep.serving.sim.fleet import Role, State

if TYPE_CHECKING:
    from simdeep.serving.fleets import Kinds
    from simdeep.spec.serve_schema import Slo

NEAR = 0.9
"""From here on a limit counts as reached."""

_WHAT = {
    "prefill": "prompt processing: ranks of {role} units work {share} of the time",
    "decode KV": "KV memory of {role} units: {share} of it is in use",
    "decode rows": "the most rows a rank may have: {share} of the places are taken",
    "TTFT": "the promised time to the first token: requests take {share} of it",
    "TPOT": "the promised time a token: requests take {share} of it",
    "KV transfer": "KV transfers: NICs carry {share} of what they can",
    "prefix cache": "reading cached prefixes: the link carries {share} of what it can",
}


def find_limit(figures: Figures, runs: tuple[Run, ...], kinds: Kinds, slo: Slo) -> Limit:
    """The nearest limit; latencies count at the percentile of the SLO's share."""
    pressures = _pressures(figures, kinds, slo)
    name, share = max(pressures.items(), key=lambda item: item[1])
    others = ", ".join(
        f"{other} {value:.0%}" for other, value in _ranked(pressures) if other != name
    )
    waiting = growing_queue(runs)
    if waiting is not None:
        text = f"The load is more than {waiting[0]} units take: {waiting[1]}"
        return Limit(waiting[0], f"{text} (of each limit: {_all(pressures)}).", pressures)
    role = "prefill" if "prefill" in kinds.kinds else "mixed"
    role = role if name == "prefill" else role.replace("prefill", "decode")
    what = _WHAT[name].format(role=role, share=f"{share:.0%}")
    if share < NEAR:
        text = f"The load alone: no limit is reached. Nearest is {what}"
        return Limit("load", f"{text} (others: {others}).", pressures)
    more = f", {1e3 * figures.preempted:.1f} preemptions in 1,000 requests"
    more = more if name == "decode KV" else ""
    return Limit(name, f"Limited by {what}{more} (others: {others}).", pressures)


def _all(pressures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.0%}" for name, value in _ranked(pressures))


def _ranked(pressures: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(pressures.items(), key=lambda item: -item[1])


def _pressures(figures: Figures, kinds: Kinds, slo: Slo) -> dict[str, float]:
    used, found = figures.utilisation, {}
    decoder = next(k for k in kinds.kinds.values() if k.role is not Role.PREFILL)
    name = "prefill" if "prefill" in kinds.kinds else "mixed"
    # A mixed unit is busy as soon as it has a row, which says nothing; its queues do.
    if name == "prefill":
        found["prefill"] = used["prefill units"] * used["prefill ranks while busy"]
    other = "decode" if "decode" in kinds.kinds else "mixed"
    found["decode KV"] = figures.kv_occupancy[other]
    found["decode rows"] = figures.rows_per_rank / decoder.max_rows
    if slo.ttft is not None:
        found["TTFT"] = _at_share(figures.ttft_s, slo.share) / slo.ttft
    if slo.tpot is not None:
        found["TPOT"] = _at_share(figures.tpot_s, slo.share) / slo.tpot
    moves = [value for key, value in used.items() if "KV transfer" in key]
    if moves:
        found["KV transfer"] = max(moves)
    found["prefix cache"] = used["prefix cache link"]
    return found


def _at_share(latency: object, share: float) -> float:
    return float(getattr(latency, "p99" if share > 0.95 else "p90" if share > 0.6 else "p50"))


def growing_queue(runs: tuple[Run, ...]) -> tuple[str, str] | None:
    """A queue that grows through a window: the unit it waits for, and how."""
    for run in runs:
        outcome = run.outcome
        if outcome is None or run.window.end_ns != outcome.end_ns:
            continue
        at = outcome.sample("at_ns")
        inside = (at >= run.window.start_ns) & (at <= run.window.stop_ns)
        if inside.sum() < 8:
            continue
        for role, states in (
            ("prefill", (State.BACKLOG, State.WAITING)),
            ("decode", (State.HELD, State.SWAPPED)),
        ):
            one, other = (outcome.sample(state.name.lower())[inside] for state in states)
            queue = one + other
            quarter = len(queue) // 4
            before, after = queue[:quarter].mean(), queue[-quarter:].mean()
            served = outcome.record("finish_ns") >= 0
            few = 0.02 * served.sum()
            if after > 2 * before + few:
                return role, f"the queue grows from {before:,.0f} to {after:,.0f} requests"
    return None
