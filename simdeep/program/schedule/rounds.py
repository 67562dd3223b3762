"""The order in which an interleaved rank goes through its chunks: depth first, round by round."""

from __future__ import annotations

from itertools import chain

from simdeep.program.schedule.actions import Act, Kind, acts


def round_size(pp: int, microbatches: int) -> int:
    """Micro-batches that a rank runs through one stage before it turns to its next.

    torch's rule is rounds of equal size, as many as there are whole `pp` in the micro-batches.
    Where they do not divide, Megatron's: the smallest round of at least `pp` that leaves none, or
    at least `pp`, for the last one (`microbatch_group_size_per_vp_stage`; arXiv 2104.04473, section
    2.2.2 has rounds of `pp`, to which both rules come if `pp` divides the micro-batches).
    """
    whole = max(1, microbatches // pp)
    if microbatches % whole == 0:
        return microbatches // whole
    sizes = range(pp, microbatches + 1)
    return next(n for n in sizes if microbatches % n == 0 or microbatches % n >= pp)


def in_rounds(kind: Kind, stages: tuple[int, ...], microbatches: int, size: int) -> list[Act]:
    """An action of every chunk of a rank: round after round, in each stage after stage."""
    all_acts = [acts(kind, stage, range(microbatches)) for stage in stages]
    starts = range(0, microbatches, size)
    parts = (every[start : start + size] for start in starts for every in all_acts)
    return list(chain.from_iterable(parts))


def warm_up(rank: int, pp: int, vpp: int, size: int, per_rank: int) -> int:
    """Forwards before the first backward; `per_rank` more for each rank behind this one."""
    return (vpp - 1) * size + per_rank * (pp - 1 - rank)
