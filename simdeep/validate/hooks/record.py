"""One real pass of a model, watched: which components are called with what, and what they keep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from simdeep.validate.hooks.components import Part
from simdeep.validate.hooks.tree import differentiable, leaf, mapped, tensors

Loss = Callable[[Any], Tensor]
Run = Callable[[], Any]


@dataclass
class Call:
    """One call of a component, to be made again: inputs, and the gradients its outputs got."""

    part: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: int
    gradients: dict[int, Tensor] = field(default_factory=dict)
    """By place among the output's differentiable tensors; without those the loss did not use."""


@dataclass(frozen=True)
class Recording:
    """Calls in their order, and bytes kept for the backward by part; -1 is none of them."""

    calls: tuple[Call, ...]
    saved: dict[int, int]


def default_loss(output: Any) -> Tensor:
    """The output's own `loss` if it has one, else the mean square of its first float tensor."""
    own = getattr(output, "loss", None)
    if isinstance(own, Tensor):
        return own
    found = differentiable(output)
    if not found:
        raise ValueError("no tensor of the model's output needs a gradient")
    return found[0] if found[0].ndim == 0 else found[0].float().square().mean()


def called_paths(model: nn.Module, run: Run, loss: Loss) -> set[str]:
    """Paths of all modules that a forward calls; leaves the gradients of its backward."""
    called: set[str] = set()

    def hook(path: str) -> Callable[..., None]:
        return lambda *_: called.add(path)

    handles = [m.register_forward_pre_hook(hook(path)) for path, m in model.named_modules()]
    with _removed(handles):
        result = loss(run())
    model.zero_grad()
    result.backward()
    return called


def record(model: nn.Module, parts: Sequence[Part], run: Run, loss: Loss) -> Recording:
    """Run forward and backward once and note every call of the parts."""
    calls: list[Call] = []
    watch = _Watch(model)

    def before(number: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = mapped(args, leaf), mapped(kwargs, leaf)
            calls.append(Call(number, *given, rows=_rows(args, kwargs)))
            watch.inside = number

        return hook

    def after(module: nn.Module, args: Any, output: Any) -> None:
        call, watch.inside = calls[-1], -1
        for place, tensor in enumerate(differentiable(output)):
            tensor.register_hook(_keeper(call, place))

    model.zero_grad()
    handles = [
        handle
        for number, part in enumerate(parts)
        for handle in (
            part.module.register_forward_pre_hook(before(number), with_kwargs=True),
            part.module.register_forward_hook(after),
        )
    ]
    with _removed(handles), kept_buffers(model):
        with torch.autograd.graph.saved_tensors_hooks(watch.keep, lambda kept: kept):
            result = loss(run())
        result.backward()
    model.zero_grad()
    return Recording(tuple(calls), dict(watch.bytes))


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Buffers, such as counters of a gate, are afterwards what they were."""
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)


class _Watch:
    """Counts storages that autograd keeps, each once, for the part that is being called."""

    def __init__(self, model: nn.Module):
        self.inside = -1
        self.bytes: dict[int, int] = defaultdict(int)
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}

    def keep(self, tensor: Tensor) -> Tensor:
        """The graph holds what is returned, so an address stays that of one storage."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes[self.inside] += storage.nbytes()
        return tensor.detach()


def _keeper(call: Call, place: int) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        call.gradients[place] = gradient.detach()

    return hook


def _rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Tokens of the first tensor: all its sizes but the last, or all of whole numbers."""
    first = next(tensors((args, kwargs)), None)
    if first is None:
        return 0
    width = first.shape[-1] if first.is_floating_point() and first.ndim else 1
    return int(first.numel()) // max(1, width)


@contextmanager
def _removed(handles: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
