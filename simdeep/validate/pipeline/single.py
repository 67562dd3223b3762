"""Measurements on one process that talks to no other. Imports torch."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from simdeep.program.schedule import Act, build_table
from simdeep.program.schedule.actions import KINDS, Kind
from simdeep.validate.computer import Computer
from simdeep.validate.pipeline.attempts import Pace, attempt
from simdeep.validate.pipeline.calibration import (
    END,
    REST_S,
    RESTED,
    Part,
    RuntimeCosts,
)
from simdeep.validate.pipeline.calm import Try
from simdeep.validate.pipeline.measured import RankStep
from simdeep.validate.pipeline.points import TORCH_CLASSES, Point, Setup
from simdeep.validate.pipeline.ranks import LEARNING_RATE, pin
from simdeep.validate.pipeline.torch_run import TorchRun
from simdeep.validate.pipeline.turns import Turns
from simdeep.validate.pipeline.work import Work, emulated_work, real_work
from simdeep.validate.runtime import RankRuntime
from simdeep.validate.timing import Durations, Notes, Span, finish_stream, nothing
from simdeep.validate.transformer.training import make_optimizer

IN_FLIGHT = 4
"""Micro-batches whose activations are held at once while stages are timed."""

_RESTED = 2
"""Of those, so many are timed after a rest."""

PASSES: tuple[tuple[Kind, ...], ...] = (("F", "B"), ("F", "I", "W"))
"""A forward with either kind of backward."""


def _order(text: str) -> tuple[tuple[Kind, int], ...]:
    found = [(kind, int(word[1:])) for word in text.split() for kind in KINDS if word[0] == kind]
    return tuple(found)


MIXED = {
    PASSES[0]: _order("F0 F1 B0 F2 B1 F3 B2 B3"),
    PASSES[1]: _order("F0 F1 I0 F2 I1 W0 F3 W1 I2 W2 I3 W3"),
}
"""The same as a schedule mixes them: what ran before an action decides what is in the caches."""

_WARM_UP = 1
_MICROBATCHES = 4
"""Of the steps that show what a runtime takes."""

_WAIT_S = 6e-3


class _Step(Protocol):
    """A runtime, ready to run."""

    def step(self) -> None:
        """Every action of the rank once."""


class StageTries(NamedTuple):
    """What was measured of a stage, turn by turn: seconds by what was timed."""

    turns: list[Try[dict[str, list[float]]]]
    saved_bytes: int
    parameter_bytes: int


def time_stages(
    setup: Setup, parts: Mapping[Part, Collection[Kind]], turns: Turns, number: int
) -> dict[Part, StageTries]:
    """Time these actions of some stages on the core of process `number`."""
    device, finish = _device(setup, number)
    if turns.singles > 1 and device == "cpu":
        pin(number)
    work = real_work(setup, IN_FLIGHT, device)
    timers = [_StageTimer(work, part, kinds, finish) for part, kinds in parts.items()]
    pace = Pace()
    gc.collect()
    gc.disable()
    for timer in timers * _WARM_UP:
        timer.once()
    for turn in range(turns.calibrations):
        turns.wait(f"ran {turn}", turns.ranks)
        turns.meet(f"start {turn}", number)
        for timer in timers:
            timer.tries.append(timer.attempt(pace, turns.singles))
        # Who is done goes on, so that the others are not alone while they measure.
        turns.meet(f"end {turn}", number, timers[0].forward)
        turns.mark(f"timed {turn}", number)
    return {
        timer.part: StageTries(timer.tries, timer.saved_bytes, timer.parameter_bytes)
        for timer in timers
    }


def _device(setup: Setup, number: int = 0) -> tuple[str, Callable[[], None]]:
    """Where process `number` computes, and what waits until that is done."""
    if setup.backend == "nccl":
        torch.cuda.set_device(number)
        return f"cuda:{number}", finish_stream
    return "cpu", nothing


class _StageTimer:
    """Runs one stage's actions on the hidden states that the stages before it make."""

    def __init__(self, work: Work, part: Part, kinds: Collection[Kind], finish: Callable[[], None]):
        self.part = part
        self._passes = [actions for actions in PASSES if not {*kinds}.isdisjoint(actions[1:])]
        _, index, n_stages = part
        self._finish = finish
        self._stage = work.stage(index, n_stages)
        self.notes = Notes(finish=finish)
        self._computer = Computer(
            {index: self._stage}, n_stages, work.inputs, work.targets, work.loss, self.notes
        )
        self._given = [_input(work, part, x) for x in work.inputs]
        last = index == n_stages - 1
        generator = torch.Generator().manual_seed(work.setup.seed)
        gradient = 1e-3 * torch.randn(work.shape, generator=generator).to(work.device)
        self._gradient = None if last else gradient
        self._optimizer = make_optimizer(self._stage, LEARNING_RATE)
        self._end: dict[str, float] = {}
        self._rested: list[Span] = []
        self.tries: list[Try[dict[str, list[float]]]] = []
        self.parameter_bytes = sum(p.numel() * p.element_size() for p in self._stage.parameters())
        self.saved_bytes = _saved_bytes(self._stage, work.inputs[0], self._given[0])

    def attempt(self, pace: Pace, own_cores: int) -> Try[dict[str, list[float]]]:
        """Seconds of one call of `once`; `own_cores` are busy for this calibration."""
        one = attempt(self.once, lambda spans: spans, pace, lambda passed, _: own_cores * passed)
        times = self._times(one.value)
        return Try(times, one.lost, one.foreign, one.before_s, one.after_s)

    def once(self) -> list[Span]:
        """Its actions on `IN_FLIGHT` micro-batches, some of them after a rest, and a step's end.

        Returns the spans of those without a rest.
        """
        self.notes.take()
        self._optimizer.zero_grad(set_to_none=False)
        for kind, mb in itertools.chain.from_iterable(MIXED[kinds] for kinds in self._passes):
            self._run(kind, mb)
        hot = self.notes.take()
        for kinds in self._passes:
            for kind in kinds:
                for mb in range(_RESTED):
                    if kind != "W":  # follows its I at once, or another W
                        time.sleep(REST_S)
                    self._run(kind, mb)
        self._rested = [span for span in self.notes.take() if span.act.kind != "W"]
        start = self._clock()
        for p in self._stage.parameters():
            p.grad.div_(IN_FLIGHT)
        scaled = self._clock()
        self._optimizer.step()
        self._end = dict(zip(END, (scaled - start, self._clock() - scaled), strict=True))
        return hot

    def forward(self) -> None:
        """One F, of which nobody takes the time."""
        self._run("F", 0)

    def _run(self, kind: Kind, mb: int) -> None:
        given = {"F": self._given[mb], "W": None}.get(kind, self._gradient)
        self._computer.run(Act(kind, self.part[1], mb), given)

    def _clock(self) -> float:
        self._finish()
        return time.perf_counter()

    def _times(self, spans: Sequence[Span]) -> dict[str, list[float]]:
        """Seconds of what the last call of `once` did, by kind of action and `END`."""
        found: dict[str, list[float]] = {what: [took] for what, took in self._end.items()}
        for span in spans:
            found.setdefault(span.act.kind, []).append(span.end - span.start)
        for span in self._rested:
            found.setdefault(span.act.kind + RESTED, []).append(span.end - span.start)
        return found


