"""The model that is run, its data, and the unpipelined run that says what its gradients are.

Every rank makes the stages it needs from the seed, so nothing has to be sent around.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simdeep.validate.cases import ModelSize

DTYPE = torch.float64


class Block(nn.Module):  # type: ignore[misc]
    """A residual block: the input's gradient and those of its weights have paths in common."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, dtype=DTYPE)
        self.up = nn.Linear(width, 4 * width, dtype=DTYPE)
        self.down = nn.Linear(4 * width, width, dtype=DTYPE)

    def forward(self, x: Tensor) -> Tensor:
        """Input and output are [rows, width]."""
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


def make_stage(size: ModelSize, stage: int) -> nn.Module:
    """The stage of this number: equal wherever it is made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(size, stage))
        return nn.Sequential(*(Block(size.width) for _ in range(size.blocks_per_stage)))


def make_batch(size: ModelSize, microbatches: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a step, [microbatches * rows, width]."""
    generator = torch.Generator().manual_seed(_seed(size, -1))
    shape = (2, microbatches * size.rows, size.width)
    inputs, targets = torch.randn(shape, generator=generator, dtype=DTYPE)
    return inputs, targets


def loss_of(output: Tensor, target: Tensor) -> Tensor:
    """Mean over all entries; that of a batch is the mean of its equal micro-batches'."""
    return nn.functional.mse_loss(output, target)


class Reference(NamedTuple):
    """Loss of the unpipelined run, and its gradients by stage and name of the parameter."""

    loss: float
    gradients: tuple[Mapping[str, Tensor], ...]


def run_reference(size: ModelSize, n_stages: int, microbatches: int) -> Reference:
    """All stages in a row, the whole batch at once, one backward."""
    stages = [make_stage(size, stage) for stage in range(n_stages)]
    inputs, targets = make_batch(size, microbatches)
    loss = loss_of(nn.Sequential(*stages)(inputs), targets)
    loss.backward()
    gradients = ({name: p.grad for name, p in stage.named_parameters()} for stage in stages)
    return Reference(loss.item(), tuple(gradients))


def gradient_error(stage: nn.Module, wanted: Mapping[str, Tensor]) -> float:
    """The error of a stage's gradients as `StageGradient.error` has it."""
    worst = 0.0
    for name, parameter in stage.named_parameters():
        if parameter.grad is None:
            return math.inf
        difference = (parameter.grad - wanted[name]).abs().max() / wanted[name].abs().max()
        if not difference.isfinite():
            return math.inf
        worst = max(worst, difference.item())
    return worst


def digest(stage: nn.Module) -> str:
    """A hash of all gradients of a stage."""
    made = hashlib.sha256()
    for parameter in stage.parameters():
        if parameter.grad is not None:
            made.update(parameter.grad.numpy().tobytes())
    return made.hexdigest()


def _seed(size: ModelSize, what: int) -> int:
    return size.seed * 100_003 + what + 1
