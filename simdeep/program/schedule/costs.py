"""What the actions of a schedule cost, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError, Problem
from simdeep.program.schedule.actions import KINDS

F64 = npt.NDArray[np.float64]
PerStage: TypeAlias = float | Sequence[float] | F64


@dataclass(frozen=True, eq=False)
class Costs:
    """What actions take, all in one unit of time; a full backward B takes `i + w`.

    `f`, `i`, `w`: one number for all stages, or one a stage. `fb`: an overlapped block, as one
    number or as [stage of its forward][stage of its backward]; without it f + i + w of the stages
    concerned (an overlap that gains nothing). `p2p`: from one rank to another, either way.
    """

    f: PerStage = 1.0
    i: PerStage = 1.0
    w: PerStage = 1.0
    fb: float | Sequence[Sequence[float]] | F64 | None = None
    p2p: float = 0.0

    def single(self, n_stages: int) -> F64:
        """Time of an action on its own, [kind as in `KINDS`][stage]."""
        f, i, w = (
            _spread(name, value, (n_stages,))
            for name, value in (("f", self.f), ("i", self.i), ("w", self.w))
        )
        return np.stack([f, i, w, i + w])

    def pair(self, n_stages: int) -> F64:
        """Time of an overlapped block, [stage of F][stage of B]."""
        if self.fb is not None:
            return _spread("fb", self.fb, (n_stages, n_stages))
        single = self.single(n_stages)
        return np.asarray(
            single[KINDS.index("F")][:, None] + single[KINDS.index("B")], dtype=np.float64
        )

    def transfer(self) -> float:
        """Time of a transfer between two ranks."""
        return float(_spread("p2p", self.p2p, ()))


def _spread(name: str, value: PerStage | Sequence[Sequence[float]], shape: tuple[int, ...]) -> F64:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim and array.shape != shape:
        have = " x ".join(map(str, array.shape))
        want = " or ".join(("one number", *([" x ".join(map(str, shape))] if shape else [])))
        message = f"{have} values given; give {want}"
        raise InputError([Problem("", name, message)])
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise InputError([Problem("", name, "a cost must be a finite number, zero or more")])
    return np.broadcast_to(array, shape)
