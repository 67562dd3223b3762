"""Makes recorded calls again and times forward, input gradient, weight gradient and backward.

A pass goes through all calls in the model's order and back, so that caches hold what they hold in
training. Each kind of backward is timed in passes of its own: the second of two backwards of one
forward would find everything in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.pipelining._backward import stage_backward_input, stage_backward_weight

from simdeep.validate.hooks.clock import Clock
from simdeep.validate.hooks.record import Call, Loss, Run
from simdeep.validate.hooks.tree import differentiable, leaf, mapped

Backward = Literal["i", "w", "b"]
"""Gradients of inputs alone; of parameters alone, after those of inputs; of both together."""


class Pass(NamedTuple):
    """Seconds of every call's forward and of its backward."""

    forward: list[float]
    backward: list[float]


def replay(
    modules: Sequence[nn.Module], calls: Sequence[Call], kind: Backward, clock: Clock
) -> Pass:
    """One pass with one kind of backward."""
    made = []
    forward = []
    for call in calls:
        args, kwargs = mapped(call.args, leaf), mapped(call.kwargs, leaf)
        start = clock.mark()
        output = modules[call.part](*args, **kwargs)
        forward.append((start, clock.mark()))
        made.append((differentiable(output), differentiable((args, kwargs))))
        del output
    backward = []
    for call in reversed(calls):
        weights = [p for p in modules[call.part].parameters() if p.requires_grad]
        backward.append(_differentiate(call, *made.pop(), weights, kind, clock))
    clock.settle()
    backward.reverse()
    return Pass(
        [clock.seconds(*marks) for marks in forward], [clock.seconds(*marks) for marks in backward]
    )


def _differentiate(
    call: Call,
    outputs: list[Tensor],
    inputs: list[Tensor],
    weights: list[nn.Parameter],
    kind: Backward,
    clock: Clock,
) -> tuple[Any, Any]:
    places = sorted(call.gradients)
    roots = [outputs[place] for place in places]
    given = [call.gradients[place] for place in places]
    if kind == "w" and roots and inputs and weights:
        return _weights_alone(roots, given, inputs, weights, clock)
    wanted = {"i": inputs, "w": weights, "b": [*inputs, *weights]}[kind]
    start = clock.mark()
    if roots and wanted:
        torch.autograd.grad(roots, wanted, given, allow_unused=True)
    return start, clock.mark()


def _weights_alone(
    roots: list[Tensor],
    given: list[Tensor],
    inputs: list[Tensor],
    weights: list[nn.Parameter],
    clock: Clock,
) -> tuple[Any, Any]:
    """Marks around the weights' gradients, split off as torch's pipeline schedules do."""
    ends = [root * 1 for root in roots]  # it detaches its roots in place, which views refuse
    _, groups = stage_backward_input(ends, given, inputs, iter(weights))
    reached = [group for group in groups if "grads" in group]
    start = clock.mark()
    stage_backward_weight(iter(weights), reached)
    end = clock.mark()
    for weight in weights:
        weight.grad = None
    return start, end


def whole(model: nn.Module, run: Run, loss: Loss, clock: Clock) -> tuple[float, float]:
    """Seconds of the model's own forward, loss included, and of its backward."""
    start = clock.mark()
    result = loss(run())
    middle = clock.mark()
    result.backward()
    end = clock.mark()
    clock.settle()
    model.zero_grad()
    return clock.seconds(start, middle), clock.seconds(middle, end)
