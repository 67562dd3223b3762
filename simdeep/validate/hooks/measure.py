"""`measure`: from a module and a batch to a measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from simdeep.errors import InputError, Problem
from simdeep.validate.hooks.device import current_device
from simdeep.validate.hooks.measurement import Component, Measurement, Spread
from simdeep.validate.torch_extra import require_torch

if TYPE_CHECKING:
    from torch import nn

    from simdeep.validate.hooks.components import Part
    from simdeep.validate.hooks.record import Call, Recording
    from simdeep.validate.hooks.replay import Backward, Pass

WARM_UP = 2
"""Passes that are thrown away: they open libraries and fill allocators."""


def measure(
    model: nn.Module,
    batch: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    components: Sequence[str] = (),
    repeats: int = 10,
    name: str = "",
) -> Measurement:
    """Time every component's forward and backward on the model's device.

    Args:
        model: any module; it runs as it is, in the mode (train or eval) it is in. Its parameters,
            buffers and gradients are afterwards as before, gradients cleared.
        batch: what it is called with: a tensor, a tuple of arguments, or a dict of keyword
            arguments. Anything it keeps from call to call, as a key-value cache, must be off.
        loss: from the model's output to a scalar; by default the output's own `loss`, or the mean
            square of its first tensor.
        components: patterns of the modules to take as components, as `layers.*.mlp`; by default
            the model is taken apart as far as its modules are called one by one.
        repeats: passes that are timed.
        name: what to call the model; its class if left out.

    Raises:
        InputError: torch is missing, or the model does not run on the batch.
    """
    require_torch()
    from simdeep.validate.hooks.clock import clock_for
    from simdeep.validate.hooks.components import called_parts
    from simdeep.validate.hooks.record import called_paths, default_loss, kept_buffers, record
    from simdeep.validate.hooks.replay import replay, whole
    from simdeep.validate.hooks.routing import experts_of, trace_of, watched_routing
    from simdeep.validate.hooks.tree import tensors

    name = name or type(model).__name__
    args, kwargs = _arguments(batch)
    loss = loss or default_loss

    def run() -> Any:
        return model(*args, **kwargs)

    with kept_buffers(model):
        try:
            with watched_routing(model) as chosen:
                called = called_paths(model, run, loss)
            parts = called_parts(model, called, components)
            recording = record(model, parts, run, loss)
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
            message = f"{name} does not run on this batch: {type(error).__name__}: {error}"
            raise InputError([Problem("", "model", message)]) from error
        parameters = list(model.parameters())
        device = parameters[0].device if parameters else next(tensors(batch)).device
        clock, modules = clock_for(device), [part.module for part in parts]
        passes: dict[Backward, list[Pass]] = {"i": [], "w": [], "b": []}
        wholes: list[tuple[float, float]] = []
        for number in range(WARM_UP + repeats):
            # In turns, so that what slows the machine for a while slows all alike.
            taken = whole(model, run, loss, clock)
            got = {kind: replay(modules, recording.calls, kind, clock) for kind in passes}
            if number >= WARM_UP:
                wholes.append(taken)
                for kind, one in got.items():
                    passes[kind].append(one)
    return Measurement(
        model=name,
        device=current_device(device.type),
        dtype=str(parameters[0].dtype if parameters else "").removeprefix("torch."),
        batch=tuple(tuple(tensor.shape) for tensor in tensors(batch)),
        repeats=repeats,
        whole_f=Spread.of([forward for forward, _ in wholes]),
        whole_b=Spread.of([backward for _, backward in wholes]),
        components=_components(parts, recording, passes),
        elsewhere_bytes=recording.saved.get(-1, 0),
        parameter_bytes=_bytes(parameters),
        routing=trace_of(chosen, experts_of(model, chosen)) if chosen else None,
    )


def _arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(batch, dict):
        return (), batch
    return (batch if isinstance(batch, tuple) else (batch,)), {}


def _components(
    parts: list[Part], recording: Recording, passes: dict[Backward, list[Pass]]
) -> tuple[Component, ...]:
    """Calls put together by layer and name; a repeat's time is the sum over the calls."""
    groups: dict[tuple[int | None, str], list[int]] = {}
    for number, part in enumerate(parts):
        groups.setdefault((part.layer, part.name), []).append(number)
    return tuple(
        _component(key, [parts[n] for n in numbers], set(numbers), recording, passes)
        for key, numbers in groups.items()
    )


def _component(
    key: tuple[int | None, str],
    parts: list[Part],
    numbers: set[int],
    recording: Recording,
    passes: dict[Backward, list[Pass]],
) -> Component:
    calls: list[tuple[int, Call]] = [
        (place, call) for place, call in enumerate(recording.calls) if call.part in numbers
    ]

    def total(passes: list[list[float]]) -> Spread:
        return Spread.of([sum(seconds[place] for place, _ in calls) for seconds in passes])

    return Component(
        layer=key[0],
        name=key[1],
        calls=len(calls),
        rows=sum(call.rows for _, call in calls),
        f=total([one.forward for kind in passes.values() for one in kind]),
        i=total([one.backward for one in passes["i"]]),
        w=total([one.backward for one in passes["w"]]),
        b=total([one.backward for one in passes["b"]]),
        saved_bytes=sum(recording.saved.get(number, 0) for number in numbers),
        parameter_bytes=_bytes([p for part in parts for p in part.module.parameters()]),
    )


def _bytes(parameters: list[Any]) -> int:
    """Of parameters, each once."""
    return sum(p.numel() * p.element_size() for p in {id(p): p for p in parameters}.values())
