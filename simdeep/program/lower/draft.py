"""A program while it is made: columns that later passes still add rows to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from simdeep.program.columns import Program
from simdeep.program.lower.template import COMPONENTS, STREAMS
from simdeep.program.lower.works import Works

I64 = npt.NDArray[np.int64]

_ZERO = ("mem_take", "mem_free", "case", "work")
"""Columns that are 0, not -1, where a row says nothing."""

DTYPES: dict[str, type[np.signedinteger[Any]]] = {
    **dict.fromkeys(("stream", "kind", "action"), np.int8),
    **dict.fromkeys(("rank", "component", "stage", "layer", "microbatch"), np.int32),
    **dict.fromkeys(("block", "work", "case", "peer", "group"), np.int32),
    **dict.fromkeys(("mem_take", "mem_free"), np.int64),
}
"""Columns of a draft and of the program it becomes."""


def blank(n: int) -> dict[str, npt.NDArray[Any]]:
    """Columns of `n` rows that say nothing."""
    return {name: np.full(n, 0 if name in _ZERO else -1, t) for name, t in DTYPES.items()}


@dataclass(frozen=True, eq=False)
class Draft:
    """A program that later passes still add to: columns and (task, dependency) pairs."""

    n_ranks: int
    columns: dict[str, npt.NDArray[Any]]
    deps: I64

    @property
    def n(self) -> int:
        """Number of tasks."""
        return len(self.columns["rank"])

    def extended(self, rows: Sequence[dict[str, int]], deps: Sequence[tuple[int, int]]) -> Draft:
        """With `rows` behind its own (what a row does not name is -1, bytes and case 0)."""
        columns = {
            name: np.concatenate(
                [old, np.array([r.get(name, 0 if name in _ZERO else -1) for r in rows], old.dtype)]
            )
            for name, old in self.columns.items()
        }
        pairs = np.array(deps, np.int64).reshape(-1, 2)
        return Draft(self.n_ranks, columns, np.concatenate([self.deps, pairs]))

    def program(self, works: Works) -> Program:
        """The finished program."""
        n = self.n
        # One sort of task * n + dependency instead of one for each column.
        task, dependency = np.divmod(np.sort(self.deps[:, 0] * n + self.deps[:, 1]), n)
        counts = np.bincount(task, minlength=n)
        return Program(
            n_ranks=self.n_ranks,
            streams=STREAMS,
            components=COMPONENTS,
            works=tuple(works.items),
            **cast(dict[str, Any], self.columns),
            dep_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            dep_idx=dependency,
        )
