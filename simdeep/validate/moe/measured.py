"""Phases of a step out of the moments that ranks noted; all clocks are the machine's one clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simdeep.program.columns import F64
from simdeep.validate.moe.outcome import PHASES

if TYPE_CHECKING:
    from simdeep.validate.moe.rank import Found


class Steps(NamedTuple):
    """Seconds of every repeat: by phase (and `layer F`, `layer B`), and waits at combines."""

    phases: dict[str, F64]
    waits: F64


def steps_of(of_ranks: Sequence[Found]) -> Steps:
    """Sums over layers; a transfer counts from the moment its last rank has come."""

    def at(name: str) -> F64:
        """[ranks, repeats, layers] a moment."""
        return np.array(
            [[[layer[name] for layer in step] for step in found.moments] for found in of_ranks]
        )

    phases = {}
    waits = np.zeros(len(of_ranks[0].moments))
    for letter, (before, after) in (("F", ("dispatch", "combine")), ("B", ("combine", "dispatch"))):
        met = at(f"{before} {letter} start").max(axis=0)
        here = at(f"{before} {letter} end")
        done = at(f"{after} {letter} start")
        last = done.max(axis=0)
        end = at(f"{after} {letter} end").max(axis=0)
        phases[f"{before} {letter}"] = here.max(axis=0) - met
        phases[f"experts {letter}"] = (done - here).max(axis=0)
        phases[f"{after} {letter}"] = end - last
        phases[f"layer {letter}"] = end - met
        waits += (last - done).mean(axis=0).sum(axis=1)
    names = (*PHASES, "layer F", "layer B")
    return Steps({name: phases[name].sum(axis=1) for name in names}, waits)


def rows_of(of_ranks: Sequence[Found]) -> np.ndarray:
    """Rows that arrived, [MoE layers, experts]."""
    return np.concatenate([np.array(found.rows).sum(axis=1) for found in of_ranks], axis=1)
