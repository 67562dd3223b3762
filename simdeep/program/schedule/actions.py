"""What one cell of a schedule table says: an action on a chunk, or two run as one block.

Both are tuples underneath: a 64 x 512 table has a hundred thousand of them and must build in a
blink.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["F", "I", "W", "B"]
"""`F` forward, `I` input gradient, `W` weight gradient, `B` both gradients in one piece."""

KINDS: tuple[Kind, ...] = ("F", "I", "W", "B")


class Act(NamedTuple):
    """One action of one stage on one micro-batch; its text is torch's, such as `2I1`."""

    kind: Kind
    stage: int
    mb: int

    def __str__(self) -> str:
        return f"{self.stage}{self.kind}{self.mb}"


class Overlap(NamedTuple):
    """A forward and a full backward of two micro-batches run as one block on one rank.

    The block starts when the inputs of both are there, and the outputs of both leave at its end,
    as in DualPipe's `overlapped_forward_backward`.
    """

    f: Act
    b: Act

    def __str__(self) -> str:
        return f"({self.f};{self.b})OVERLAP_F_B"


def acts(kind: Kind, stage: int, microbatches: Iterable[int]) -> list[Act]:
    """The same action on several micro-batches; made without a Python call for each."""
    return list(map(tuple.__new__, repeat(Act), zip(repeat(kind), repeat(stage), microbatches)))


Cell: TypeAlias = Act | Overlap
Row: TypeAlias = tuple[Cell, ...]


def acts_of(cell: Cell) -> tuple[Act, ...]:
    """The single actions of a cell, forward first."""
    return (cell.f, cell.b) if isinstance(cell, Overlap) else (cell,)


def needed_by(act: Act, n_stages: int) -> Act | None:
    """The action that must have ended before `act`; an `I` here stands for `I` or `B`."""
    if act.kind == "F":
        return Act("F", act.stage - 1, act.mb) if act.stage else None
    if act.kind == "W":
        return Act("I", act.stage, act.mb)
    if act.stage == n_stages - 1:
        return Act("F", act.stage, act.mb)
    return Act("I", act.stage + 1, act.mb)
