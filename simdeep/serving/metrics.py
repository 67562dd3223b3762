"""From request records and samples to figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError, Problem
from simdeep.serving.results import Figures, Quantiles, Run
from simdeep.serving.sim.fleet import F64, Role, State
from simdeep.serving.sim.formulas import GAP_BINS, gap_ms
from simdeep.serving.sim.outcome import Outcome
from simdeep.serving.windows import NS, SLICES

if TYPE_CHECKING:
    from simdeep.serving.fleets import Kinds
    from simdeep.spec.serve_schema import Slo

_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}
"""Two-sided 95% points of Student's t by degrees of freedom."""

ERRORS_OF = (
    "input_tokens_per_s_per_node",
    "output_tokens_per_s_per_node",
    "tokens_per_s_per_user",
    "usd_per_mtok_input",
    "usd_per_mtok_output",
    "goodput_rps",
    "slo_attainment",
)
"""Figures with a sampling error, besides the percentiles."""


@dataclass(frozen=True)
class Latencies:
    """Latencies in seconds of requests, one entry each; `tpot` is NaN for a single token.

    A request that was not done when the simulation ended counts with the pace it had: its TPOT so
    far, and its last token at that pace. `done` says which were.
    """

    ttft: F64
    tpot: F64
    e2e: F64
    done: F64


def latencies(outcome: Outcome, start_ns: float, stop_ns: float) -> Latencies:
    """Latencies of requests that arrive from `start_ns` up to `stop_ns`."""
    given = outcome.requests
    chosen = (given.arrival_ns >= start_ns) & (given.arrival_ns < stop_ns) & (given.delivered == 0)
    arrival = given.arrival_ns[chosen].astype(float)
    first, finish, got = (
        outcome.record(name)[chosen].astype(float)
        for name in ("first_ns", "finish_ns", "delivered")
    )
    wanted = given.output_tokens[chosen].astype(float)
    done, begun, end = finish >= 0, first >= 0, float(outcome.end_ns)
    ttft = np.where(begun, first, end) - arrival
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = (finish - first) / (wanted - 1)
    so_far = (end - first) / np.maximum(got - 0.5, 1.0)
    tpot = np.where(done, whole, np.where(begun, so_far, np.nan))
    tpot[wanted < 2] = np.nan
    usual = float(np.nanmedian(tpot)) if np.isfinite(tpot).any() else 0.0
    rest = np.where(np.isfinite(tpot), tpot, usual) * (wanted - 1)
    e2e = np.where(done, finish - arrival, ttft + rest)
    return Latencies(ttft / NS, tpot / NS, e2e / NS, done.astype(float))


def quantiles(values: F64, weights: F64) -> Quantiles:
    """Mean and percentiles of weighted values, those that are NaN left out."""
    sound = np.isfinite(values)
    values, weights = values[sound], weights[sound]
    if len(values) == 0:
        return Quantiles(0.0, 0.0, 0.0, 0.0)
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    below = np.cumsum(weights) - weights / 2
    points = np.interp([0.5, 0.9, 0.99], below / weights.sum(), values)
    mean = float((values * weights).sum() / weights.sum())
    return Quantiles(mean, *(float(point) for point in points))


def measured_span(run: Run) -> tuple[float, float]:
    """Where what is measured of a run begins and ends (ns)."""
    assert run.outcome is not None
    return run.window.start_ns, min(run.window.stop_ns, run.outcome.end_ns)


