"""Times experts by themselves at several numbers of rows, as they run between two transfers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from simdeep.validate.moe.curve import ExpertTime
from simdeep.validate.moe.parallel import LocalExperts
from simdeep.validate.moe.rank import moe_blocks

ROWS = (1, 16, 48, 144, 432, 1296)
"""Rows of each expert at which experts are timed."""

_LAYERS = 4
"""MoE layers that are timed one after the other: more weights than a core's own cache holds."""

_WARM_UP = 2

_REST_S = 1e-3
"""A rank sleeps in a transfer: its core is slow at first, and its caches have gone cold."""


def timed_experts(model: nn.Module, ranks: int, rank: int) -> list[list[nn.Module]]:
    """One rank's experts in the first few MoE layers."""
    blocks = [block for _, _, block in moe_blocks(model)][:_LAYERS]
    share = len(blocks[0].experts) // ranks
    return [list(block.experts[rank * share : (rank + 1) * share]) for block in blocks]


def time_experts(
    experts: Sequence[Sequence[nn.Module]],
    sources: int,
    device: torch.device,
    finish: Callable[[], None],
    repeats: int = 7,
) -> list[ExpertTime]:
    """Seconds of an expert at each of `ROWS`, a mean over its layer's, layer by layer.

    A pass goes through all layers and back, with a rest before each. Experts have unlike rows from
    each of `sources` ranks, as a gate's choices are: matrices of unlike and odd sizes take longer
    than as many equal ones.
    """
    layers = [LocalExperts(of_layer) for of_layer in experts]
    here, hidden = len(experts[0]), experts[0][0].down.out_features
    found = []
    for rows in ROWS:
        generator = torch.Generator().manual_seed(rows)
        given = [torch.randn(rows * here, hidden, generator=generator).to(device) for _ in layers]
        counts = [_unlike(rows * here, (sources, here), generator) for _ in layers]
        passes = [_pass(layers, given, counts, finish) for _ in range(_WARM_UP + repeats)]
        forward, backward = zip(*passes[_WARM_UP:], strict=True)
        found.append(
            ExpertTime(
                rows,
                tuple(seconds / here for one in forward for seconds in one),
                tuple(seconds / here for one in backward for seconds in one),
            )
        )
    return found


def _pass(
    layers: Sequence[nn.Module],
    given: Sequence[Tensor],
    counts: Sequence[Tensor],
    finish: Callable[[], None],
) -> tuple[list[float], list[float]]:
    """Seconds of every layer's forward, and of its backward."""

    def clock() -> float:
        finish()
        return time.perf_counter()

    made, forward, backward = [], [], []
    for layer, rows, of_experts in zip(layers, given, counts, strict=True):
        layer.zero_grad()
        x = rows.detach().requires_grad_()
        time.sleep(_REST_S)
        start = clock()
        y = layer(x, of_experts)
        forward.append(clock() - start)
        made.append(y)
    for y in reversed(made):
        gradient = torch.ones_like(y)
        time.sleep(_REST_S)
        start = clock()
        y.backward(gradient)
        backward.append(clock() - start)
    return forward, backward


def _unlike(total: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """So many rows, spread with chances that differ threefold."""
    chances = 0.5 + torch.rand(shape, generator=generator).flatten()
    drawn = torch.multinomial(chances, total, replacement=True, generator=generator)
    return torch.bincount(drawn, minlength=chances.numel()).view(shape)
