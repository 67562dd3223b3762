"""The closed form of each schedule."""

from __future__ import annotations

from collections.abc import Callable
from math import isclose
from typing import TypeAlias

from simdeep.program.schedule.closed import ClosedForm, Condition, Size, Uniform
from simdeep.program.schedule.rounds import round_size, warm_up
from simdeep.program.schedule.table import FreedAfter

EVERY = "every rank"
_Chunks: TypeAlias = Callable[[Size, int, FreedAfter], int]


def _all_work(size: Size, c: Uniform) -> float:
    return size.microbatches * size.vpp * (c.f + c.b)


def _two_stages(size: Size, c: Uniform) -> float:
    return 2 * size.microbatches * (c.f + c.b)


def _equal(*values: float) -> bool:
    return all(isclose(value, values[0], rel_tol=1e-9) for value in values)


_SHORT_W = Condition("W <= F and W <= I", lambda pp, m, c: c.w <= min(c.f, c.i))
_FULL = Condition("M >= PP", lambda pp, m, c: m >= pp)
_TWICE_FULL = Condition("M >= 2PP-1", lambda pp, m, c: m >= 2 * pp - 1)
_ALL_EQUAL = Condition("F = I = W", lambda pp, m, c: _equal(c.f, c.i, c.w))
_F_IS_I = Condition("F = I", lambda pp, m, c: _equal(c.f, c.i))
_W_TO_I = Condition("W <= I", lambda pp, m, c: c.w <= c.i)
_PAIR_FROM_B = Condition("F&B >= B", lambda pp, m, c: c.pair >= c.b)


def _falling(size: Size, rank: int, freed: FreedAfter) -> int:
    return min(size.pp - rank, size.microbatches)


GPIPE = ClosedForm(
    bubble_text="(PP-1)(F+B)",
    bubble_of=EVERY,
    bubble=lambda pp, c: (pp - 1) * (c.f + c.b),
    work=_all_work,
    conditions=(),
    activations_text="M",
    chunks=lambda size, rank, freed: size.microbatches,
)

ONE_F_ONE_B = ClosedForm(
    bubble_text="(PP-1)(F+B)",
    bubble_of=EVERY,
    bubble=lambda pp, c: (pp - 1) * (c.f + c.b),
    work=_all_work,
    conditions=(),
    activations_text="PP",
    chunks=_falling,
)

ZB1P = ClosedForm(
    bubble_text="(PP-1)(F+B-2W)",
    bubble_of=EVERY,
    bubble=lambda pp, c: (pp - 1) * (c.f + c.b - 2 * c.w),
    work=_all_work,
    conditions=(_FULL, _SHORT_W),
    activations_text="PP",
    chunks=lambda size, rank, freed: (
        _falling(size, rank, freed) if freed == "I" else min(size.pp, size.microbatches)
    ),
)

# arXiv 2401.10241, table 1, where B is the input gradient alone.
ZB_H2 = ClosedForm(
    bubble_text="(PP-1)(F+B-3W)",
    bubble_of="rank 0 over its own span, the largest; the makespan has (PP-1)(2W-I) more if 2W > I",
    bubble=lambda pp, c: (pp - 1) * (c.f + c.b - 3 * c.w),
    work=_all_work,
    conditions=(_TWICE_FULL, _SHORT_W),
    activations_text="2PP-1",
    chunks=lambda size, rank, freed: min(
        2 * (size.pp - rank) - 1 if freed == "I" else 2 * size.pp - 1, size.microbatches
    ),
    own_span=True,
    lag=lambda pp, c: (pp - 1) * max(0.0, 2 * c.w - c.i),
)


def _looped_chunks(per_rank: int, in_flight: int, late: bool) -> _Chunks:
    """Forwards before the first backward and those in flight beside it, all of them at most.

    `late`: weight gradients fall behind by as many chunks as the rank has fewer forwards.
    """

    def chunks(size: Size, rank: int, freed: FreedAfter) -> int:
        held_by = 0 if late and freed == "W" else rank
        group = round_size(size.pp, size.microbatches)
        ahead = warm_up(held_by, size.pp, size.vpp, group, per_rank)
        return min(ahead + in_flight, size.microbatches * size.vpp)

    return chunks


def _overlap_work(size: Size, c: Uniform) -> float:
    """Of the last rank, which has most of its actions in blocks."""
    chunks = size.microbatches * size.vpp
    alone = min((size.vpp - 1) * round_size(size.pp, size.microbatches) + 1, chunks)
    return (chunks - alone) * c.pair + alone * (c.f + c.b)


