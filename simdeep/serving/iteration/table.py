"""Iteration times on a grid, multilinear in between: what a request simulation looks up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from simdeep.errors import SimdeepError

FloatArray = npt.NDArray[np.float64]


class OutsideTableError(SimdeepError):
    """An iteration was asked for that the table's grid does not reach."""


@dataclass(frozen=True, eq=False)
class IterationTable:
    """Seconds of one iteration (whole model) of a unit on a grid, multilinear in between.

    Looking up outside of the grid is refused (`OutsideTableError`): beyond it lies what memory, the
    chunk size or the model's context do not allow. Axes ascend and may have a single point.
    """

    prefill_tokens: FloatArray
    """[n_p] new prompt tokens a DP rank in the iteration (decode-only units: [0])."""
    decode_rows: FloatArray
    """[n_d] sequences decoding a DP rank (prefill-only units: [0])."""
    context: FloatArray
    """[n_c] mean attended KV tokens of the iteration's new tokens."""
    seconds: FloatArray
    """[n_p, n_d, n_c] of the iteration; 0 where it has nothing to do."""

    def __post_init__(self) -> None:
        if self.seconds.shape != tuple(len(axis) for axis in self.axes):
            raise SimdeepError(
                f"iteration times {self.seconds.shape} on a grid of "
                f"{tuple(len(axis) for axis in self.axes)}"
            )

    @property
    def axes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The grid: prefill tokens, decode rows, context."""
        return self.prefill_tokens, self.decode_rows, self.context

    def at(
        self,
        prefill_tokens: npt.ArrayLike,
        decode_rows: npt.ArrayLike,
        context: npt.ArrayLike,
    ) -> FloatArray:
        """Seconds of iterations, broadcast over the arguments.

        Args:
            prefill_tokens: new prompt tokens of a DP rank.
            decode_rows: decoding sequences of a DP rank.
            context: mean KV tokens that the new tokens attend to.
        """
        wanted = np.broadcast_arrays(
            *(np.asarray(x, dtype=np.float64) for x in (prefill_tokens, decode_rows, context))
        )
        names = ("prefill_tokens", "decode_rows", "context")
        found = [
            _locate(axis, values, name)
            for axis, values, name in zip(self.axes, wanted, names, strict=True)
        ]
        total = np.zeros(wanted[0].shape)
        for corner in product((0, 1), repeat=3):
            weight = np.ones(wanted[0].shape)
            at = []
            for (low, share), axis, side in zip(found, self.axes, corner, strict=True):
                weight = weight * (share if side else 1.0 - share)
                at.append(np.minimum(low + side, len(axis) - 1))
            total += weight * self.seconds[tuple(at)]
        return total


def _locate(
    axis: FloatArray, values: FloatArray, name: str
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """The grid point below each value and the share of the way to the next."""
    slack = 1e-9 * max(1.0, float(axis[-1]))
    wrong = ~((values >= axis[0] - slack) & (values <= axis[-1] + slack))
    if wrong.any():
        bad = values[wrong].ravel()[0]
        raise OutsideTableError(
            f"{name} {bad:g} is outside of the iteration table, {axis[0]:g} to {axis[-1]:g}"
        )
    if len(axis) == 1:
        return np.zeros(values.shape, dtype=np.intp), np.zeros(values.shape)
    low = np.clip(np.searchsorted(axis, values, side="right") - 1, 0, len(axis) - 2)
    share = (values - axis[low]) / (axis[low + 1] - axis[low])
    return low, np.clip(share, 0.0, 1.0)
