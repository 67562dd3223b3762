"""Reads off which experts every token went to: indices a gate gives or experts are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

from simdeep.program.routing import RoutingTrace
from simdeep.validate.hooks.components import EXPERTS, GATES, first_layers, is_moe, place
from simdeep.validate.hooks.tree import tensors, whole_numbers

_COUNTS = ("num_experts", "n_experts", "n_routed_experts", "num_local_experts")


@contextmanager
def watched_routing(model: nn.Module) -> Iterator[dict[int, Tensor]]:
    """The chosen experts [tokens, topk] by layer, filled as the model runs.

    A gate may return them in any place of its output, as the only tensor of whole numbers with two
    dimensions; where none does, they are looked for among what the experts are called with.
    """
    chosen: dict[int, Tensor] = {}
    handles = []
    firsts = first_layers(model)
    for path, block in model.named_modules():
        if not is_moe(block):
            continue
        layer = place(path, block, firsts).layer or 0
        parts = dict(block.named_children())
        for name in GATES:
            if name in parts:
                handles.append(parts[name].register_forward_hook(_from_output(chosen, layer)))
        handles.append(
            parts[EXPERTS].register_forward_pre_hook(_from_input(chosen, layer), with_kwargs=True)
        )
    try:
        yield chosen
    finally:
        for handle in handles:
            handle.remove()


def trace_of(chosen: Mapping[int, Tensor], n_experts: int) -> RoutingTrace | None:
    """The tokens of one batch as one micro-batch, numbered as they come; None without any."""
    if not chosen:
        return None
    layers = sorted(chosen)
    experts = [chosen[layer].cpu().numpy().astype(np.int16) for layer in layers]
    sizes = [len(rows) for rows in experts]
    return RoutingTrace(
        n_experts=n_experts,
        layer=np.repeat(layers, sizes).astype(np.int32),
        microbatch=np.zeros(sum(sizes), dtype=np.int32),
        token=np.concatenate([np.arange(size) for size in sizes]).astype(np.int64),
        experts=np.concatenate(experts),
        source=None,
    )


def experts_of(model: nn.Module, chosen: Mapping[int, Tensor]) -> int:
    """Routed experts of a layer: as the gate, the experts or the config say, else as were seen."""
    for module in model.modules():
        if is_moe(module):
            parts = dict(module.named_children())
            experts = parts[EXPERTS]
            if isinstance(experts, nn.ModuleList):
                return len(experts)
            holders = (experts, *(parts[name] for name in GATES if name in parts), module)
            for holder in holders:
                found = [getattr(holder, name, None) for name in _COUNTS]
                if counts := [count for count in found if isinstance(count, int)]:
                    return counts[0]
    return 1 + max(int(rows.max()) for rows in chosen.values())


def _from_output(chosen: dict[int, Tensor], layer: int) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        _note(chosen, layer, output)

    return hook


def _from_input(chosen: dict[int, Tensor], layer: int) -> Any:
    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        if layer not in chosen:
            _note(chosen, layer, (args, kwargs))

    return hook


def _note(chosen: dict[int, Tensor], layer: int, value: Any) -> None:
    found = [t for t in tensors(value) if whole_numbers(t) and t.ndim >= 2]
    if len(found) == 1:
        chosen[layer] = found[0].detach().reshape(-1, found[0].shape[-1])
