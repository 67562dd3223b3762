"""An MoE block whose experts are spread over the processes of a group."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from simdeep.validate.transformer.moe import MoE


class LocalExperts(nn.Module):  # type: ignore[misc]
    """The experts of one rank, on rows that lie by source and, of each source, by expert."""

    def __init__(self, experts: Sequence[nn.Module]):
        super().__init__()
        self.experts = nn.ModuleList(experts)

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Outputs in the order of `rows` [rows, hidden]; `counts` [sources, experts] on the CPU."""
        sources, experts = counts.shape
        chunks = rows.split(counts.flatten().tolist())
        made = []
        for number, expert in enumerate(self.experts):
            own = [chunks[source * experts + number] for source in range(sources)]
            made.append(expert(torch.cat(own)).split(counts[:, number].tolist()))
        return torch.cat([made[e][source] for source in range(sources) for e in range(experts)])


@dataclass
class Notes:
    """Moments of one MoE layer in a step, in seconds of the machine's monotonic clock."""

    finish: Callable[[], None]
    """Waits for a GPU, before each reading of the clock."""
    at: dict[str, float] = field(default_factory=dict)
    rows: list[list[int]] = field(default_factory=list)
    """Rows received by source and own expert."""

    def mark(self, name: str) -> None:
        """Note this moment."""
        self.finish()
        self.at[name] = time.perf_counter()


class ParallelMoE(nn.Module):  # type: ignore[misc]
    """`MoE` with contiguous shares of the experts on each rank; the same result, token by token.

    Shared experts come after the combine, so that neither forward nor backward computes anything
    else between dispatch and combine.
    """

    def __init__(self, block: MoE, finish: Callable[[], None]):
        super().__init__()
        self.ranks, self.rank = dist.get_world_size(), dist.get_rank()
        self.per_rank = len(block.experts) // self.ranks
        first = self.rank * self.per_rank
        self.gate, self.shared = block.gate, block.shared
        self.local = LocalExperts(block.experts[first : first + self.per_rank])
        self.notes = Notes(finish)

    def forward(self, x: Tensor) -> Tensor:
        """Input and output are [..., hidden]."""
        flat = x.reshape(-1, x.shape[-1])
        chosen, weights = self.gate(flat)
        order = chosen.flatten().argsort(stable=True)
        token = order // chosen.shape[1]
        experts = self.ranks * self.per_rank
        counts = torch.bincount(chosen.flatten(), minlength=experts)
        rows = flat[token]
        self.notes.mark("dispatch F start")
        sent, received = counts.view(self.ranks, -1), self._exchange_counts(counts)
        out, into = sent.sum(1).tolist(), received.sum(1).tolist()
        there = _Exchange.apply(rows, out, into, self.notes, "dispatch")
        made = self.local(there, received)
        self.notes.mark("combine F start")
        back = _Exchange.apply(made, into, out, self.notes, "combine")
        weighted = back * weights.flatten()[order].unsqueeze(1).to(x.dtype)
        y = torch.zeros_like(flat).index_add(0, token, weighted)
        if self.shared is not None:
            y = y + self.shared(flat)
        return y.view_as(x)

    def _exchange_counts(self, counts: Tensor) -> Tensor:
        """Rows that come here, [sources, own experts], on the CPU."""
        received = torch.empty_like(counts)
        dist.all_to_all_single(received, counts)
        found = received.view(self.ranks, self.per_rank).cpu()
        self.notes.rows = found.tolist()
        return found


class _Exchange(torch.autograd.Function):  # type: ignore[misc]
    """An all-to-all of rows, and of their gradients the other way."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, out: list[int], into: list[int], notes: Notes, name: str
    ) -> Tensor:
        ctx.out, ctx.into, ctx.notes, ctx.name = out, into, notes, name
        result = all_to_all(rows, out, into)
        notes.mark(f"{name} F end")
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        ctx.notes.mark(f"{ctx.name} B start")
        result = all_to_all(gradient, ctx.into, ctx.out)
        ctx.notes.mark(f"{ctx.name} B end")
        return result, None, None, None, None


def all_to_all(rows: Tensor, out: list[int], into: list[int]) -> Tensor:
    """Send `out` rows to each rank and receive `into` from each."""
    result = rows.new_empty(sum(into), rows.shape[1])
    dist.all_to_all_single(result, rows.contiguous(), into, out)
    return result