def figures(
    runs: Sequence[Run],
    kinds: Kinds,
    slo: Slo,
    usd_per_gpu_hour: float,
    gpus_per_node: int,
    part: tuple[int, int] = (0, 1),
) -> Figures:
    """Figures over runs, each weighted by the time it stands for.

    Args:
        runs: of one day, or of one window.
        kinds: units of the fleet.
        slo: what users are promised.
        usd_per_gpu_hour: price.
        gpus_per_node: of the topology.
        part: slice of the time measured, as (number, of how many).
    """
    found = [_Part(run, kinds, part) for run in runs if run.outcome is not None]
    found = [p for p in found if p.seconds > 0]
    if not found or not sum(len(p.latencies.ttft) for p in found):
        text = (
            "nothing arrives in the time that is measured: lengthen window.duration, shorten "
            "window.warmup, or raise window.requests if it is given"
        )
        raise InputError([Problem("", "window", text)])
    total = sum(p.stands for p in found)
    idle = [run for run in runs if run.outcome is None]
    total += sum(run.window.stands_for_s or 0.0 for run in idle)
    weight = np.concatenate([np.full(len(p.latencies.ttft), p.weight) for p in found])
    ttft, tpot, e2e, done = (
        np.concatenate([getattr(p.latencies, name) for p in found])
        for name in ("ttft", "tpot", "e2e", "done")
    )
    kept = _kept(slo, ttft, tpot)
    share = _share(np.logical_and.reduce(list(kept.values())), weight) if kept else None
    arrivals = float(weight.sum()) / total
    unit_s = {role: sum(p.weight * p.unit_s[role] for p in found) for role in kinds.kinds}
    paid_s = {
        role: unit_s[role] + sum(run.extra_unit_s.get(role, 0.0) for run in runs) / part[1]
        for role in unit_s
    }
    gpus = {role: paid_s[role] * kinds.kinds[role].gpus / total for role in kinds.kinds}

    def rate(name: str) -> float:
        return sum(p.weight * p.counted(name) for p in found) / total

    def mean(values: Mapping[int, float]) -> float:
        return sum(values[i] * p.stands for i, p in enumerate(found)) / total

    states = {
        state.name.lower(): mean({i: p.in_state[state] for i, p in enumerate(found)})
        for state in State
        if state not in (State.AWAY, State.DONE)
    }
    return Figures(
        ttft_s=quantiles(ttft, weight),
        tpot_s=quantiles(tpot, weight),
        e2e_s=quantiles(e2e, weight),
        requests_per_s=arrivals,
        slo_attainment=share,
        slo_parts={name: _share(met, weight) for name, met in kept.items()},
        goodput_rps=arrivals * (1.0 if share is None else share),
        input_tokens_per_s=rate("prompt_tokens"),
        new_tokens_per_s=rate("new_tokens"),
        output_tokens_per_s=rate("output_tokens"),
        nodes={role: count / gpus_per_node for role, count in gpus.items()},
        gpus=gpus,
        usd_per_hour=sum(gpus.values()) * usd_per_gpu_hour,
        usd_input=_input_share(found, gpus),
        utilisation=_utilisation(found, kinds, unit_s),
        kv_occupancy={
            role: _ratio(
                sum(p.weight * p.kv_token_s[role] for p in found),
                unit_s[role] * kind.ranks * kind.kv_tokens,
            )
            for role, kind in kinds.kinds.items()
        },
        rows_per_rank=_ratio(
            sum(p.stands * p.in_state[State.ROW] for p in found),
            sum(
                unit_s[role] * kind.ranks
                for role, kind in kinds.kinds.items()
                if kind.role is not Role.PREFILL
            ),
        ),
        in_state=states,
        preempted=_ratio(sum(p.weight * p.preempted for p in found), float(weight.sum())),
        redone=_ratio(sum(p.weight * p.redone for p in found), float(weight.sum())),
        unfinished=1.0 - float((done * weight).sum() / weight.sum()),
        measured=len(ttft),
    )


class _Part:
    """A slice of what was measured of a run."""

    def __init__(self, run: Run, kinds: Kinds, part: tuple[int, int]):
        assert run.outcome is not None
        self.run, self.outcome = run, run.outcome
        start, stop = measured_span(run)
        width = (stop - start) / part[1]
        self.start, self.stop = start + part[0] * width, start + (part[0] + 1) * width
        self.seconds = (self.stop - self.start) / NS
        stands = run.window.stands_for_s
        self.stands = self.seconds if stands is None else stands / part[1]
        self.weight = self.stands / self.seconds if self.seconds > 0 else 0.0
        # The end of a run that goes on until all is done belongs to what is measured.
        last = math.nextafter(self.stop, math.inf)
        self.latencies = latencies(self.outcome, self.start, last if part[1] == 1 else self.stop)
        self.roles = list(kinds.kinds)
        self.unit_s = self._by_kind("powered_ns", NS)
        self.busy_s = self._by_kind("busy_ns", NS)
        at = self.outcome.sample("at_ns")
        inside = (at >= self.start) & (at <= self.stop)
        rows = np.flatnonzero(inside) if inside.any() else np.array([len(at) - 1])
        self.in_state = {
            state: float(self.outcome.sample(state.name.lower())[rows].mean()) for state in State
        }
        self.kv_token_s = {
            role: float(self.outcome.sample("kv_tokens", i)[rows].mean()) * self.seconds
            for i, role in enumerate(self.roles)
        }
        given = self.outcome.requests.arrival_ns
        chosen = (given >= self.start) & (given < last)
        self.preempted = int(self.outcome.record("preempted")[chosen].sum())
        self.redone = int(self.outcome.record("redone")[chosen].sum())

    def counted(self, name: str, kind: int | None = None) -> float:
        """How much a sum grew."""
        at, values = self.outcome.sample("at_ns"), self.outcome.sample(name, kind)
        before, after = np.interp([self.start, self.stop], at, values)
        return float(after - before)

    def _by_kind(self, name: str, scale: float) -> dict[str, float]:
        return {role: self.counted(name, i) / scale for i, role in enumerate(self.roles)}


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else 0.0


