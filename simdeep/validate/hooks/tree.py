"""Tensors inside what modules take and give: nested tuples, lists, dicts and HF outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a nest, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A nest with every tensor changed; anything but tuples, lists and dicts stays as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) is dict:
        return {key: mapped(item, change) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(mapped(item, change) for item in value)
    return value


def leaf(tensor: Tensor) -> Tensor:
    """The same values as an input of its own, wanting a gradient where the original did."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def differentiable(value: Any) -> list[Tensor]:
    """Tensors of a nest through which gradients go."""
    return [tensor for tensor in tensors(value) if tensor.requires_grad]


def whole_numbers(tensor: Tensor) -> bool:
    """Whether a tensor holds indices."""
    return tensor.dtype in (torch.int64, torch.int32, torch.int16)
