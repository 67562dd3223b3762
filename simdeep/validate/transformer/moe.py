"""The feed-forward parts: gated (SwiGLU), and the same as shared and routed experts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simdeep.program.routing.gate import group_limit, group_top
from simdeep.spec.model import DenseFfn, Ffn, MoeFfn
from simdeep.validate.transformer.config import Config


def make_ffn(config: Config, ffn: Ffn) -> nn.Module:
    """The feed-forward part of a layer."""
    if isinstance(ffn, DenseFfn):
        return GatedFfn(config.model.hidden, ffn.width, ffn.bias)
    return MoE(config, ffn)


class GatedFfn(nn.Module):  # type: ignore[misc]
    """down(silu(gate(x)) * up(x)): a dense layer, or one expert."""

    def __init__(self, hidden: int, width: int, bias: bool = False):
        super().__init__()
        self.gate = nn.Linear(hidden, width, bias=bias)
        self.up = nn.Linear(hidden, width, bias=bias)
        self.down = nn.Linear(width, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Input and output are [..., hidden]."""
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Gate(nn.Module):  # type: ignore[misc]
    """Chooses the experts of each token; DeepSeek-V3's (arXiv 2412.19437 sec 2.1.2) and its kin.

    `bias` [experts] is added to the affinities for the choice alone. It is no parameter: after a
    step, `update_bias` raises it for experts with less than their share of `load`, and lowers it
    for those with more (the paper's eq. 16 and text; no auxiliary loss).
    """

    def __init__(self, config: Config, ffn: MoeFfn):
        super().__init__()
        self.ffn, self.normalise = ffn, config.normalise_topk
        self.weight = nn.Parameter(torch.empty(ffn.experts, config.model.hidden))
        self.register_buffer("bias", torch.zeros(ffn.experts))
        self.register_buffer("load", torch.zeros(ffn.experts), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Experts [tokens, top_k] (int64) and their weights of x [tokens, hidden]."""
        logits = nn.functional.linear(x.float(), self.weight.float())
        sigmoid = self.ffn.scoring == "sigmoid"
        affinity = logits.sigmoid() if sigmoid else logits.softmax(dim=-1)
        with torch.no_grad():
            chosen = self._choose(affinity + self.bias)
            if self.training:
                self.load += torch.bincount(chosen.flatten(), minlength=self.ffn.experts)
        weights = affinity.gather(1, chosen)
        if self.normalise:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return chosen, weights * self.ffn.routed_scale

    def _choose(self, scores: Tensor) -> Tensor:
        """The best experts of each token among those in its best groups."""
        groups, limit = group_limit(self.ffn)
        if limit < groups:
            by_group = scores.view(len(scores), groups, -1)
            best = by_group.topk(group_top(self.ffn), dim=-1).values.sum(dim=-1)
            kept = torch.zeros_like(best, dtype=torch.bool)
            kept.scatter_(1, best.topk(limit, dim=-1).indices, True)
            scores = by_group.masked_fill(~kept.unsqueeze(-1), -torch.inf).flatten(1)
        return scores.topk(self.ffn.topk, dim=-1).indices

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def update_bias(self, rate: float) -> None:
        """Move each bias by `rate` towards balance, and count the load anew."""
        if self.ffn.has_bias:
            self.bias += rate * (self.load.mean() - self.load).sign()
        self.load.zero_()


class MoE(nn.Module):  # type: ignore[misc]
    """Shared experts for every token, and of the routed ones those that the gate chooses."""

    def __init__(self, config: Config, ffn: MoeFfn):
        super().__init__()
        hidden = config.model.hidden
        self.gate = Gate(config, ffn)
        self.experts = nn.ModuleList(GatedFfn(hidden, ffn.width) for _ in range(ffn.experts))
        self.shared = GatedFfn(hidden, ffn.shared_width) if ffn.shared_width else None

    def forward(self, x: Tensor) -> Tensor:
        """Input and output are [..., hidden]."""
        flat = x.reshape(-1, x.shape[-1])
        y = self._routed(flat, *self.gate(flat))
        if self.shared is not None:
            y = y + self.shared(flat)
        return y.view_as(x)

    def _routed(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Sum of each token's experts' outputs; x and the result are [tokens, hidden].

        An expert without tokens runs on none: its gradients are then zero instead of missing.
        """
        order = chosen.flatten().argsort(stable=True)
        token = order // chosen.shape[1]
        counts = torch.bincount(chosen.flatten(), minlength=len(self.experts)).tolist()
        parts = x[token].split(counts)
        made = [expert(part) for expert, part in zip(self.experts, parts, strict=True)]
        weighted = torch.cat(made) * weights.flatten()[order].unsqueeze(1).to(x.dtype)
        return torch.zeros_like(x).index_add(0, token, weighted)
