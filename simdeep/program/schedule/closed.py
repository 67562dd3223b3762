"""What can be said of a schedule without running it: published closed forms and their conditions.

All of them assume equal stages and free transfers; costs are those of one stage, however many a
rank holds. "Bubble" is a rank's own idle time: makespan less the time it works, or, where a form
says so, the rank's own span less the time it works. In 1F1B and ZB1P every rank has the same. In
DualPipe ranks nearer the ends run fewer of their forwards and backwards alone, so when a block
gains time (F&B < F + B) the ranks work for different times, and (PP/2 - 1)(F&B + B - 3W) is the
idle time of the two middle ranks, which is the largest; with F&B = F + B every rank has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simdeep.program.schedule.table import FreedAfter


@dataclass(frozen=True, slots=True)
class Size:
    """What a table is built for: ranks, micro-batches, stages a rank."""

    pp: int
    microbatches: int
    vpp: int = 1


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


def _no_lag(pp: int, costs: Uniform) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """What can be said of a schedule without running it.

    Attributes:
        bubble_text: the published formula.
        bubble_of: whose idle time it is.
        bubble: the formula, of (ranks, costs).
        work: how long that rank works, so that work + bubble + lag is the makespan.
        conditions: when the form is exact.
        activations_text: most chunks a rank holds, in words.
        chunks: most chunks a rank holds, of (size, rank, freed after I or W).
        param_copies: ranks that hold the same stage (1, or 2 in DualPipe).
        own_span: the bubble counts from the rank's own start to its own end.
        lag: what the makespan has besides, of (ranks, costs); 0 unless `own_span`.
    """

    bubble_text: str
    bubble_of: str
    bubble: Callable[[int, Uniform], float]
    work: Callable[[Size, Uniform], float]
    conditions: tuple[Condition, ...]
    activations_text: str
    chunks: Callable[[Size, int, FreedAfter], int]
    param_copies: int = 1
    own_span: bool = False
    lag: Callable[[int, Uniform], float] = _no_lag

    def makespan(self, pp: int, microbatches: int, costs: Uniform, vpp: int = 1) -> float:
        """Time from the start of the first action to the end of the last."""
        work = self.work(Size(pp, microbatches, vpp), costs)
        return work + self.bubble(pp, costs) + self.lag(pp, costs)

    def activations(
        self, pp: int, microbatches: int, rank: int, freed: FreedAfter, vpp: int = 1
    ) -> int:
        """Most chunks the rank holds, a chunk being one stage's share of a micro-batch."""
        return self.chunks(Size(pp, microbatches, vpp), rank, freed)

    def unmet(self, pp: int, microbatches: int, costs: Uniform) -> tuple[str, ...]:
        """The conditions that these numbers break; none: the form is exact."""
        return tuple(c.text for c in self.conditions if not c.holds(pp, microbatches, costs))

    @property
    def condition_text(self) -> str:
        """All conditions in one line."""
        return ", ".join((*ASSUMED, *(c.text for c in self.conditions)))


ASSUMED = ("equal stages", "free transfers")
"""Conditions of every form, which the caller has to know."""


def p2p_messages(pp: int, microbatches: int, vpp: int = 1, *, v_shaped: bool = False) -> int:
    """Transfers between ranks in a step, all ranks together, forward and back.

    Each micro-batch crosses every boundary between stages of different ranks twice, whatever the
    order: pp * vpp - 1 boundaries where the pipeline is looped, 2 pp - 2 in a V, whose turn is on
    one rank. With one stage a rank, one between two others sends 2 * microbatches of them.
    """
    if pp == 1:
        return 0
    return 2 * microbatches * (2 * pp - 2 if v_shaped else pp * vpp - 1)
