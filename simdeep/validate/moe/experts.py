"""Times experts by themselves, by the hooks, at several numbers of rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from simdeep.validate.hooks.measure import measure
from simdeep.validate.moe.curve import ExpertTime
from simdeep.validate.moe.parallel import LocalExperts
from simdeep.validate.moe.rank import moe_blocks

ROWS = (1, 16, 48, 144, 432, 1296)
"""Rows of each expert at which experts are timed."""

_LAYERS = 4
"""MoE layers that are timed one after the other: more weights than a core's own cache holds."""


def timed_experts(model: nn.Module, ranks: int, rank: int) -> list[list[nn.Module]]:
    """One rank's experts in the first few MoE layers."""
    blocks = [block for _, _, block in moe_blocks(model)][:_LAYERS]
    share = len(blocks[0].experts) // ranks
    return [list(block.experts[rank * share : (rank + 1) * share]) for block in blocks]


class _Layers(nn.Module):  # type: ignore[misc]
    """Some layers' experts, called one after the other on rows of their own."""

    def __init__(self, experts: Sequence[Sequence[nn.Module]]):
        super().__init__()
        self.layers = nn.ModuleList(LocalExperts(of_layer) for of_layer in experts)

    def forward(self, rows: Sequence[Tensor], counts: Tensor) -> Tensor:
        """The sum of all, for a loss that reaches every layer."""
        made = [layer(own, counts) for layer, own in zip(self.layers, rows, strict=True)]
        return torch.stack([one.square().mean() for one in made]).sum()


def time_experts(
    experts: Sequence[Sequence[nn.Module]], sources: int, device: torch.device, repeats: int = 7
) -> list[ExpertTime]:
    """Mean seconds of one expert, by the hooks, at each of `ROWS` as the mean of all experts.

    Experts have unlike rows from each of `sources` ranks, as a gate's choices are: matrices of
    unlike and odd sizes take longer than as many equal ones.
    """
    layers = _Layers(experts)
    here = len(experts[0])
    hidden = experts[0][0].down.out_features
    found = []
    for rows in ROWS:
        generator = torch.Generator().manual_seed(rows)
        given = tuple(
            torch.randn(rows * here, hidden, generator=generator).to(device).requires_grad_()
            for _ in experts
        )
        counts = _unlike(rows * here, (sources, here), generator)
        measured = measure(layers, (given, counts), components=["layers.*"], repeats=repeats)
        calls = len(experts) * here
        forward = sum(part.f.median_s for part in measured.components) / calls
        backward = sum(part.b.median_s for part in measured.components) / calls
        found.append(ExpertTime(rows, forward, backward))
    return found


def _unlike(total: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """So many rows, spread with chances that differ threefold."""
    chances = 0.5 + torch.rand(shape, generator=generator).flatten()
    drawn = torch.multinomial(chances, total, replacement=True, generator=generator)
    return torch.bincount(drawn, minlength=chances.numel()).view(shape)
