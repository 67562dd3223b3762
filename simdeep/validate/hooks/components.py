"""Takes a model apart into components: modules that are called as a whole and do not overlap.

A model is split down to its layers (items of a `ModuleList`), a layer into its children, and a
block of experts (a module with a gate and experts) into gate, experts and the rest. What a forward
does not call as a module, such as experts whose weights are used directly, belongs to the nearest
module around it that is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

GATES = ("gate", "router")
EXPERTS = "experts"


@dataclass(frozen=True)
class Part:
    """A module, its dotted path in the model, and where it counts."""

    path: str
    module: nn.Module
    layer: int | None
    name: str


def called_parts(model: nn.Module, called: Set[str], chosen: Sequence[str] = ()) -> list[Part]:
    """The components that a forward calls, in the order of the model's modules.

    Args:
        model: after a backward: parameters without a gradient were not used.
        called: paths of all modules that the forward called.
        chosen: patterns (`layers.*.mlp`) of the paths to take, none inside another; the finest
            components there are if empty.
    """
    modules = dict(model.named_modules())
    paths = [path for path, _ in _split(model, "")]
    if chosen:
        paths = [p for p in modules if any(fnmatchcase(p, pattern) for pattern in chosen)]
        paths = [p for p in paths if not any(_inside(p, other) for other in paths if other != p)]
    else:
        while missing := [p for p in paths if p not in called and _used(modules[p])]:
            parent = missing[0].rpartition(".")[0]
            paths = [p for p in paths if not _inside(p, parent)] + [parent]
    order = {path: number for number, path in enumerate(modules)}
    firsts = first_layers(model)
    wanted = sorted((p for p in paths if p in called), key=order.__getitem__)
    return [place(path, modules[path], firsts) for path in wanted]


def first_layers(model: nn.Module) -> dict[str, int]:
    """The number of the first layer of each list of layers, by the list's path.

    Layers of a second list are numbered on after those of the first, as MTP modules are.
    """
    firsts, count = {}, 0
    for path, module in model.named_modules():
        names = [name for name, _ in module.named_children() if name.isdecimal()]
        if names and not _in_layer(path):
            firsts[path] = count
            count += len(names)
    return firsts


def place(path: str, module: nn.Module, firsts: Mapping[str, int]) -> Part:
    """The layer and name of a module by its path: `model.layers.3.mlp.gate` is `mlp.gate` of 3.

    Items of a list inside a layer, as single experts are, count together under the list's name.
    """
    words = path.split(".") if path else []
    numbers = [i for i, word in enumerate(words) if word.isdecimal()]
    if not numbers:
        return Part(path, module, None, path or type(module).__name__)
    first = numbers[0]
    layer = firsts.get(".".join(words[:first]), 0) + int(words[first])
    name = ".".join(word for word in words[first + 1 :] if not word.isdecimal())
    return Part(path, module, layer, name or type(module).__name__)


def is_moe(module: nn.Module) -> bool:
    """Whether a module has a gate and experts of its own."""
    names = {name for name, _ in module.named_children()}
    return EXPERTS in names and not names.isdisjoint(GATES)


def _split(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    children = list(module.named_children())
    if not children:
        yield path, module
    for name, child in children:
        here = f"{path}.{name}" if path else name
        if _is_layer(child, path, module) or _holds_list(child) or is_moe(child):
            yield from _split(child, here)
        else:
            yield here, child


def _is_layer(child: nn.Module, path: str, holder: nn.Module) -> bool:
    """Items of a list are layers unless the list is inside one already, as experts' is."""
    return isinstance(holder, nn.ModuleList) and not _in_layer(path)


def _in_layer(path: str) -> bool:
    return any(word.isdecimal() for word in path.split("."))


def _holds_list(module: nn.Module) -> bool:
    return any(isinstance(inner, nn.ModuleList) for inner in module.modules())


def _used(module: nn.Module) -> bool:
    return any(parameter.grad is not None for parameter in module.parameters())


def _inside(path: str, parent: str) -> bool:
    return not parent or path == parent or path.startswith(parent + ".")
