"""What is run and what comes of it; knows nothing of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from simdeep.errors import InputError, Problem
from simdeep.program.schedule import Act, Spans, Table, acts_of

TOLERANCE = 1e-9
"""Largest error of a gradient or loss that counts as equal, relative to the largest entry of the
reference: float64 sums in another order differ by about 1e-15, a lost micro-batch by 1e-1."""

MAX_RANKS = 16
"""Processes of one run; each is a torch of its own and takes about 300 MiB."""


class Runtime(StrEnum):
    """Who executes the table: torch.distributed.pipelining, or `simdeep.validate.runtime`."""

    TORCH = "torch"
    SIMDEEP = "simdeep"


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The model that is run: residual blocks in float64, of equal size on every stage.

    `rows` is the number of rows (tokens) in a micro-batch, `width` the width of the blocks'
    inputs and outputs; inside, a block is four times as wide.
    """

    width: int = 16
    rows: int = 4
    blocks_per_stage: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """One table in one runtime."""

    table: Table
    runtime: Runtime


@dataclass(frozen=True, slots=True)
class StageGradient:
    """The gradients that one rank ended with for one stage.

    `error` is the largest difference from the unpipelined run over all parameters, each relative
    to the largest entry of its reference; infinite if a gradient is missing or not finite.
    `digest` is equal where all gradients are equal bit by bit.
    """

    rank: int
    stage: int
    error: float
    digest: str


@dataclass(frozen=True)
class Outcome:
    """What running a case gave.

    `spans` are the measured times of every cell in seconds, 0 being the first cell's start; None
    for torch's runtime, which does not tell them. A span is the computing of a cell after its
    inputs have come; the clock is the machine's, the same for all ranks. Each rank computes with
    one thread: where there are fewer cores than ranks, spans hold the waiting for a core.
    """

    case: Case
    loss: float
    reference_loss: float
    gradients: tuple[StageGradient, ...]
    spans: Spans | None = field(repr=False)

    @property
    def gradient_error(self) -> float:
        """The largest `StageGradient.error`."""
        return max(gradient.error for gradient in self.gradients)

    @property
    def loss_error(self) -> float:
        """Difference of the loss from the unpipelined run's, relative to it."""
        return abs(self.loss - self.reference_loss) / abs(self.reference_loss)

    @property
    def copies_equal(self) -> bool:
        """Whether all ranks that hold a stage ended with the same gradients, bit by bit."""
        distinct = {(gradient.stage, gradient.digest) for gradient in self.gradients}
        return len(distinct) == len({gradient.stage for gradient in self.gradients})

    @property
    def equal(self) -> bool:
        """Whether loss and gradients are those of the unpipelined run, within `TOLERANCE`."""
        close = self.gradient_error <= TOLERANCE and self.loss_error <= TOLERANCE
        return close and self.copies_equal


def case_problems(table: Table) -> tuple[Problem, ...]:
    """What keeps a table from being run in any runtime."""
    found = []
    if table.window:
        message = f"{table.name} is a cut out of a longer run; only a whole step can be run"
        found.append(Problem("", "schedule", message))
    if table.n_ranks > MAX_RANKS:
        message = (
            f"{table.n_ranks} ranks would be as many processes on this machine; "
            f"allowed: {MAX_RANKS} or fewer"
        )
        found.append(Problem("", "pp", message))
    return tuple(found)


def torch_problems(table: Table) -> tuple[Problem, ...]:
    """What keeps torch's runtime from running a table that simdeep's own runs."""
    found = []
    if table.directions > 1:
        message = (
            f"{table.name} holds each stage on {table.param_copies} ranks; torch's runtime knows "
            f"one rank for a stage, so run it with the runtime `{Runtime.SIMDEEP}`"
        )
        found.append(Problem("", "schedule", message))
    # torch looks up the losses of the last stage by the order in which they were computed.
    elif _last_stage_order(table) != sorted(_last_stage_order(table)):
        message = (
            f"{table.name} runs the last stage's forwards out of order, which torch's runtime "
            f"cannot; run it with the runtime `{Runtime.SIMDEEP}`"
        )
        found.append(Problem("", "schedule", message))
    return tuple(found)


def _last_stage_order(table: Table) -> list[int]:
    """Micro-batches in the order of their forwards on the last stage."""
    acts: list[Act] = [
        act for row in table.rows for cell in row for act in acts_of(cell) if act.kind == "F"
    ]
    return [act.mb for act in acts if act.stage == table.n_stages - 1]


def refuse(cases: tuple[Case, ...]) -> None:
    """Raise InputError with everything that keeps the cases from being run."""
    problems: list[Problem] = []
    for case in cases:
        problems += case_problems(case.table)
        if case.runtime is Runtime.TORCH:
            problems += torch_problems(case.table)
    if problems:
        raise InputError(dict.fromkeys(problems))
