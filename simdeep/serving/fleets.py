"""From a serving scenario to the fleets its windows run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simdeep.errors import InputError, Problem
from simdeep.serving.deployment import Unit, units_of
from simdeep.serving.sim.fleet import (
    NEVER,
    Cache,
    Event,
    Fleet,
    Grid,
    Requests,
    Role,
    Timed,
    UnitKind,
)
from simdeep.serving.windows import NS, Window

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario
    from simdeep.spec.serve_schema import UnitFields

ROLES = {"prefill": Role.PREFILL, "decode": Role.DECODE, "mixed": Role.MIXED}

CACHE_BANDWIDTH = {"ssd": 20e9, "ram": 100e9}
"""Read bandwidth of a node's prefix cache, where the scenario says none (guesses)."""

STALE_POINTS = 3
"""Iterations are priced for so many ages of the placement, if popularity drifts."""

SAMPLES = 160
"""Samples of the state in a window."""


@dataclass(frozen=True)
class Kinds:
    """The kinds of units of a scenario, by role name, and bytes of a token's KV."""

    units: Mapping[str, Unit]
    kinds: Mapping[str, UnitKind]
    kv_bytes: float

    def by_role(self) -> dict[Role, UnitKind]:
        """Kinds by role."""
        return {ROLES[name]: kind for name, kind in self.kinds.items()}


def kinds_of(scenario: ServeScenario) -> Kinds:
    """Price the iterations of every kind of unit and find its memory.

    Raises:
        InputError: if one request at the longest does not fit into the KV cache of a rank.
    """
    units: dict[str, Unit] = {str(role): unit for role, unit in units_of(scenario).items()}
    kinds = {role: _kind(scenario, role, units[role], scenario.units[role]) for role in units}
    # A token's KV as it crosses the network: MLA's latent once, of other attention all heads.
    return Kinds(units, kinds, max(_kv_bytes(unit) for unit in units.values()))


def _kv_bytes(unit: Unit) -> float:
    """Bytes of a token's KV cache in all GPUs of a rank, each byte once."""
    from simdeep.serving.memory import kv_bytes_per_token

    return kv_bytes_per_token(replace(unit, tp=1))


def _kind(scenario: ServeScenario, role: str, unit: Unit, fields: UnitFields) -> UnitKind:
    from simdeep.serving.memory import require_fit

    topology, cache = scenario.topology, scenario.prefix_cache
    grid, memory = _grid(scenario, unit), require_fit(unit)
    read = cache.bandwidth or CACHE_BANDWIDTH[cache.tier]
    return UnitKind(
        role=ROLES[role],
        units=fields.units,
        nodes=unit.nodes,
        ranks=unit.dp,
        kv_tokens=memory.kv_capacity_tokens,
        max_rows=memory.max_rows,
        chunk_tokens=0 if role == "decode" else fields.chunk_tokens,
        grid=grid,
        equal_context=0.0 if role == "decode" else _equal_context(grid),
        node_bytes_per_s=topology.nic_bw * min(topology.gpus_per_node, unit.gpus),
        rank_bytes_per_s=topology.nic_bw * unit.tp,
        ram_bytes_per_s=read * unit.nodes,
        ssd_bytes_per_s=read * unit.nodes,
        swap_bytes_per_s=scenario.deployment.swap_bandwidth * unit.tp,
        draft_tokens=0 if role == "prefill" else fields.mtp.tokens,
        acceptance=fields.mtp.acceptance,
        gpus=unit.gpus,
    )


def _grid(scenario: ServeScenario, unit: Unit) -> Grid:
    from simdeep.serving.iteration import iteration_table

    drift = scenario.rebalance.drift
    ages = np.linspace(0.0, drift, STALE_POINTS) if drift else np.zeros(1)
    tables = [iteration_table(unit.with_stale(float(np.hypot(unit.stale, age)))) for age in ages]
    first = tables[0]
    seconds = np.stack([table.seconds for table in tables])
    return Grid(first.prefill_tokens, first.decode_rows, first.context, seconds, ages)


