"""Routing cases: which draw each layer and micro-batch has, and what a simulated GPU makes of it.

Folded, one GPU stands for its EP peers. All peers wait for the last one at every all-to-all, so the
folded GPU has the rows of the busiest peer of the draw; that peers could run ahead of each other
between two all-to-alls is what folding leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.program.remember import remembered
from simdeep.program.routing.loads import Loads

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """What cost needs of each routing case.

    `rows` and `unique` [cases] are the expert rows and tokens a simulated GPU receives; `group`
    are the draws of the whole expert-parallel group. `of` [layers, micro-batches, groups] picks
    the draw for each expert-parallel group. Folded, there is one group and a case is a draw;
    unfolded, each draw has a case for each rank, draw * ranks + rank.
    """

    rows: F64
    unique: F64
    group: Loads
    of: npt.NDArray[np.int32]


def drawn_cases(
    loads: Loads, layers: int, microbatches: int, seed: int, groups: int | None = None
) -> Cases:
    """A random draw for every layer and micro-batch.

    Folded (`groups` None) the busiest peer stands for all; else every group has draws and every
    peer a case of its own. The first group has the draws of the folded simulation.
    """
    shape = (layers, microbatches)
    of = np.stack(
        [
            np.random.default_rng([seed, 0x5EED, group]).integers(loads.draws, size=shape)
            for group in range(groups or 1)
        ],
        axis=-1,
    ).astype(np.int32)
    return _cases(loads, of) if groups is None else _peer_cases(loads, of)


def replayed_cases(forward: Loads, backward: Loads, group: Loads, layers: tuple[int, ...]) -> Cases:
    """The pair's cases from a record: micro-batch 1 runs forward beside micro-batch 0 backward.

    Records list layers in the order they ran, so the backward ones come last layer first. They tell
    of one rank; what the others moved is `group`, a draw for each of the record's layers, forward
    ones first.
    """
    of = np.zeros((max(layers) + 1, 2, 1), np.int32)
    places = np.arange(len(layers), dtype=np.int32)
    of[list(layers), 1, 0] = places % forward.draws
    of[list(reversed(layers)), 0, 0] = forward.draws + places % backward.draws
    rows, unique = (
        np.concatenate([getattr(forward, name), getattr(backward, name)]).ravel()
        for name in ("rows", "unique")
    )
    return Cases(rows, unique, group, of)


def _peer_cases(loads: Loads, of: npt.NDArray[np.int32]) -> Cases:
    """A case for each draw and rank."""
    return Cases(*_of_peers(loads), loads, of)


def _cases(loads: Loads, of: npt.NDArray[np.int32]) -> Cases:
    """A case for each draw: its busiest rank."""
    return Cases(*_of_busiest(loads), loads, of)


# Kernels are remembered by these arrays: the same draws must give the same ones.
@remembered(maxsize=256)
def _of_peers(loads: Loads) -> tuple[F64, F64]:
    return loads.rows.ravel(), loads.unique.ravel()


@remembered(maxsize=256)
def _of_busiest(loads: Loads) -> tuple[F64, F64]:
    busiest = loads.rows.argmax(axis=1)
    draws = np.arange(loads.draws)
    return loads.rows[draws, busiest], loads.unique[draws, busiest]
