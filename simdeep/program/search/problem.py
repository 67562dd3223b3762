"""What a schedule search is given: where stages lie, what chunks cost and keep, what fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError, Problem
from simdeep.program.schedule.actions import KINDS
from simdeep.program.schedule.costs import F64, Costs
from simdeep.program.schedule.table import Table

_F, _I, _W, _B = range(len(KINDS))
PerRank: TypeAlias = float | Sequence[float] | F64
Goal: TypeAlias = Literal["makespan", "rank_span"]
"""What to make small: the time from the first start to the last end of all ranks, or the longest
time from a rank's own first start to its own last end (what counts where steps follow each other
without a flush, the measure of the zero-bubble paper)."""


@dataclass(frozen=True)
class Placement:
    """Which rank holds which stage, as in `Table.stage_ranks`, and how many micro-batches come."""

    name: str
    n_ranks: int
    microbatches: int
    stage_ranks: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        directions, stages = len(self.stage_ranks), self.n_stages
        problems = []
        if self.microbatches < 1 or self.microbatches % max(directions, 1):
            text = f"is {self.microbatches}; must be a multiple of the {directions} directions"
            problems.append(Problem("", "microbatches", text))
        held = {rank for ranks in self.stage_ranks for rank in ranks}
        if not held or held != set(range(self.n_ranks)):
            text = f"stages lie on ranks {sorted(held)}; each of 0..{self.n_ranks - 1} needs one"
            problems.append(Problem("", "stage_ranks", text))
        if any(len(ranks) != stages for ranks in self.stage_ranks):
            problems.append(Problem("", "stage_ranks", "must be equally long in every direction"))
        if problems:
            raise InputError(problems)

    @property
    def n_stages(self) -> int:
        """Stages that each micro-batch passes."""
        return len(self.stage_ranks[0]) if self.stage_ranks else 0

    @classmethod
    def of(cls, table: Table) -> Placement:
        """The placement of a table."""
        return cls(table.name, table.n_ranks, table.n_microbatches, table.stage_ranks)

    @classmethod
    def one_stage(cls, pp: int, microbatches: int) -> Placement:
        """Stage s on rank s."""
        return cls("one stage a rank", pp, microbatches, (tuple(range(pp)),))

    @classmethod
    def interleaved(cls, pp: int, vpp: int, microbatches: int) -> Placement:
        """Stage s on rank s mod pp: vpp stages a rank."""
        return cls("interleaved", pp, microbatches, (tuple(range(pp)) * vpp,))

    @classmethod
    def v_shape(cls, pp: int, microbatches: int) -> Placement:
        """Two stages a rank, there and back: the last stage is on rank 0."""
        there = tuple(range(pp))
        return cls("V-shape", pp, microbatches, (there + there[::-1],))

    @classmethod
    def two_directions(cls, pp: int, microbatches: int) -> Placement:
        """DualPipe's: half of the micro-batches from rank 0 on, half from the last rank on."""
        there = tuple(range(pp))
        return cls("two directions", pp, microbatches, (there, there[::-1]))


@dataclass(frozen=True, eq=False)
class Activations:
    """Bytes that a chunk holds on its rank, one number or one a stage.

    `after_f` between its forward and its input gradient, `after_i` between its input gradient and
    its weight gradient (nothing is held after a full backward): (1, 0) counts chunks freed after I,
    (1, 1) chunks freed after W, and with recomputation `after_i` is the larger. `limit`: bytes a
    rank has for activations, one number or one a rank.
    """

    after_f: float | Sequence[float] | F64 = 1.0
    after_i: float | Sequence[float] | F64 = 0.0
    limit: PerRank = inf

    def sizes(self, n_stages: int) -> tuple[F64, F64]:
        """`after_f` and `after_i` of every stage."""
        return (
            _spread("after_f", self.after_f, n_stages),
            _spread("after_i", self.after_i, n_stages),
        )

    def limits(self, n_ranks: int) -> F64:
        """The limit of every rank."""
        return _spread("limit", self.limit, n_ranks, finite=False)

    def peaks(self, table: Table) -> F64:
        """Most bytes each rank holds when it runs its row of a table, at the edges of cells."""
        after_f, after_i = (np.asarray(size) for size in self.sizes(table.n_stages))
        grows = after_i - after_f
        columns = table.columns
        kind, stage, cells = columns.kind, columns.stage, int(columns.row_ptr[-1])
        takes = np.where(kind == _F, after_f[stage], 0.0)
        takes += np.where(kind == _I, np.maximum(grows, 0.0)[stage], 0.0)
        frees = np.where(kind == _I, np.maximum(-grows, 0.0)[stage], 0.0)
        frees += np.where(kind == _W, after_i[stage], 0.0)
        frees += np.where(kind == _B, after_f[stage], 0.0)
        taken = np.bincount(columns.cell, takes, cells)
        freed = np.bincount(columns.cell, frees, cells)
        peaks = []
        for rank in range(table.n_ranks):
            row = slice(columns.row_ptr[rank], columns.row_ptr[rank + 1])
            held = np.cumsum(taken[row] - freed[row]) + freed[row]
            peaks.append(float(held.max(initial=0.0)))
        return np.array(peaks)

    def fits(self, table: Table) -> bool:
        """Whether a table stays within the limits."""
        return bool((self.peaks(table) <= self.limits(table.n_ranks) * (1 + _ROUNDING)).all())


_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Task:
    """A search: the placement, the costs of `Costs`, the bytes, and what to make small."""

    placement: Placement
    costs: Costs = field(default_factory=Costs)
    activations: Activations = field(default_factory=Activations)
    goal: Goal = "makespan"

    def __post_init__(self) -> None:
        """Refuse limits below what any order needs: all of a rank's stages of one micro-batch.

        And blocks shorter than one of their parts: the search relies on neither being held up by
        taking a block apart.
        """
        place = self.placement
        single, pair = self.costs.single(place.n_stages), self.costs.pair(place.n_stages)
        longer = np.maximum(single[_F][:, None], single[_B][None, :])
        if (pair < longer * (1 - _ROUNDING)).any():
            text = "an overlapped block takes less than its forward or its backward alone"
            raise InputError([Problem("", "fb", text)])
        after_f, _ = self.activations.sizes(place.n_stages)
        need = np.zeros(place.n_ranks)
        for ranks in place.stage_ranks:
            need = np.maximum(need, np.bincount(ranks, after_f, place.n_ranks))
        limits = self.activations.limits(place.n_ranks)
        problems = [
            Problem(
                "", f"memory of rank {r}", f"is {limits[r]:g}; one micro-batch needs {need[r]:g}"
            )
            for r in np.flatnonzero(need > limits * (1 + _ROUNDING)).tolist()
        ]
        if problems:
            raise InputError(problems)

    @property
    def blocks_gain(self) -> npt.NDArray[np.bool_]:
        """[stage of F][stage of B]: whether an overlapped block is shorter than its parts."""
        n = self.placement.n_stages
        single = self.costs.single(n)
        parts = single[_F][:, None] + single[_B][None, :]
        gains: npt.NDArray[np.bool_] = self.costs.pair(n) < parts * (1 - _ROUNDING)
        return gains


def _spread(name: str, value: PerRank, n: int, *, finite: bool = True) -> F64:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim and array.shape != (n,):
        raise InputError([Problem("", name, f"{array.size} values given; give one, or {n}")])
    if not (array >= 0).all() or (finite and not np.isfinite(array).all()):
        raise InputError([Problem("", name, "must be a finite number of bytes, zero or more")])
    return np.broadcast_to(array, (n,))
