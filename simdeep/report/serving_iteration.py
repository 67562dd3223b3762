"""One iteration of each kind of unit, as text and as JSON: what `run` shows without traffic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import simdeep
from simdeep.report.result_json import key
from simdeep.report.summary import plain, seconds
from simdeep.report.tables import grid, titled
from simdeep.serving.deployment import GIB
from simdeep.serving.iteration import Iteration, iteration
from simdeep.serving.memory import UnitMemory, require_fit

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from simdeep.spec.serve import ServeScenario

DEFAULT_ROWS = 128
"""Decoding sequences of a rank where the scenario says none, if as many fit."""

Look = tuple[Iteration, UnitMemory]


def looked_at(scenario: ServeScenario) -> dict[str, Look]:
    """The iteration of each role that the scenario asks for, with the unit's memory."""
    from simdeep.serving.deployment import units_of

    point, found = scenario.iteration, {}
    for role, unit in units_of(scenario).items():
        memory = require_fit(unit)
        tokens = unit.chunk_tokens if point.prefill_tokens is None else point.prefill_tokens
        fitting = min(DEFAULT_ROWS, memory.rows_that_fit(point.context))
        rows = fitting if point.decode_rows is None else point.decode_rows
        tokens, rows = (0 if role == "decode" else tokens), (0 if role == "prefill" else rows)
        # `context` is a decoding sequence's; a prompt of that length attends to half on average.
        attended = point.context / 2 if role == "prefill" else point.context
        found[str(role)] = (iteration(unit, tokens, rows, attended), memory)
    return found


def iterations_json(scenario: ServeScenario, found: Mapping[str, Look]) -> dict[str, Any]:
    """What a run without traffic says: of a single role at the top, else by role."""
    each = {role: _json(*look) for role, look in found.items()}
    top = next(iter(each.values())) if len(each) == 1 else {"units": each}
    return top | {
        "kind": "serve",
        "name": scenario.name,
        "roles": list(each),
        "scenario": scenario.resolved(),
        "version": simdeep.__version__,
        "fingerprint": scenario.fingerprint,
    }


def _json(look: Iteration, memory: UnitMemory) -> dict[str, Any]:
    return {
        "iteration_ms": 1e3 * look.seconds,
        "prefill_tokens_per_rank": look.prefill_tokens,
        "decode_rows_per_rank": look.decode_rows,
        "context_tokens": look.context,
        "tokens_per_s_per_gpu": look.tokens_per_s_per_gpu,
        "tokens_per_s_per_node": look.tokens_per_s_per_node,
        "tokens_per_s_per_user": look.tokens_per_s_per_user,
        "parts_ms": {key(name): 1e3 * value for name, value in look.parts.items()},
        "exposed_ms": 1e3 * look.exposed_s,
        "exposed_comm_ms": 1e3 * look.exposed_comm_s,
        "memory": {
            "capacity_gib": memory.capacity / GIB,
            "used_gib": memory.used / GIB,
            "parts_gib": {key(name): value / GIB for name, value in _memory(memory).items()},
            "kv_gib": memory.kv_bytes / GIB,
            "kv_bytes_per_token": memory.kv_bytes_per_token,
            "kv_capacity_tokens": memory.kv_capacity_tokens,
        },
    }


def _memory(memory: UnitMemory) -> dict[str, float]:
    weights = {f"{name} weights": size for name, size in memory.weights.items()}
    rest = {"buffers": memory.buffers, "activations": memory.activations}
    return weights | rest | {"reserved": memory.reserved}


def iterations_report(found: Mapping[str, Look]) -> Iterator[RenderableType]:
    """What a run without traffic shows."""
    from rich.text import Text

    for role, (look, memory) in found.items():
        yield Text(_headline(role, look, memory))
        yield Text("")
        parts = [(name, seconds(value)) for name, value in look.parts.items()]
        parts.append(("no kernel runs", seconds(look.exposed_s)))
        parts.append(("  while a transfer does", seconds(look.exposed_comm_s)))
        title = f"Parts of the {role} iteration (they overlap)"
        yield from titled(title, _table(("part", "time>"), parts))
        sizes = {name: f"{value / GIB:.2f} GiB" for name, value in _memory(memory).items()}
        sizes["KV cache"] = f"{memory.kv_bytes / GIB:.2f} GiB"
        yield from titled("Memory of a GPU", _table(("part", "size>"), list(sizes.items())))


def _headline(role: str, look: Iteration, memory: UnitMemory) -> str:
    parts = []
    if look.prefill_tokens:
        parts.append(f"{look.prefill_tokens:,.0f} prompt tokens")
    if look.decode_rows:
        parts.append(f"{look.decode_rows:,.0f} sequences")
    user = f", {plain(look.tokens_per_s_per_user)} to a user" if look.decode_rows else ""
    return (
        f"A {role} iteration of {' and '.join(parts)} a rank, attending to "
        f"{look.context:,.0f} tokens, takes {seconds(look.seconds)}: "
        f"{plain(look.tokens_per_s_per_gpu, 4)} tokens/s a GPU, "
        f"{plain(look.tokens_per_s_per_node, 4)} a node{user}; a rank's KV cache holds "
        f"{memory.kv_capacity_tokens:,} tokens."
    )


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, str]]) -> Table:
    table = grid(*columns)
    for row in rows:
        table.add_row(*row)
    return table
