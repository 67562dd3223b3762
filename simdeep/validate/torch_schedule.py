"""Runs an exported schedule in torch.distributed.pipelining's own runtime.

Torch reads the CSV, checks it, adds sends and receives, and executes it: what simdeep plans is
what torch runs. The names with an underscore are torch's; 2.6 to 2.13 have them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime

from simdeep.program.schedule import Table
from simdeep.validate.cases import ModelSize
from simdeep.validate.model import loss_of, make_batch, make_stage


def run_csv(
    path: Path, table: Table, rank: int, size: ModelSize
) -> tuple[float, dict[int, nn.Module]]:
    """One step of the schedule in a file, on this rank of the default process group.

    `table` says what torch does not find in the file in time: the stages of this rank. Returns
    the mean loss (0 where the last stage is not) and the stages with their gradients.
    """
    stages = {stage: make_stage(size, stage) for stage in table.stages_of[rank]}
    device = torch.device("cpu")
    runtime = _PipelineScheduleRuntime(
        [PipelineStage(module, s, table.n_stages, device) for s, module in stages.items()],
        table.n_microbatches,
        loss_fn=loss_of,
    )
    runtime._load_csv(str(path))
    inputs, targets = make_batch(size, table.n_microbatches)
    losses: list[torch.Tensor] = []
    given = (inputs,) if 0 in stages else ()
    if table.n_stages - 1 in stages:
        runtime.step(*given, target=targets, losses=losses)
    else:
        runtime.step(*given)
    return sum(loss.item() for loss in losses) / table.n_microbatches, stages
