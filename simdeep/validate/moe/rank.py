"""What each process of the expert parallel run does: steps, their moments, their gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from simdeep.validate.moe.case import Case
from simdeep.validate.moe.parallel import ParallelMoE
from simdeep.validate.transformer.model import MoETransformer, build
from simdeep.validate.transformer.moe import MoE

WARM_UP = 3
"""Steps that open connections and fill allocators."""


@dataclass(frozen=True)
class Found:
    """What one rank found with one number of tokens."""

    moments: list[list[dict[str, float]]]
    """[repeats][MoE layers] by name of the moment."""
    rows: list[list[list[int]]]
    """[MoE layers][sources][own experts] rows received."""
    gradient_error: float
    loss: float
    reference_loss: float


def run_rank(rank: int, n: int, case: Case, state: Path, batches: Path) -> list[Found]:
    """All numbers of tokens, one after the other."""
    device, finish = device_of(rank, case), finish_of(case)
    parts = torch.load(batches, weights_only=True)
    model = build(case.config, case.seed).to(device)
    model.load_state_dict(torch.load(state, weights_only=True))
    return [_run(rank, model, [p.to(device) for p in of_all], case, finish) for of_all in parts]


def device_of(rank: int, case: Case) -> torch.device:
    """Where a rank computes."""
    return torch.device("cuda", rank) if case.backend == "nccl" else torch.device("cpu")


def finish_of(case: Case) -> Callable[[], None]:
    """What waits until the device is done."""
    return torch.cuda.synchronize if case.backend == "nccl" else _nothing


def _nothing() -> None:
    pass


def _run(
    rank: int, whole: MoETransformer, parts: list[Tensor], case: Case, finish: Callable[[], None]
) -> Found:
    """`parts` are all ranks' tokens: every rank also makes the unparallel run to compare with."""
    model = copy.deepcopy(whole)
    names = {id(p): name for name, p in model.named_parameters()}
    layers = _spread(model, finish)
    moments = []
    for number in range(WARM_UP + case.repeats):
        model.zero_grad()
        dist.barrier()
        loss = model.loss(parts[rank]) / len(parts)
        loss.backward()
        if number >= WARM_UP:
            moments.append([dict(layer.notes.at) for layer in layers])
    experts = {id(p) for layer in layers for p in layer.local.parameters()}
    _sum_gradients([p for p in model.parameters() if id(p) not in experts])
    total = loss.detach().clone()
    dist.all_reduce(total)
    gradients = {names[id(p)]: p.grad for p in model.parameters()}
    wanted, reference_loss = _reference(whole, parts)
    return Found(
        moments=moments,
        rows=[layer.notes.rows for layer in layers],
        gradient_error=_error(gradients, wanted),
        loss=total.item(),
        reference_loss=reference_loss,
    )


def moe_blocks(model: nn.Module) -> Iterator[tuple[nn.Module, str, MoE]]:
    """Every MoE block with the module that holds it and its name there, in the model's order."""
    for holder in list(model.modules()):
        for name, child in holder.named_children():
            if isinstance(child, MoE):
                yield holder, name, child


def _spread(model: nn.Module, finish: Callable[[], None]) -> list[ParallelMoE]:
    """Replace every MoE block by one that holds this rank's experts alone."""
    made = []
    for holder, name, block in list(moe_blocks(model)):
        parallel = ParallelMoE(block, finish)
        setattr(holder, name, parallel)
        made.append(parallel)
    return made


def _sum_gradients(parameters: list[nn.Parameter]) -> None:
    """Add up the gradients of what every rank holds a copy of."""
    for parameter in parameters:
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)


def _reference(
    whole: MoETransformer, parts: list[Tensor]
) -> tuple[Mapping[str, Tensor | None], float]:
    """Gradients and loss of one process with all tokens, a rank's at a time."""
    whole.zero_grad()
    loss = 0.0
    for part in parts:
        own = whole.loss(part) / len(parts)
        own.backward()
        loss += own.item()
    return {name: p.grad for name, p in whole.named_parameters()}, loss


def _error(found: Mapping[str, Tensor | None], wanted: Mapping[str, Tensor | None]) -> float:
    """Largest difference of a gradient, relative to the largest entry of its reference."""
    worst = 0.0
    for name, gradient in found.items():
        reference = wanted[name]
        if gradient is None or reference is None:
            worst = worst if gradient is reference else math.inf
            continue
        scale = float(reference.abs().max())
        difference = float((gradient - reference).abs().max())
        if not math.isfinite(difference):
            return math.inf
        if difference:
            worst = max(worst, difference / scale if scale else math.inf)
    return worst
