"""Routing cases: which draw each layer and micro-batch has, and what a simulated GPU makes of it.

Folded, one GPU stands for its EP peers. All peers wait for the last one at every all-to-all, so the
folded GPU has the rows of the busiest peer of the draw; that peers could run ahead of each other
between two all-to-alls is what folding leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from simdeep.program.routing.loads import Loads

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """What cost needs of each routing case.

    `rows` and `unique` [cases] are the expert rows and tokens a simulated GPU receives. The port
    copies are [draws, ranks]. `of` [layers, micro-batches, groups] picks the draw for each
    expert-parallel group. Folded, there is one group and a case is a draw; unfolded, each draw has
    a case for each rank, draw * ranks + rank.
    """

    rows: F64
    unique: F64
    ib_out: F64
    ib_in: F64
    nvl_out: F64
    nvl_in: F64
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


def replayed_cases(forward: Loads, backward: Loads, layers: tuple[int, ...]) -> Cases:
    """The pair's cases from a record: micro-batch 1 runs forward beside micro-batch 0 backward.

    Records list layers in the order they ran, so the backward ones come last layer first.
    """
    of = np.zeros((max(layers) + 1, 2, 1), np.int32)
    places = np.arange(len(layers), dtype=np.int32)
    of[list(layers), 1, 0] = places % forward.draws
    of[list(reversed(layers)), 0, 0] = forward.draws + places % backward.draws
    return _cases(_joined(forward, backward), of)


def _joined(first: Loads, second: Loads) -> Loads:
    """The draws of both."""
    pairs = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in (field.name for field in fields(Loads))
        if name != "expert_tokens"
    }
    return Loads(**pairs, expert_tokens=None)


def _peer_cases(loads: Loads, of: npt.NDArray[np.int32]) -> Cases:
    """A case for each draw and rank."""
    return replace(_cases(loads, of), rows=loads.rows.ravel(), unique=loads.unique.ravel())


def _cases(loads: Loads, of: npt.NDArray[np.int32]) -> Cases:
    busiest = loads.rows.argmax(axis=1)
    draws = np.arange(loads.draws)
    return Cases(
        rows=loads.rows[draws, busiest].astype(float),
        unique=loads.unique[draws, busiest].astype(float),
        ib_out=loads.ib_out_copies.astype(float),
        ib_in=loads.ib_in_copies.astype(float),
        nvl_out=loads.nvl_out_copies.astype(float),
        nvl_in=loads.nvl_in_copies.astype(float),
        of=of,
    )
