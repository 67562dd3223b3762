"""What ranks compute on: the model's stages, the text's micro-batches, and stand-ins for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn

from simdeep.validate.pipeline.points import Setup
from simdeep.validate.transformer.config import read_config
from simdeep.validate.transformer.model import MoETransformer, build, cross_entropy
from simdeep.validate.transformer.text import Batches

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Work:
    """The micro-batches of a step and the stages that compute them.

    `inputs` and `targets` are token ids [sequences, tokens], one tensor a micro-batch; between
    stages hidden states travel, [sequences, tokens, hidden] in float32.
    """

    setup: Setup
    device: torch.device
    inputs: Sequence[Tensor]
    targets: Sequence[Tensor]
    stage: Callable[[int, int], nn.Module]
    loss: Loss
    hidden: int
    model: MoETransformer | None = field(default=None, compare=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what travels between stages."""
        return (self.setup.sequences, self.setup.tokens, self.hidden)

    def empty(self) -> Tensor:
        """Room for what travels between stages."""
        return torch.empty(self.shape, device=self.device)


def real_work(setup: Setup, microbatches: int, device: str = "cpu") -> Work:
    """The real model on the shipped text; equal on every rank."""
    config = read_config(setup.model, setup.changes)
    model = build(config, setup.seed).to(device).train()
    inputs, targets = _batch(setup, microbatches, device)
    return Work(
        setup=setup,
        device=torch.device(device),
        inputs=inputs,
        targets=targets,
        stage=cache(model.stage),
        loss=cross_entropy,
        hidden=config.model.hidden,
        model=model,
    )


def emulated_work(setup: Setup, microbatches: int) -> Work:
    """Stand-ins that do next to nothing but send and reduce tensors of the real sizes."""
    config = read_config(setup.model, setup.changes)
    sizes = build_on_meta(setup)
    inputs, targets = _batch(setup, microbatches, "cpu")

    def stand_in(index: int, n_stages: int) -> nn.Module:
        parameters = sum(p.numel() for p in sizes.stage(index, n_stages).parameters())
        last = index == n_stages - 1
        vocab = config.model.vocab
        return StandIn(config.model.hidden, vocab, parameters, index == 0, last)

    return Work(
        setup=setup,
        device=torch.device("cpu"),
        inputs=inputs,
        targets=targets,
        stage=stand_in,
        loss=lambda output, target: output.mean(),
        hidden=config.model.hidden,
    )


def build_on_meta(setup: Setup) -> MoETransformer:
    """The model without its numbers: shapes only."""
    with torch.device("meta"):
        return build(read_config(setup.model, setup.changes), setup.seed)


class StandIn(nn.Module):  # type: ignore[misc]
    """A stage that scales its input; its copies on other ranks have `parameters` numbers to add."""

    def __init__(self, hidden: int, outputs: int, parameters: int, first: bool, last: bool):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(hidden))
        self.rest = nn.Parameter(torch.zeros(max(0, parameters - hidden)))
        self.outputs, self.first, self.last = outputs, first, last

    def forward(self, x: Tensor) -> Tensor:
        """Token ids or hidden states in, hidden states or (last) what has the logits' shape out."""
        if self.first:
            x = x.to(torch.float32).unsqueeze(-1)
        x = x * self.scale
        return x[..., :1].expand(*x.shape[:-1], self.outputs) if self.last else x


def _batch(
    setup: Setup, microbatches: int, device: str
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    batches = Batches(read_config(setup.model, setup.changes).model, setup.tokens, setup.seed)
    drawn = [batches.draw(setup.sequences).to(device) for _ in range(microbatches)]
    return tuple(d[:, :-1].contiguous() for d in drawn), tuple(d[:, 1:].contiguous() for d in drawn)
