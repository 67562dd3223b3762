"""Times what ranks do at the same time: experts beside others' experts, and all-to-alls.

Processes of one machine share its caches, its memory and, where two logical cores are one, the
core itself. So every rank times its experts while the others time theirs, without a word between
them; and all-to-alls are timed as the layers run them: on rows just written, after computing, from
the moment the last rank has come. Neither sees a step of the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from simdeep.validate.moe.case import EXCHANGED, Case
from simdeep.validate.moe.curve import ExpertTime
from simdeep.validate.moe.experts import time_experts, timed_experts
from simdeep.validate.moe.parallel import all_to_all
from simdeep.validate.moe.rank import device_of, finish_of
from simdeep.validate.transformer.model import build

_REPEATS = 30
_FILLER_ROWS = 384
"""Rows of the expert that computes between two all-to-alls."""

_WARM_UP = 3

_COMPUTES_S = (2e-3, 10e-3)
"""For any time between these, each rank its own: only after a while of computing does a system let
a thread that moves rows wait, and the rank that comes first sleeps until the last one comes."""


@dataclass(frozen=True)
class Beside:
    """What one rank found: its experts' times, and the start and end of every all-to-all."""

    experts: list[ExpertTime]
    exchanges: list[list[tuple[float, float]]]
    """[sizes][repeats] in seconds of the machine's clock."""


def time_beside(rank: int, n: int, case: Case, state: Path) -> Beside:
    """Both, at the same time as all other ranks."""
    device, finish = device_of(rank, case), finish_of(case)
    model = build(case.config, case.seed).to(device)
    model.load_state_dict(torch.load(state, weights_only=True))
    layers = timed_experts(model, n, rank)
    dist.barrier()
    experts = time_experts(layers, n, device, finish)
    filler = layers[0][0]
    hidden = model.config.model.hidden
    random = np.random.default_rng([case.seed, rank])
    exchanges = [_exchange(rows, n, hidden, filler, device, finish, random) for rows in EXCHANGED]
    return Beside(experts, exchanges)


def _exchange(
    rows: int,
    n: int,
    hidden: int,
    filler: nn.Module,
    device: torch.device,
    finish: Callable[[], None],
    random: np.random.Generator,
) -> list[tuple[float, float]]:
    base = torch.randn(rows, hidden, device=device)
    order = torch.arange(rows * n, device=device) % rows
    work = torch.randn(_FILLER_ROWS, hidden, device=device)
    shares = [rows] * n
    found = []
    with torch.no_grad():
        for number in range(_WARM_UP + _REPEATS):
            until = time.perf_counter() + random.uniform(*_COMPUTES_S)
            while time.perf_counter() < until:
                work = _normal(filler(work))
                finish()
            sent = base[order]
            finish()
            start = time.perf_counter()
            all_to_all(sent, shares, shares)
            finish()
            if number >= _WARM_UP:
                found.append((start, time.perf_counter()))
    return found


def _normal(rows: Tensor) -> Tensor:
    """Of unit size: what goes round and round must neither vanish nor blow up."""
    return rows / rows.std().clamp_min(1e-12)
