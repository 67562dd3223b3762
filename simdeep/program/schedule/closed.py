"""Published closed forms of the schedules, each with the conditions under which it is exact.

All of them assume equal stages and free transfers. "Bubble" is a rank's own idle time: makespan
less the time it works. In 1F1B and ZB1P every rank has the same. In DualPipe ranks nearer the ends
run fewer of their forwards and backwards alone, so when a block gains time (F&B < F + B) the ranks
work for different times, and (PP/2 - 1)(F&B + B - 3W) is the idle time of the two middle ranks,
which is the largest; with F&B = F + B every rank has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isclose

from simdeep.program.schedule.table import FreedAfter


@dataclass(frozen=True, slots=True)
class Uniform:
    """What actions take on every stage alike, in one unit of time; `fb` None: F + I + W."""

    f: float
    i: float
    w: float
    fb: float | None = None

    @property
    def b(self) -> float:
        """A full backward."""
        return self.i + self.w

    @property
    def pair(self) -> float:
        """An overlapped forward and backward."""
        return self.f + self.b if self.fb is None else self.fb


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of (ranks, micro-batches, costs) for a form to be exact."""

    text: str
    holds: Callable[[int, int, Uniform], bool]


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """What can be said of a schedule without running it; functions take (pp, microbatches, ...).

    `bubble_text` is the published formula and `bubble_of` says whose idle time it is; `work` is
    how long that rank works, so that work + bubble is the makespan. `activations` is the most
    chunks a rank holds, for (pp, microbatches, rank, freed after I or W); `param_copies` how many
    stages' parameters a rank holds for each stage of its own share (1, or 2 in DualPipe).
    """

    bubble_text: str
    bubble_of: str
    bubble: Callable[[int, Uniform], float]
    work: Callable[[int, int, Uniform], float]
    conditions: tuple[Condition, ...]
    activations_text: str
    activations: Callable[[int, int, int, FreedAfter], int]
    param_copies: int

    def makespan(self, pp: int, microbatches: int, costs: Uniform) -> float:
        """Time from the start of the first action to the end of the last."""
        return self.work(pp, microbatches, costs) + self.bubble(pp, costs)

    def unmet(self, pp: int, microbatches: int, costs: Uniform) -> tuple[str, ...]:
        """The conditions that these numbers break; none: the form is exact."""
        return tuple(c.text for c in self.conditions if not c.holds(pp, microbatches, costs))

    @property
    def condition_text(self) -> str:
        """All conditions in one line."""
        return ", ".join((*ASSUMED, *(c.text for c in self.conditions)))


ASSUMED = ("equal stages", "free transfers")
"""Conditions of every form, which the caller has to know."""


def p2p_messages(pp: int, microbatches: int) -> int:
    """Transfers between ranks in a step, all ranks together: one stage a rank and direction.

    Each micro-batch crosses pp - 1 boundaries forward and back, whatever the order. A rank between
    two others sends 2 * microbatches of them.
    """
    return 2 * microbatches * (pp - 1)


def _all_work(pp: int, microbatches: int, costs: Uniform) -> float:
    return microbatches * (costs.f + costs.b)


def _dualpipe_work(pp: int, microbatches: int, costs: Uniform) -> float:
    alone = pp + 1  # forwards, and as many backwards, that a middle rank runs outside of blocks
    return (microbatches - alone) * costs.pair + alone * (costs.f + costs.b)


def _falling(pp: int, microbatches: int, rank: int, freed: FreedAfter) -> int:
    return min(pp - rank, microbatches)


ONE_F_ONE_B = ClosedForm(
    bubble_text="(PP-1)(F+B)",
    bubble_of="every rank",
    bubble=lambda pp, c: (pp - 1) * (c.f + c.b),
    work=_all_work,
    conditions=(),
    activations_text="PP",
    activations=_falling,
    param_copies=1,
)

ZB1P = ClosedForm(
    bubble_text="(PP-1)(F+B-2W)",
    bubble_of="every rank",
    bubble=lambda pp, c: (pp - 1) * (c.f + c.b - 2 * c.w),
    work=_all_work,
    conditions=(
        Condition("M >= PP", lambda pp, m, c: m >= pp),
        Condition("W <= F and W <= I", lambda pp, m, c: c.w <= min(c.f, c.i)),
    ),
    activations_text="PP",
    activations=lambda pp, m, rank, freed: (
        _falling(pp, m, rank, freed) if freed == "I" else min(pp, m)
    ),
    param_copies=1,
)

DUALPIPE = ClosedForm(
    bubble_text="(PP/2-1)(F&B+B-3W)",
    bubble_of="the two middle ranks, the largest if F&B <= F+B (equality: every rank)",
    bubble=lambda pp, c: (pp / 2 - 1) * (c.pair + c.b - 3 * c.w),
    work=_dualpipe_work,
    conditions=(
        Condition("F = I", lambda pp, m, c: isclose(c.f, c.i, rel_tol=1e-9)),
        Condition("W <= I", lambda pp, m, c: c.w <= c.i),
        Condition("F&B >= B", lambda pp, m, c: c.pair >= c.b),
    ),
    activations_text="PP+1",
    activations=lambda pp, m, rank, freed: pp + 1,
    param_copies=2,
)