def _kept(slo: Slo, ttft: F64, tpot: F64) -> dict[str, npt.NDArray[np.bool_]]:
    """Which requests keep each promise of the SLO; a single token has no time between tokens."""
    kept = {}
    if slo.ttft is not None:
        kept["TTFT"] = ttft <= slo.ttft
    if slo.tpot is not None:
        kept["TPOT"] = ~(tpot > slo.tpot)
    return kept


def _share(met: npt.NDArray[np.bool_], weight: F64) -> float:
    return float((met * weight).sum() / weight.sum())


def _input_share(found: Sequence[_Part], gpus: Mapping[str, float]) -> float:
    """Share of the GPUs' time that goes into prompts: all of prefill units, of mixed ones by the
    time that each part of an iteration would take alone.
    """
    if "mixed" not in gpus:
        return _ratio(gpus["prefill"], sum(gpus.values()))
    prompt = sum(p.weight * p.outcome.unit_ns[:, 1].sum() for p in found)
    busy = sum(p.weight * p.outcome.unit("busy_ns").sum() for p in found)
    return _ratio(float(prompt), float(busy))


def _utilisation(
    found: Sequence[_Part], kinds: Kinds, unit_s: Mapping[str, float]
) -> dict[str, float]:
    """Share of their time that units and links are busy, and ranks of a busy unit."""
    used: dict[str, float] = {}
    for index, (role, kind) in enumerate(kinds.kinds.items()):
        used[f"{role} units"] = _ratio(sum(p.weight * p.busy_s[role] for p in found), unit_s[role])
        balance = busy = 0.0
        for p in found:
            mine = p.outcome.fleet.kind_of() == index
            balance += p.weight * float(p.outcome.unit_ns[mine, 0].sum())
            busy += p.weight * float(p.outcome.unit("busy_ns")[mine].sum())
        used[f"{role} ranks while busy"] = _ratio(balance, busy)
        if role != "mixed":
            moved = sum(p.weight * p.counted("moved_tokens") for p in found) * kinds.kv_bytes
            room = unit_s[role] * kind.nodes * kind.node_bytes_per_s
            used[f"{role} NICs (KV transfer)"] = _ratio(moved, room)
        if role != "decode":
            tier = found[0].outcome.fleet.cache.tier
            read = sum(p.weight * p.counted("loaded_tokens") for p in found) * kinds.kv_bytes
            rate = (kind.ram_bytes_per_s, kind.ssd_bytes_per_s)[tier]
            used["prefix cache link"] = _ratio(read, unit_s[role] * rate)
    return used


def gaps(runs: Sequence[Run]) -> Quantiles:
    """Time between a request's tokens, token by token, over all runs."""
    counts = np.zeros(GAP_BINS)
    for run in runs:
        if run.outcome is not None:
            counts += run.outcome.gaps * (run.window.stands_for_s or 1.0)
    if not counts.any():
        return Quantiles(0.0, 0.0, 0.0, 0.0)
    edges = gap_ms(np.arange(len(counts))) / 1e3
    return quantiles(edges / 1.005, counts)


def sampling_errors(
    runs: Sequence[Run], kinds: Kinds, slo: Slo, usd_per_gpu_hour: float, gpus_per_node: int
) -> dict[str, float]:
    """Half-widths of 95% intervals of figures, by the spread of slices of the time measured.

    Slice i of every window together is one look at the whole; there are `SLICES` of them. Slices
    that follow each other are not quite independent, so the true error is somewhat larger.
    """
    try:
        each = [
            figures(runs, kinds, slo, usd_per_gpu_hour, gpus_per_node, (i, SLICES))
            for i in range(SLICES)
        ]
    except InputError:  # a slice in which nothing arrives
        return {}
    columns = {name: [getattr(f, name) for f in each] for name in ERRORS_OF}
    for latency in ("ttft_s", "tpot_s", "e2e_s"):
        for point in ("p50", "p90", "p99"):
            columns[f"{latency}.{point}"] = [getattr(getattr(f, latency), point) for f in each]
    found = {}
    for name, values in columns.items():
        if all(value is not None for value in values):
            spread = float(np.std(values, ddof=1))
            found[name] = _T95[SLICES - 1] * spread / math.sqrt(SLICES)
    return found
