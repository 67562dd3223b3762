"""What is measured: the small transformer of a configuration, or what a user's factory makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from simdeep.errors import InputError, Problem


@dataclass(frozen=True)
class Subject:
    """A module, the batch it is called with, and its loss (None: as `measure` finds one)."""

    name: str
    module: Any
    batch: Any
    loss: Callable[[Any], Any] | None = None


def from_config(
    config: str, sequences: int, tokens: int, train_steps: int, seed: int, device: str = "cpu"
) -> Subject:
    """The transformer of a configuration on the shipped text, trained for some steps first."""
    from simdeep.validate.transformer.model import build, cross_entropy
    from simdeep.validate.transformer.text import Batches
    from simdeep.validate.transformer.training import train

    model = build(config, seed)
    if train_steps:
        train(model, train_steps, seed=seed)
    drawn = Batches(model.config.model, tokens, seed + 1).draw(sequences).to(device)
    targets = drawn[:, 1:]
    return Subject(
        model.config.model.name,
        model.to(device),
        drawn[:, :-1],
        lambda logits: cross_entropy(logits, targets),
    )


def from_factory(text: str, device: str = "cpu") -> Subject:
    """What `package.module:function` returns: a module and its batch."""
    from torch import nn

    def refuse(message: str) -> InputError:
        return InputError([Problem(f"--module {text}", "", message)])

    package, colon, name = text.partition(":")
    if not (package and colon and name):
        raise refuse("write a module and a function in it, as in mymodels.small:make")
    try:
        factory = getattr(import_module(package), name)
    except (ImportError, AttributeError) as error:
        raise refuse(f"cannot be imported: {error}") from error
    try:
        made = factory()
    except Exception as error:
        raise refuse(f"failed: {type(error).__name__}: {error}") from error
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise refuse(f"returned {type(made).__name__}; must return (torch.nn.Module, batch)")
    from simdeep.validate.hooks.tree import mapped

    module, batch = made
    return Subject(name, module.to(device), mapped(batch, lambda tensor: tensor.to(device)))