def _input(work: Work, part: Part, tokens: Tensor) -> Tensor | None:
    """What the stages before this one make of a micro-batch; None for the first."""
    _, index, n_stages = part
    if index == 0:
        return None
    with torch.no_grad():
        x = tokens
        for before in range(index):
            x = work.stage(before, n_stages)(x)
    return x


def _saved_bytes(stage: nn.Module, tokens: Tensor, given: Tensor | None) -> int:
    """Bytes that one forward keeps for its backward, parameters apart, each storage once."""
    own = {p.untyped_storage().data_ptr() for p in stage.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    alive = []
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        x = tokens if given is None else given.detach().requires_grad_()
        alive.append(stage(x))  # storages must not be used again while they are counted
    return sum(kept.values())


def time_runtime(setup: Setup, schedule: str) -> RuntimeCosts:
    """What a schedule's runtime takes beside computing: steps of one rank, nothing to send.

    Between actions: with the real model, since a core that has just computed something large runs a
    runtime slower. Inside and around them: with stand-in stages, whose actions and gradients take
    next to no time themselves. Emulated: with waits, in which the core sleeps or runs other ranks;
    all of it is the time that the core ran this thread.
    """
    small = emulated_work(setup, _MICROBATCHES)
    if setup.emulate:
        waits: Durations = {(kind, stage): (_WAIT_S,) for kind in KINDS for stage in (0, 1)}
        steps = usual = _steps_of_one_rank(schedule, small, Notes(waits, clock=time.thread_time))
    else:
        device, finish = _device(setup)
        work = real_work(setup, _MICROBATCHES, device)
        usual = _steps_of_one_rank(schedule, work, Notes(finish=finish))
        steps = _steps_of_one_rank(schedule, small, Notes())
    gaps = [
        after.start - before.end
        for step in usual
        for before, after in itertools.pairwise(step.spans)
    ]
    noted = [span for step in steps for span in step.spans]
    inside = _medians(noted) if setup.emulate else _longer_inside(noted, small)
    return RuntimeCosts(
        between_s=statistics.median(gaps),
        inside_s=inside,
        before_s=statistics.median(step.spans[0].start - step.start for step in steps),
        after_s=statistics.median(step.end - step.spans[-1].end for step in steps),
    )


def _steps_of_one_rank(schedule: str, work: Work, notes: Notes) -> list[RankStep]:
    """Steps of the schedule's runtime on one rank.

    DualPipe needs two, but its runtime runs any table: these two have all its actions.
    """
    runs: list[_Step] = []
    if schedule in TORCH_CLASSES:
        runs.append(TorchRun(Point(schedule, 1, _MICROBATCHES), 0, work, notes))
    else:
        stages = {0: work.stage(0, 1)}
        for name in ("1f1b", "zb1p"):
            table = build_table(name, 1, _MICROBATCHES)
            computer = Computer(stages, 1, work.inputs, work.targets, work.loss, notes)
            runs.append(RankRuntime(table, 0, computer, work.empty))
    return [step for run in runs for step in _timed_steps(run, notes)]


def _timed_steps(run: _Step, notes: Notes) -> list[RankStep]:
    steps = []
    for _ in range(_WARM_UP + 3):
        gc.collect()
        notes.take()
        start = notes.clock()
        run.step()
        end = notes.clock()
        steps.append(RankStep(start, end, tuple(notes.take())))
    return steps[_WARM_UP:]


def _medians(spans: Sequence[Span]) -> dict[Kind, float]:
    """Seconds of an action by kind."""
    kinds = dict.fromkeys(span.act.kind for span in spans)
    return {
        kind: statistics.median(s.end - s.start for s in spans if s.act.kind == kind)
        for kind in kinds
    }


def _longer_inside(spans: Sequence[Span], work: Work) -> dict[Kind, float]:
    """By how much actions in the runtime exceed the same ones computed directly."""
    direct = Notes()
    n = 1 + max(span.act.stage for span in spans)
    for index in range(n):
        computer = Computer(
            {index: work.stage(index, n)}, n, work.inputs, work.targets, work.loss, direct
        )
        hidden = torch.zeros(work.shape)
        for kinds in PASSES * 4:
            for kind in kinds:
                for mb in range(IN_FLIGHT):
                    first, last = index == 0, index == n - 1
                    given = None if kind == "W" or (first if kind == "F" else last) else hidden
                    computer.run(Act(kind, index, mb), given)
    alone = _medians(direct.take())
    return {kind: max(0.0, here - alone[kind]) for kind, here in _medians(spans).items()}


def time_waits(seconds: float = 0.01, samples: int = 50) -> float:
    """By how much a wait outlasts what it was asked for, seconds; median."""
    notes = Notes(waits={("F", 0): [seconds]})
    for mb in range(samples):
        with notes.taking(Act("F", 0, mb)):
            pass
    return statistics.median(s.end - s.start for s in notes.take()) - seconds
