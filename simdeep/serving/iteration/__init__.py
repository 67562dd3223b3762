"""Iterations: what one pass of a unit over its batch takes, simulated on the engine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simdeep.errors import InputError
from simdeep.serving.deployment import Unit
from simdeep.serving.iteration.run import Iteration, run_iteration
from simdeep.serving.iteration.table import FloatArray, IterationTable, OutsideTableError

__all__ = ["Iteration", "IterationTable", "OutsideTableError", "iteration", "iteration_table"]

_ROWS = (1, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096)
_TOKENS = (1, 128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_CONTEXT = (1, 2048, 8192, 32768, 262144)
"""Attention grows in proportion to what is attended to, so that few points do."""


def iteration(unit: Unit, prefill_tokens: float, decode_rows: float, context: float) -> Iteration:
    """Simulate one iteration of a unit (whole model).

    Args:
        unit: the unit.
        prefill_tokens: new prompt tokens of a DP rank.
        decode_rows: decoding sequences of a DP rank.
        context: mean KV tokens the new tokens attend to (a prompt of L alone: L / 2).
    """
    if prefill_tokens < 0 or decode_rows < 0 or context < 0:
        raise InputError("an iteration's prefill tokens, rows and context must be zero or more")
    if prefill_tokens == 0 and decode_rows == 0:
        raise InputError("an iteration needs prompt tokens or decoding sequences")
    return run_iteration(unit, prefill_tokens, decode_rows, context)


@lru_cache(maxsize=64)
def iteration_table(unit: Unit) -> IterationTable:
    """Iteration times of a unit over all it can be asked for, simulated once.

    The grid reaches to the chunk size, to the rows and the context that memory and model allow.
    """
    from simdeep.serving.memory import require_fit

    memory = require_fit(unit)
    rows = _axis(_ROWS, memory.max_rows) if unit.role != "prefill" else np.zeros(1)
    tokens = _axis(_TOKENS, unit.chunk_tokens) if unit.role != "decode" else np.zeros(1)
    context = _axis(_CONTEXT, unit.max_context)
    if unit.role == "mixed":
        rows = np.append(0.0, _axis(_ROWS[::2], memory.max_rows))
        tokens = np.append(0.0, _axis(_TOKENS[::2], unit.chunk_tokens))
    seconds = np.zeros((len(tokens), len(rows), len(context)))
    for at in np.ndindex(*seconds.shape):
        new, decoding = float(tokens[at[0]]), float(rows[at[1]])
        if new or decoding:
            seconds[at] = run_iteration(unit, new, decoding, float(context[at[2]])).seconds
    return IterationTable(tokens, rows, context, seconds)


def _axis(points: tuple[int, ...], last: float) -> FloatArray:
    """The points below `last`, and `last`."""
    return np.array([*(p for p in points if p < last), last], dtype=np.float64)
