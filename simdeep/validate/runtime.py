"""A small runtime of our own: runs any table, also where a stage lives on two ranks.

One process a rank, gloo or nccl between them. It does what `simdeep.program.schedule.replay`
assumes: a cell starts when its rank is free and its inputs have come, and its outputs leave at its
end. Each action's computing is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from simdeep.program.schedule import Table, acts_of
from simdeep.validate.computer import Computer
from simdeep.validate.messages import AHEAD, Message, Slot, Way, input_of, output_of, steps_of


class RankRuntime:
    """One rank's part of a table, computed by `computer`, which has the rank's stages.

    `buffer` makes an empty tensor to receive into. Every rank makes its runtime at the same time:
    the ranks that hold copies of a stage become a group.
    """

    def __init__(self, table: Table, rank: int, computer: Computer, buffer: Callable[[], Tensor]):
        self.computer = computer
        self._table, self._rank, self._buffer = table, rank, buffer
        self._steps = steps_of(table, rank)
        self._groups = _groups(table)
        self._ways = _ways(table) if dist.get_backend() == "nccl" else {}
        self._inbox: dict[Slot, Tensor] = {}
        self._open: dict[Slot, tuple[dist.Work, Tensor]] = {}
        self._sent: list[tuple[dist.Work, Tensor]] = []

    def step(self) -> None:
        """Run the rank's row once; every rank must call it.

        Gradients are added to those there are; the computer's loss counts the micro-batches whose
        last stage is here.
        """
        self.computer.loss = 0.0
        opened = 0
        for index, step in enumerate(self._steps):
            while opened < min(index + AHEAD, len(self._steps)):
                self._open_receives(self._steps[opened].receives)
                opened += 1
            try:
                self._await(step.receives)
            except RuntimeError as error:
                raise RuntimeError(f"rank {self._rank} waits for inputs of {step.cell}") from error
            made: dict[Slot, Tensor] = {}
            for act in acts_of(step.cell):
                taken, slot = input_of(act, self._table), output_of(act, self._table)
                result = self.computer.run(act, None if taken is None else self._inbox.pop(taken))
                if slot is not None and result is not None:
                    made[slot] = result
            for message in step.sends:
                self._send(message, made[message.slot])
        for work, _ in self._sent:
            work.wait()
        self._sent.clear()
        self.reduce_copies()

    def _open_receives(self, messages: Sequence[Message]) -> None:
        for message in messages:
            buffer = self._buffer()
            work = dist.irecv(buffer, message.source, **self._channel(message))
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
            tensor = tensor.contiguous()
            work = dist.isend(tensor, message.target, **self._channel(message))
            # Gloo reads the tensor until the transfer is done, so it must stay alive.
            self._sent.append((work, tensor))

    def _channel(self, message: Message) -> dict[str, Any]:
        """What keeps a message from being taken for another: its tag, or (nccl) its way's group."""
        return {"group": self._ways[message.way]} if self._ways else {"tag": message.tag}

    def reduce_copies(self) -> None:
        """Add up the gradients of each stage over the ranks that hold it."""
        for stage, group in enumerate(self._groups):
            if group is not None and stage in self.computer.stages:
                add_up(self.computer.stages[stage], group)


def add_up(stage: nn.Module, group: dist.ProcessGroup | None) -> None:
    """Add up the gradients of a stage's copies over a group; None is that of all processes."""
    parameters = list(stage.parameters())
    for p in parameters:
        if p.grad is None:  # no action here used it
            p.grad = torch.zeros_like(p)
    flat = torch.cat([p.grad.reshape(-1) for p in parameters])
    dist.all_reduce(flat, group=group)
    totals = flat.split([p.numel() for p in parameters])
    for p, total in zip(parameters, totals, strict=True):
        p.grad.copy_(total.view_as(p))


def _ways(table: Table) -> dict[Way, dist.ProcessGroup]:
    """A group for each way: nccl has no tags, and runs what a group sends and receives in order.

    Every rank takes part in making every group, in the same order.
    """
    sent = (
        message.way
        for rank in range(table.n_ranks)
        for step in steps_of(table, rank)
        for message in step.sends
        if message.source != message.target
    )
    return {way: dist.new_group([way.source, way.target]) for way in sorted(set(sent))}


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
