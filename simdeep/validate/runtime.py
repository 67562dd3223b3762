"""A small runtime of our own: runs any table, also where a stage lives on two ranks.

One process a rank, gloo between them. It does what `simdeep.program.schedule.replay` assumes: a
cell starts when its rank is free and its inputs have come, and its outputs leave at its end. Each
cell's computing is timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining._backward import stage_backward_input, stage_backward_weight

from simdeep.program.schedule import Act, Table, acts_of
from simdeep.validate.cases import ModelSize
from simdeep.validate.job import CellTime
from simdeep.validate.messages import Message, Slot, input_of, output_of, steps_of
from simdeep.validate.model import DTYPE, loss_of, make_batch, make_stage

_AHEAD = 4
"""Cells whose receives are open at once. Gloo sends only into an open receive: without it every
transfer would wait until its receiver has nothing else to do."""


class RankRuntime:
    """One rank's part of a table: the stages it holds and what is in flight of a step."""

    def __init__(self, table: Table, rank: int, size: ModelSize):
        self.stages: dict[int, nn.Module] = {s: make_stage(size, s) for s in table.stages_of[rank]}
        self.loss = 0.0
        self._table, self._rank, self._size = table, rank, size
        self._steps = steps_of(table, rank)
        inputs, targets = make_batch(size, table.n_microbatches)
        self._inputs = inputs.chunk(table.n_microbatches)
        self._targets = targets.chunk(table.n_microbatches)
        self._groups = _groups(table)
        self._inbox: dict[Slot, Tensor] = {}
        self._open: dict[Slot, tuple[dist.Work, Tensor]] = {}
        self._sent: list[tuple[dist.Work, Tensor]] = []
        # Of each chunk its input and output from F to B or I, then what W needs.
        self._chunks: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._late: dict[tuple[int, int], list[dict[str, Any]]] = {}

    def step(self) -> list[CellTime]:
        """Run the rank's row once; gradients and `loss` are then those of the whole batch.

        Every rank must call it. Loss counts the micro-batches whose last stage is here.
        """
        for stage in self.stages.values():
            stage.zero_grad()
        self.loss = 0.0
        dist.barrier()
        times = []
        opened = 0
        for index, step in enumerate(self._steps):
            while opened < min(index + _AHEAD, len(self._steps)):
                self._open_receives(self._steps[opened].receives)
                opened += 1
            try:
                self._await(step.receives)
            except RuntimeError as error:
                raise RuntimeError(f"rank {self._rank} waits for inputs of {step.cell}") from error
            start = time.perf_counter()
            made: dict[Slot, Tensor] = {}
            for act in acts_of(step.cell):
                self._run(act, made)
            times.append(CellTime(start, time.perf_counter()))
            for message in step.sends:
                self._send(message, made[message.slot])
        for work, _ in self._sent:
            work.wait()
        self._sent.clear()
        self._reduce_copies()
        return times

    def _run(self, act: Act, made: dict[Slot, Tensor]) -> None:
        """Compute one action; what another stage needs of it goes into `made`."""
        if act.kind == "F":
            result = self._forward(act)
        elif act.kind == "B":
            result = self._backward(act)
        elif act.kind == "I":
            result = self._backward_input(act)
        else:
            stage_backward_weight(self._weights(act), self._late.pop(act[1:]))
            return
        slot = output_of(act, self._table)
        if slot is not None:
            made[slot] = result

    def _forward(self, act: Act) -> Tensor:
        taken = input_of(act, self._table)
        x = self._inputs[act.mb] if taken is None else self._inbox.pop(taken)
        # A leaf of its own that needs a gradient also on the first stage, which then has as much
        # to do for I as the others.
        x = x.detach().requires_grad_()
        y = self.stages[act.stage](x)
        result = y.detach()
        if act.stage == self._table.n_stages - 1:
            y = loss_of(y, self._targets[act.mb]) / self._table.n_microbatches
            self.loss += y.item()
        self._chunks[act[1:]] = (x, y)
        return result

    def _backward(self, act: Act) -> Tensor:
        x, y = self._chunks.pop(act[1:])
        torch.autograd.backward(y, self._gradient(act))
        return x.grad

    def _backward_input(self, act: Act) -> Tensor:
        x, y = self._chunks.pop(act[1:])
        gradient = self._gradient(act)
        given = None if gradient is None else [gradient]
        inputs, self._late[act[1:]] = stage_backward_input([y], given, [x], self._weights(act))
        return inputs[0]

    def _gradient(self, act: Act) -> Tensor | None:
        """Gradient of the chunk's output; none for the last stage, whose output is the loss."""
        taken = input_of(act, self._table)
        return None if taken is None else self._inbox.pop(taken)

    def _weights(self, act: Act) -> Any:
        return self.stages[act.stage].parameters()

    def _open_receives(self, messages: Sequence[Message]) -> None:
        for message in messages:
            buffer = torch.empty(self._size.rows, self._size.width, dtype=DTYPE)
            work = dist.irecv(buffer, message.source, tag=message.tag)
            self._open[message.slot] = (work, buffer)

    def _await(self, messages: Sequence[Message]) -> None:
        for message in messages:
            work, buffer = self._open.pop(message.slot)
            work.wait()
            self._inbox[message.slot] = buffer

    def _send(self, message: Message, tensor: Tensor) -> None:
        if message.target == self._rank:
            self._inbox[message.slot] = tensor
        else:
            work = dist.isend(tensor.contiguous(), message.target, tag=message.tag)
            # Gloo reads the tensor until the transfer is done, so it must stay alive.
            self._sent.append((work, tensor))

    def _reduce_copies(self) -> None:
        """Add up the gradients of each stage over the ranks that hold it."""
        for stage, group in enumerate(self._groups):
            if group is None or stage not in self.stages:
                continue
            parameters = list(self.stages[stage].parameters())
            flat = torch.cat([p.grad.reshape(-1) for p in parameters])
            dist.all_reduce(flat, group=group)
            totals = flat.split([p.numel() for p in parameters])
            for p, total in zip(parameters, totals, strict=True):
                p.grad.copy_(total.view_as(p))


def _groups(table: Table) -> list[dist.ProcessGroup | None]:
    """For each stage the process group of the ranks that hold it; None where it is one rank.

    Every rank takes part in making every group, as torch wants it.
    """
    made: dict[tuple[int, ...], dist.ProcessGroup] = {}
    groups = []
    for holders in zip(*table.stage_ranks, strict=True):
        ranks = tuple(sorted(set(holders)))
        if len(ranks) > 1 and ranks not in made:
            made[ranks] = dist.new_group(list(ranks))
        groups.append(made.get(ranks))
    return groups
