"""Which rank holds which stage, for tables whose micro-batches all travel the same way."""

from __future__ import annotations

StageRanks = tuple[tuple[int, ...], ...]


def looped(pp: int, vpp: int = 1) -> StageRanks:
    """Stage s on rank s mod pp: the pipeline goes round `vpp` times."""
    return (tuple(range(pp)) * vpp,)


def v_shaped(pp: int) -> StageRanks:
    """Two stages a rank, 0 to pp - 1 on the way there and pp to 2 pp - 1 on the way back.

    The first and the last stage are both on rank 0, and the turn on rank pp - 1 needs no transfer.
    """
    there = tuple(range(pp))
    return ((*there, *there[::-1]),)
