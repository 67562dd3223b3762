"""A pipeline run by torch.distributed.pipelining's own schedule classes, its actions timed."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import (
    PipelineScheduleSingle,
    get_schedule_class,
)

from simdeep.program.schedule import Act
from simdeep.validate.pipeline.points import TORCH_CLASSES, Point
from simdeep.validate.pipeline.work import Work
from simdeep.validate.timing import Notes


class TimedStage(PipelineStage):  # type: ignore[misc]
    """Torch's stage; each of its actions is noted."""

    def __init__(self, module: nn.Module, index: int, n_stages: int, work: Work, notes: Notes):
        hidden = torch.zeros(work.shape, device=work.device, requires_grad=True)
        given = work.inputs[0] if index == 0 else hidden
        with torch.no_grad():
            made = module(given.detach())
        super().__init__(
            module,
            index,
            n_stages,
            work.device,
            input_args=(given,),
            output_args=(made.detach().requires_grad_(),),
        )
        self._notes = notes

    def _get_init_p2p_neighbors_ops(self) -> list[dist.P2POp]:
        """Without those to this rank, which gloo refuses: torch before 2.13 sends them first."""
        ops = super()._get_init_p2p_neighbors_ops()
        return [op for op in ops if op.group_peer != self.group_rank]

    def forward_one_chunk(self, mb: int, *args: Any, **kwargs: Any) -> Any:
        """F."""
        with self._notes.taking(Act("F", self.stage_index, mb)):
            return super().forward_one_chunk(mb, *args, **kwargs)

    def backward_one_chunk(
        self, mb: int, loss: Any = None, full_backward: bool = True, **kwargs: Any
    ) -> Any:
        """B, or I where the weights' gradients come later."""
        with self._notes.taking(Act("B" if full_backward else "I", self.stage_index, mb)):
            return super().backward_one_chunk(mb, loss, full_backward, **kwargs)

    def backward_weight_one_chunk(self, mb: int, *args: Any, **kwargs: Any) -> Any:
        """W."""
        with self._notes.taking(Act("W", self.stage_index, mb)):
            return super().backward_weight_one_chunk(mb, *args, **kwargs)


class TorchRun:
    """One rank's part of a point, in the class that torch has for its schedule."""

    def __init__(self, point: Point, rank: int, work: Work, notes: Notes):
        n, table = point.n_stages, point.table
        self.stages = {s: work.stage(s, n) for s in table.stages_of[rank]}
        made = [TimedStage(module, s, n, work, notes) for s, module in self.stages.items()]
        cls = get_schedule_class(TORCH_CLASSES[point.schedule])
        single = issubclass(cls, PipelineScheduleSingle)

        def loss_of(output: Tensor, target: Tensor) -> Tensor:
            with notes.extending():
                return work.loss(output, target)

        self._schedule = cls(made[0] if single else made, point.microbatches, loss_fn=loss_of)
        self._inputs = torch.cat(work.inputs[: point.microbatches])
        self._targets = torch.cat(work.targets[: point.microbatches])
        self._first, self._last = 0 in self.stages, n - 1 in self.stages
        self._point = point
        self.loss = 0.0

    def step(self) -> None:
        """Every action of the rank once; `loss` counts the micro-batches that end here."""
        losses: list[Tensor] = []
        given = (self._inputs,) if self._first else ()
        if self._last:
            self._schedule.step(*given, target=self._targets, losses=losses)
        else:
            self._schedule.step(*given)
        self.loss = sum(loss.item() for loss in losses) / self._point.microbatches
