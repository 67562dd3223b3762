"""What one process does before the run: trains, routes every token, times experts by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from simdeep.program.routing import RoutingTrace
from simdeep.validate.hooks.device import Device, current_device
from simdeep.validate.hooks.routing import trace_of, watched_routing
from simdeep.validate.moe.case import Case
from simdeep.validate.moe.curve import ExpertTime
from simdeep.validate.moe.experts import time_experts, timed_experts
from simdeep.validate.moe.rank import device_of, finish_of, moe_blocks
from simdeep.validate.transformer.model import MoETransformer, build
from simdeep.validate.transformer.text import Batches
from simdeep.validate.transformer.training import train

_BIAS_RATE = 0.02
"""Of the gate's bias a step: V3's 0.001 is for many thousands of steps, here are few."""


@dataclass(frozen=True)
class Prepared:
    """What the single process found."""

    device: Device
    losses: list[float]
    routing: list[list[RoutingTrace]]
    """[numbers of tokens][ranks]: the gate's choices of each rank's tokens."""
    experts: list[ExpertTime]
    """Of rank 0, with the machine to themselves."""
    hidden: int
    n_experts: int


def prepare(rank: int, n: int, case: Case, state: Path, batches: Path) -> Prepared:
    """Train, leave the model's `state` and everyone's `batches`, route them, time the experts."""
    device = device_of(rank, case)
    model = build(case.config, case.seed)
    losses = train(model, case.train_steps, bias_rate=_BIAS_RATE, seed=case.seed)
    model.zero_grad()
    torch.save(model.state_dict(), state)
    source = Batches(model.config.model, case.sequence, case.seed + 1)
    parts = [
        [source.draw(tokens // case.sequence) for _ in range(case.procs)] for tokens in case.tokens
    ]
    torch.save(parts, batches)
    model.to(device)
    blocks = [block for _, _, block in moe_blocks(model)]
    return Prepared(
        device=current_device(device.type),
        losses=losses,
        routing=[[_route(model, part.to(device)) for part in of_all] for of_all in parts],
        experts=time_experts(
            timed_experts(model, case.procs, 0), case.procs, device, finish_of(case)
        ),
        hidden=model.config.model.hidden,
        n_experts=len(blocks[0].experts),
    )


def _route(model: MoETransformer, tokens: Tensor) -> RoutingTrace:
    """What the gates choose for [batch, tokens + 1]; the run computes the same on other rows."""
    with torch.no_grad(), watched_routing(model) as chosen:
        model.loss(tokens)
    trace = trace_of(chosen, len(next(iter(moe_blocks(model)))[2].experts))
    assert trace is not None
    return trace
