"""What is run and predicted: a grid of schedules, ranks and micro-batches, and how; no torch."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from simdeep.errors import InputError, Problem
from simdeep.program.schedule import Table, build_table, find_schedule, schedule_problems
from simdeep.spec.model import Model
from simdeep.spec.resources import nearest
from simdeep.validate.cases import MAX_RANKS

TORCH_CLASSES = {
    "gpipe": "GPipe",
    "1f1b": "1F1B",
    "interleaved-1f1b": "Interleaved1F1B",
    "zb-v": "ZBVZeroBubble",
    "dualpipev": "DualPipeV",
}
"""Schedules that torch.distributed.pipelining has a class for, by simdeep's name."""

OWN = "dualpipe"
"""Runs in simdeep's runtime: torch has no schedule whose stages lie on two ranks."""

SCHEDULES = (*TORCH_CLASSES, OWN)


@dataclass(frozen=True)
class Point:
    """One pipeline: a schedule on so many processes, with so many micro-batches."""

    schedule: str
    ranks: int
    microbatches: int

    @cached_property
    def table(self) -> Table:
        """The order both simdeep and the real run execute."""
        return build_table(self.schedule, self.ranks, self.microbatches, self._vpp)

    @property
    def n_stages(self) -> int:
        """Stages the model is split into."""
        return self.ranks * self._vpp

    @property
    def _vpp(self) -> int:
        return find_schedule(self.schedule).default_vpp

    def __str__(self) -> str:
        return f"{self.schedule}, {self.ranks} ranks, {self.microbatches} micro-batches"

    def problems(self) -> list[str]:
        """What keeps the schedule from these sizes, simdeep's rules and torch's."""
        found = schedule_problems(self.schedule, self.ranks, self.microbatches, self._vpp)
        if found:
            return [problem.message for problem in found]
        # Torch's classes refuse what simdeep's tables can do.
        least = {"1f1b": self.ranks, "dualpipev": 2 * self.ranks}.get(self.schedule, 1)
        if self.microbatches >= least:
            return []
        ranks = f"{self.ranks} ranks" if self.ranks > 1 else "1 rank"
        return [
            f"torch's {self.schedule} needs at least {least} micro-batches on {ranks}; "
            f"microbatches is {self.microbatches}"
        ]


@dataclass(frozen=True, slots=True)
class Setup:
    """How the points are run: the model, the micro-batches' size, and how often.

    `layers` overrides the configuration's number of layers; a micro-batch has `sequences` x
    `tokens` tokens. In each of `turns` every action of every stage is timed a few times, and every
    point runs once. With `emulate`, every rank waits as long as computing would take, and sends and
    receives for real.
    """

    model: str = "tiny-moe"
    layers: int | None = None
    sequences: int = 4
    tokens: int = 64
    turns: int = 10
    seed: int = 0
    emulate: bool = False
    backend: str = "gloo"

    @property
    def changes(self) -> dict[str, int]:
        """Keys of the model's configuration to change."""
        return {} if self.layers is None else {"num_hidden_layers": self.layers}


def make_grid(
    schedules: Sequence[str], ranks: Sequence[int], microbatches: Sequence[int]
) -> tuple[Point, ...]:
    """All combinations; those of equally many ranks together."""
    grid = itertools.product(ranks, schedules, microbatches)
    return tuple(dict.fromkeys(Point(name, p, m) for p, name, m in grid))


def refuse(points: Sequence[Point], setup: Setup, model: Model, cores: int) -> None:
    """Raise one InputError with everything that keeps the points from being run.

    Args:
        points: as given; schedules may be misspelt.
        setup: how they would be run.
        model: what would be run.
        cores: that this machine has (or GPUs, where those compute).
    """
    problems = [*_unknown(points), *_ranks(points, setup, cores)]
    if not problems:
        problems += _sizes(points)
    if not problems:
        problems += _stages(points, model)
    if model.vocab < 256:
        message = f"vocab_size {model.vocab}, must be 256 or more: the text is read by bytes"
        problems.append(Problem(f"model {model.name}", "", message))
    if problems:
        raise InputError(dict.fromkeys(problems))


def cores_here() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _unknown(points: Sequence[Point]) -> Iterable[Problem]:
    for name in dict.fromkeys(point.schedule for point in points):
        if name not in SCHEDULES:
            near = nearest(name, SCHEDULES)
            hint = f"did you mean {near}? " if near else ""
            message = f"{name!r} is not run by torch or simdeep here; {hint}"
            yield Problem("--schedules", "", message + f"known: {', '.join(SCHEDULES)}")


def _ranks(points: Sequence[Point], setup: Setup, cores: int) -> Iterable[Problem]:
    for ranks in dict.fromkeys(point.ranks for point in points):
        if not 1 <= ranks <= MAX_RANKS:
            message = f"{ranks} processes on this machine; allowed: 1 to {MAX_RANKS}"
            yield Problem("--ranks", "", message)
        elif ranks > cores and not setup.emulate:
            message = f"{ranks} ranks would share {cores} cores; add --emulate, which replaces "
            yield Problem("--ranks", "", message + "computing by waits of calibrated length")


def _sizes(points: Sequence[Point]) -> Iterable[Problem]:
    return (Problem("", "", text) for point in points for text in point.problems())


def _stages(points: Sequence[Point], model: Model) -> Iterable[Problem]:
    from simdeep.validate.transformer.split import stage_problems

    return stage_problems(model, [point.n_stages for point in points])