INTERLEAVED = ClosedForm(
    bubble_text="(PP-1)(F+B)",
    bubble_of="every rank, F and B of one of its stages",
    bubble=lambda pp, c: (pp - 1) * (c.f + c.b),
    work=_all_work,
    conditions=(_FULL,),
    activations_text="PP(VPP+1)-1 if PP divides M",
    chunks=_looped_chunks(2, 1, late=False),
)

INTERLEAVED_OVERLAP = ClosedForm(
    bubble_text="(PP-1)(F+B)",
    bubble_of="the last rank, the largest if F&B <= F+B (equality: every rank)",
    bubble=lambda pp, c: (pp - 1) * (c.f + c.b),
    work=_overlap_work,
    conditions=(_FULL, _PAIR_FROM_B),
    activations_text="PP(VPP+1) if PP divides M",
    chunks=_looped_chunks(2, 2, late=False),
)

INTERLEAVED_ZB = ClosedForm(
    bubble_text="(PP-1)(F+B-2W)",
    bubble_of="every rank, F, B and W of one of its stages",
    bubble=lambda pp, c: (pp - 1) * (c.f + c.b - 2 * c.w),
    work=_all_work,
    conditions=(_FULL, _SHORT_W),
    activations_text="PP*VPP if PP divides M",
    chunks=_looped_chunks(1, 1, late=True),
)

ZB_V = ClosedForm(
    bubble_text="0",
    bubble_of="every rank over its own span; the makespan has (PP-1)F more",
    bubble=lambda pp, c: 0.0,
    work=_two_stages,
    conditions=(_TWICE_FULL, _ALL_EQUAL),
    activations_text="2PP chunks, as much as 1F1B's PP of twice the size",
    chunks=lambda size, rank, freed: min(2 * size.pp, 2 * size.microbatches),
    own_span=True,
    lag=lambda pp, c: (pp - 1) * c.f,
)

# arXiv 2405.15362 gives the bubbles of the V family by their leading terms, PP/2M of 6MF and
# 2PP/3M; these are what its building blocks come to.
V_HALF = ClosedForm(
    bubble_text="(3PP-3)F, (3PP-4)F if PP is odd",
    bubble_of="rank 0, the largest",
    bubble=lambda pp, c: (3 * pp - 3 - (pp % 2 if pp > 1 else 0)) * c.f,
    work=_two_stages,
    conditions=(_FULL, _ALL_EQUAL),
    activations_text="2((PP+2)//2)",
    chunks=lambda size, rank, freed: 2 * min((size.pp + 2) // 2, size.microbatches),
)

V_MIN = ClosedForm(
    bubble_text="(4PP-5)F, (4PP-3)F if 3 divides PP",
    bubble_of="rank 0, the largest",
    bubble=lambda pp, c: (4 * pp - (3 if pp % 3 == 0 else 5 if pp > 1 else 4)) * c.f,
    work=_two_stages,
    conditions=(_FULL, _ALL_EQUAL),
    activations_text="2((PP+4)//3)",
    chunks=lambda size, rank, freed: 2 * min((size.pp + 4) // 3, size.microbatches),
)


def _dualpipe_work(pp: int, microbatches: int, c: Uniform) -> float:
    alone = pp + 1  # forwards, and as many backwards, that a middle rank runs outside of blocks
    return (microbatches - alone) * c.pair + alone * (c.f + c.b)


DUALPIPE = ClosedForm(
    bubble_text="(PP/2-1)(F&B+B-3W)",
    bubble_of="the two middle ranks, the largest if F&B <= F+B (equality: every rank)",
    bubble=lambda pp, c: (pp / 2 - 1) * (c.pair + c.b - 3 * c.w),
    work=lambda size, c: _dualpipe_work(size.pp, size.microbatches, c),
    conditions=(_F_IS_I, _W_TO_I, _PAIR_FROM_B),
    activations_text="PP+1",
    chunks=lambda size, rank, freed: size.pp + 1,
    param_copies=2,
)

DUALPIPEV = ClosedForm(
    bubble_text="(PP-1)(F&B+B-3W)",
    bubble_of="the last rank, the largest if F&B <= F+B (equality: every rank)",
    bubble=lambda pp, c: (pp - 1) * (c.pair + c.b - 3 * c.w),
    work=lambda size, c: _dualpipe_work(2 * size.pp, 2 * size.microbatches, c),
    conditions=(_F_IS_I, _W_TO_I, _PAIR_FROM_B),
    activations_text="2PP+1",
    chunks=lambda size, rank, freed: 2 * size.pp + 1,
)
