"""Training on the shipped text: AdamW, and the gate's bias moved after each step."""

from __future__ import annotations

import torch

from simdeep.validate.transformer.model import MoETransformer
from simdeep.validate.transformer.text import Batches

BIAS_RATE = 1e-3
"""Bias update speed (arXiv 2412.19437 sec 4.2)."""


def train(
    model: MoETransformer,
    steps: int,
    sequences: int = 8,
    tokens: int = 64,
    learning_rate: float = 3e-3,
    bias_rate: float = BIAS_RATE,
    seed: int = 0,
) -> list[float]:
    """Train in place; returns the loss of every step, in nats a byte."""
    model.train()
    optimizer = make_optimizer(model, learning_rate)
    batches = Batches(model.config.model, tokens, seed)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(batches.draw(sequences))
        loss.backward()
        optimizer.step()
        model.update_biases(bias_rate)
        losses.append(loss.item())
    return losses


def make_optimizer(module: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW with DeepSeek-V3's betas and weight decay (arXiv 2412.19437 sec 4.2)."""
    return torch.optim.AdamW(
        module.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.1
    )
