"""How many units a load needs, from iteration times alone; and how many rows it keeps busy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simdeep.serving.sim.fleet import F64, Role, UnitKind
from simdeep.serving.sim.formulas import seconds_at
from simdeep.serving.sim.parts import packed

if TYPE_CHECKING:
    from simdeep.spec.serve_schema import Autoscale


@dataclass(frozen=True)
class Load:
    """What a second of traffic asks for on average.

    Attributes:
        requests: a second.
        new_tokens: prompt tokens of a request that are not cached.
        prompt_context: mean KV tokens that those attend to.
        output_tokens: of a request.
        row_context: mean KV tokens that an output token attends to.
    """

    requests: float
    new_tokens: float
    prompt_context: float
    output_tokens: float
    row_context: float


def seconds_of(kind: UnitKind, prompt: float, rows: float, context: float) -> float:
    """Seconds of an iteration in which every rank does the same, half way between placements."""
    stale = float(kind.grid.stale.mean())
    return float(seconds_at(packed(kind.grid), 0, stale, prompt, rows, context))


def accepted_per_step(kind: UnitKind) -> float:
    """Mean tokens of a row's iteration: 1 + a + a^2 + ... of the drafted ones."""
    return sum(kind.acceptance**j for j in range(kind.draft_tokens + 1))


def prefill_capacity(kind: UnitKind, load: Load) -> float:
    """Uncached prompt tokens a second of a unit whose chunks are full."""
    each = 1.0 + (load.prompt_context / kind.equal_context if kind.equal_context else 0.0)
    tokens = kind.chunk_tokens / each
    return kind.ranks * tokens / seconds_of(kind, tokens, 0, load.prompt_context)


def decode_rows(kind: UnitKind, load: Load, tpot_s: float | None) -> int:
    """Most rows of a rank: what its KV cache holds on average, within the time a token may take."""
    room = min(kind.max_rows, int(kind.kv_tokens / max(load.row_context, 1.0)))
    per_step = accepted_per_step(kind)
    if tpot_s is None:
        return max(room, 1)
    low, high = 1, max(room, 1)
    while low < high:  # the time of an iteration grows with its rows
        middle = (low + high + 1) // 2
        if seconds_of(kind, 0, middle, load.row_context) / per_step <= tpot_s:
            low = middle
        else:
            high = middle - 1
    return low


def decode_capacity(kind: UnitKind, load: Load, tpot_s: float | None) -> float:
    """Output tokens a second of a unit with as many rows as it may have."""
    rows = decode_rows(kind, load, tpot_s)
    seconds = seconds_of(kind, 0, rows, load.row_context)
    return kind.ranks * rows * accepted_per_step(kind) / seconds


def units_needed(
    kinds: Mapping[Role, UnitKind], load: Load, tpot_s: float | None, headroom: float
) -> dict[Role, float]:
    """Units of each role for a load with capacity to spare, not rounded."""
    more = 1.0 + headroom
    new, made = load.requests * load.new_tokens * more, load.requests * load.output_tokens * more
    if Role.MIXED in kinds:
        kind = kinds[Role.MIXED]
        prompt = new / prefill_capacity(kind, load)
        return {Role.MIXED: prompt + made / decode_capacity(kind, load, tpot_s)}
    return {
        Role.PREFILL: new / prefill_capacity(kinds[Role.PREFILL], load),
        Role.DECODE: made / decode_capacity(kinds[Role.DECODE], load, tpot_s),
    }


def scaled_units(autoscale: Autoscale | None, kind: UnitKind, needed: float) -> int:
    """Units that serve: all, or those needed within what there are."""
    if autoscale is None:
        return kind.units
    least = max(1, math.ceil(autoscale.min_share * kind.units - 1e-9))
    return min(kind.units, max(least, math.ceil(needed - 1e-9)))


def rows_in_flight(kind: UnitKind, units: int, load: Load, slower: float = 1.0) -> int:
    """Rows that a load keeps busy: as many as arrive while they are answered (Little's law).

    The more rows, the longer an iteration; if there is no balance, what units hold. An iteration
    takes `slower` times as long as one in which all ranks do the same and no prompts are processed.
    """
    per_step = accepted_per_step(kind)
    most = units * kind.ranks * decode_rows(kind, load, None)
    asked = slower * load.requests * max(load.output_tokens - 1, 0.0) / per_step
    places = units * kind.ranks
    low, high = 0.0, float(most)
    if asked * seconds_of(kind, 0, high / places, load.row_context) >= high:
        return most
    for _ in range(60):
        rows = (low + high) / 2
        if asked * seconds_of(kind, 0, max(rows / places, 1.0), load.row_context) > rows:
            low = rows
        else:
            high = rows
    return round((low + high) / 2)


def load_of(rate: float, inputs: F64, outputs: F64, cached: F64) -> Load:
    """The load of requests like these at a rate."""
    new = inputs - cached
    seen = cached + (new + 1) / 2
    weight = np.maximum(outputs - 1, 0)
    context = inputs + (outputs + 1) / 2
    row_context = (weight * context).sum() / weight.sum() if weight.sum() else context.mean()
    return Load(
        requests=rate,
        new_tokens=float(new.mean()),
        prompt_context=float((new * seen).sum() / new.sum()),
        output_tokens=float(outputs.mean()),
        row_context=float(row_context),
    )


def started_units(counts: Sequence[int]) -> list[int]:
    """Units that start for each hour of a day that repeats."""
    return [
        max(0, now - before) for before, now in zip([counts[-1], *counts], counts, strict=False)
    ]
