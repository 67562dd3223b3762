"""Computes the actions of stages on one process: F, B, I and W as torch's autograd splits them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.pipelining._backward import stage_backward_input, stage_backward_weight

from simdeep.program.schedule import Act
from simdeep.validate.timing import Notes


class Computer:
    """Stages of a pipeline of `n_stages`, and what is in flight of their micro-batches.

    `inputs` and `targets` have one entry a micro-batch, for the first and the last stage; `loss` is
    the mean over the micro-batches whose last stage is here. Every action is noted.
    """

    def __init__(
        self,
        stages: Mapping[int, nn.Module],
        n_stages: int,
        inputs: Sequence[Tensor],
        targets: Sequence[Tensor],
        loss_of: Callable[[Tensor, Tensor], Tensor],
        notes: Notes | None = None,
    ):
        self.stages = dict(stages)
        self.notes = notes or Notes()
        self.loss = 0.0
        self._inputs, self._targets, self._loss_of = inputs, targets, loss_of
        self._last = n_stages - 1
        # Of each chunk its input and output from F to B or I, then what W needs.
        self._chunks: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._late: dict[tuple[int, int], Any] = {}

    def run(self, act: Act, given: Tensor | None) -> Tensor | None:
        """Compute one action; what another stage needs of it is returned.

        Args:
            act: F, B, I or W.
            given: input of the stage for F (none for the first), gradient of its output for B and
                I (none for the last, whose output is the loss).
        """
        with self.notes.taking(act):
            if act.kind == "F":
                return self._forward(act, given)
            if act.kind == "B":
                return self._backward(act, given)
            if act.kind == "I":
                return self._backward_input(act, given)
            self._backward_weight(act)
            return None

    def _forward(self, act: Act, given: Tensor | None) -> Tensor:
        x = self._inputs[act.mb] if given is None else given
        if x.is_floating_point():
            # A leaf of its own that needs a gradient also on the first stage, which then has as
            # much to do for I as the others.
            x = x.detach().requires_grad_()
        y = self.stages[act.stage](x)
        result = y.detach()
        if act.stage == self._last:
            y = self._loss_of(y, self._targets[act.mb]) / len(self._inputs)
            self.loss += y.item()
        self._chunks[act[1:]] = (x, y)
        return result

    def _backward(self, act: Act, gradient: Tensor | None) -> Tensor | None:
        x, y = self._chunks.pop(act[1:])
        torch.autograd.backward(y, gradient)
        return x.grad

    def _backward_input(self, act: Act, gradient: Tensor | None) -> Tensor | None:
        x, y = self._chunks.pop(act[1:])
        if not x.requires_grad:
            # Token ids have no gradient: as in torch's pipeline stage all is left to W.
            self._late[act[1:]] = (y, gradient)
            return None
        weights = self.stages[act.stage].parameters()
        given = None if gradient is None else [gradient]
        inputs, self._late[act[1:]] = stage_backward_input([y], given, [x], weights)
        return inputs[0]

    def _backward_weight(self, act: Act) -> None:
        late = self._late.pop(act[1:])
        if isinstance(late, tuple):
            torch.autograd.backward(*late)
        else:
            stage_backward_weight(self.stages[act.stage].parameters(), late)
