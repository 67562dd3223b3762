"""What each process of a run does: all points, in turn, as one rank. Imports torch."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from simdeep.validate.computer import Computer
from simdeep.validate.pipeline.attempts import Pace, attempt
from simdeep.validate.pipeline.measured import RankResult, RankStep
from simdeep.validate.pipeline.points import OWN, Point, Setup
from simdeep.validate.pipeline.run import Waits
from simdeep.validate.pipeline.torch_run import TorchRun
from simdeep.validate.pipeline.turns import Turns
from simdeep.validate.pipeline.work import Work, emulated_work, real_work
from simdeep.validate.runtime import RankRuntime
from simdeep.validate.timing import Notes, finish_stream, nothing
from simdeep.validate.transformer.training import make_optimizer

LEARNING_RATE = 1e-5
"""Small: the optimizer must take its time, not change the routing between repetitions."""


def pin(rank: int) -> None:
    """Let this process run on the rank's own core alone, where the system can.

    All its threads: those that move messages share the core with computing.
    """
    if hasattr(os, "sched_setaffinity"):
        core = {sorted(os.sched_getaffinity(0))[rank]}
        threads = Path("/proc/self/task")
        for thread in threads.iterdir() if threads.exists() else (Path("0"),):
            with suppress(ProcessLookupError):  # it has just ended
                os.sched_setaffinity(int(thread.name), core)


class OwnRun:
    """One rank's part of a point in simdeep's own runtime."""

    def __init__(self, point: Point, rank: int, work: Work, notes: Notes):
        n, table = point.n_stages, point.table
        self.stages = {s: work.stage(s, n) for s in table.stages_of[rank]}
        m = point.microbatches
        computer = Computer(self.stages, n, work.inputs[:m], work.targets[:m], work.loss, notes)
        self._runtime = RankRuntime(table, rank, computer, work.empty)

    @property
    def loss(self) -> float:
        """Mean over the micro-batches that end here."""
        return self._runtime.computer.loss

    def step(self) -> None:
        """Every action of the rank once."""
        self._runtime.step()


class PointOnRank:
    """One rank's part of a point: its runtime, its notes and its optimizer."""

    def __init__(self, point: Point, rank: int, work: Work, waits: Waits | None, seed: int):
        self.point, self.device = point, work.device
        finish = finish_stream if work.device.type == "cuda" else nothing
        actions = None if waits is None else waits.of_rank(rank, point.n_stages)
        self.notes = Notes(actions, seed, finish)
        run = OwnRun if point.schedule == OWN else TorchRun
        self.run = run(point, rank, work, self.notes)
        parameters = nn.ModuleList(self.run.stages.values())
        self.optimizer = make_optimizer(parameters, LEARNING_RATE)
        self._pause_s = 0.0
        if waits is not None:
            n = point.n_stages
            self._pause_s = sum(waits.optimizer_s[rank, s, n] for s in self.run.stages)

    def step(self) -> RankStep:
        """One timed step with its optimizer."""
        self.optimizer.zero_grad(set_to_none=False)
        gc.collect()
        dist.barrier()
        self.notes.take()
        start = time.perf_counter()
        self.run.step()
        if self.notes.waits is None:
            self.optimizer.step()
            self.notes.finish()
        else:
            self.notes.pause(self._pause_s)
        return RankStep(start, time.perf_counter(), tuple(self.notes.take()))


def run_points(
    rank: int, n: int, setup: Setup, points: Sequence[Point], waits: Waits | None, turns: Turns
) -> list[RankResult]:
    """Check the points' gradients, then run each of them once in every turn."""
    most = max(point.microbatches for point in points)
    if waits is None and setup.backend != "nccl":
        pin(rank)
    device = f"cuda:{rank}" if setup.backend == "nccl" else "cpu"
    work = emulated_work(setup, most) if waits is not None else real_work(setup, most, device)
    on_rank = [
        PointOnRank(point, rank, work, waits, setup.seed * 1009 + rank + n * i)
        for i, point in enumerate(points)
    ]
    checks = _check(on_rank, work)
    gc.disable()
    if waits is None:
        for one in on_rank:
            one.step()  # the first step with the optimizer makes its state
    pace = Pace()
    steps: list[list[RankStep]] = [[] for _ in points]
    turns.mark("ran 0", rank)
    for turn in range(turns.count):
        turns.wait(f"timed {turn}", turns.singles)
        for of_point, one in zip(steps, on_rank, strict=True):
            of_point.append(_try(one, pace))
        turns.mark(f"ran {turn + 1}", rank)
    turns.wait(f"timed {turns.count}", turns.singles)  # leaving takes a core for a while
    return [
        RankResult(tuple(found), error, loss, wanted)
        for found, (error, loss, wanted) in zip(steps, checks, strict=True)
    ]


def _try(one: PointOnRank, pace: Pace) -> RankStep:
    """A step, and how disturbed the most disturbed rank was."""

    def own_s(passed: float, used: float) -> float:
        total = torch.tensor(used, dtype=torch.float64, device=one.device)
        dist.all_reduce(total)
        return float(total)

    mine = attempt(one.step, lambda step: step.spans, pace, own_s, dist.barrier)
    worst = torch.tensor(mine.disturbed, dtype=torch.float64, device=one.device)
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    return replace(mine.value, disturbed=worst.item(), pace_s=mine.pace_s)


def _check(
    on_rank: Sequence[PointOnRank], work: Work
) -> list[tuple[float | None, float, float | None]]:
    """One step of each point; error of its gradients, its loss, and the unpipelined run's loss."""
    wanted = Reference(work, {one.point.microbatches for one in on_rank})
    found = []
    for one in on_rank:
        one.optimizer.zero_grad()
        dist.barrier()
        one.run.step()
        count = one.point.microbatches
        error = wanted.error(one.run.stages.values(), count)
        found.append((error, one.run.loss, wanted.losses.get(count)))
        one.optimizer.zero_grad()
    return found


class Reference:
    """The unpipelined run: loss and gradients of the whole model by number of micro-batches."""

    def __init__(self, work: Work, counts: Iterable[int]):
        self.losses: dict[int, float] = {}
        self._gradients: dict[int, dict[int, Tensor]] = {}
        if work.model is None:
            return
        work.model.zero_grad()
        total = 0.0
        wanted = set(counts)
        for done, (x, target) in enumerate(zip(work.inputs, work.targets, strict=True), start=1):
            loss = work.loss(work.model(x), target)
            loss.backward()
            total += loss.item()
            if done in wanted:
                self.losses[done] = total / done
                self._gradients[done] = {
                    id(p): p.grad / done for p in work.model.parameters() if p.grad is not None
                }
        work.model.zero_grad()

    def error(self, stages: Iterable[nn.Module], count: int) -> float | None:
        """Largest difference of a gradient, relative to its largest entry; None if not computed."""
        if count not in self._gradients:
            return None
        worst = 0.0
        for stage in stages:
            for p in stage.parameters():
                wanted = self._gradients[count][id(p)]
                if p.grad is None:
                    return math.inf
                size = wanted.abs().max().item()
                difference = (p.grad - wanted).abs().max().item()
                error = difference / size if size else difference
                worst = max(worst, error if math.isfinite(error) else math.inf)
        return worst