def _equal_context(grid: Grid) -> float:
    """KV tokens to attend to which takes a prompt token as long as all else of it.

    From iterations of the longest chunk at the grid's shortest and longest context.
    """
    near, far = grid.seconds[0, -1, 0, 0], grid.seconds[0, -1, 0, -1]
    slope = (far - near) / (grid.context[-1] - grid.context[0])
    return float(near / slope) if slope > 0 else 0.0


def fleet_of(scenario: ServeScenario, kinds: Kinds, window: Window, span_ns: int) -> Fleet:
    """The fleet of a window.

    Args:
        scenario: what the user asks for.
        kinds: its units.
        window: what is simulated.
        span_ns: about how long the simulation takes, for samples and failures.
    """
    drift, cache = scenario.rebalance, scenario.prefix_cache
    chosen = tuple(replace(kind, units=window.units[role]) for role, kind in kinds.kinds.items())
    every = int(drift.every * NS)
    return Fleet(
        kinds=chosen,
        kv_bytes=kinds.kv_bytes,
        move_latency_ns=int(scenario.topology.nic_latency_s * NS),
        swap=scenario.deployment.preemption == "swap",
        by_rows=scenario.deployment.balance == "rows",
        cache=Cache(
            latency_ns=int(cache.latency * NS),
            tier=0 if cache.tier == "ram" else 1,
        ),
        rebalance_ns=every,
        phase_ns=int(window.phase * every),
        drift=drift.drift,
        pause_ns=int(drift.pause * NS),
        timed=_failures(scenario, chosen, window, span_ns),
        sample_ns=max(1, span_ns // SAMPLES),
        measure_ns=(window.start_ns, window.stop_ns),
        end_ns=window.end_ns,
        seed=scenario.simulate.seed + window.seed,
    )


def with_prefixes(scenario: ServeScenario, fleet: Fleet) -> Fleet:
    """The same fleet, its prefix cache kept by the prefixes that requests name."""
    cache = scenario.prefix_cache
    nodes = sum(k.units * k.nodes for k in fleet.kinds if k.role is not Role.DECODE)
    room = NEVER
    if cache.capacity is not None:
        room = int(cache.capacity * nodes / fleet.kv_bytes)
    ram = room if cache.tier == "ram" else 0
    ssd = room if cache.tier == "ssd" else 0
    return replace(
        fleet, cache=replace(fleet.cache, by_prefix=True, ram_tokens=ram, ssd_tokens=ssd)
    )


def _failures(
    scenario: ServeScenario, kinds: tuple[UnitKind, ...], window: Window, span_ns: int
) -> tuple[Timed, ...]:
    """When units fail and are back: each GPU fails independently of the others."""
    given = scenario.failures
    if given is None:
        return ()
    rng = np.random.default_rng([scenario.simulate.seed, window.seed, 7])
    entries: list[Timed] = []
    number = 0
    for kind in kinds:
        mean = given.mtbf_per_gpu_hours * 3600 * NS / kind.gpus
        for _ in range(kind.units):
            at = rng.exponential(mean)
            while at < span_ns:
                back = at + given.restart * NS
                entries.append(Timed(int(at), Event.FAIL, number))
                entries.append(Timed(int(back), Event.REPAIR, number))
                at = back + rng.exponential(mean)
            number += 1
    return tuple(sorted(entries, key=lambda entry: entry.at_ns))


def check_fits(kinds: Kinds, requests: Requests) -> None:
    """Refuse requests that no rank could ever hold.

    Raises:
        InputError: naming the longest request and the room there is.
    """
    longest = int((requests.input_tokens.astype(np.int64) + requests.output_tokens).max())
    problems = [
        Problem(
            "",
            f"deployment.{role}",
            f"a rank's KV cache holds {kind.kv_tokens:,} tokens; the longest request has "
            f"{longest:,}: give the unit more memory (tp, ep, kv) or shorten traffic.max_context",
        )
        for role, kind in kinds.kinds.items()
        if longest + 1 + kind.draft_tokens > kind.kv_tokens
    ]
    if problems:
        raise InputError(problems)
