"""The memory-bound work of a decoder layer in plain torch: what calibration times one by one and
what the validated layer is made of.

Tokens come first, heads second. On a GPU each function is compiled into fused kernels
(`fused`); on a CPU it runs as it stands. Imports torch: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

EPS = 1e-6
BLOCK = 128
FP8_MAX = 448.0


def fused(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """The function as fused kernels on a GPU, unchanged on a CPU."""
    return _compiled(function) if device == "cuda" else function


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled once a width, for any number of tokens (the first dimension)."""
    import torch._dynamo as dynamo

    dynamo.config.automatic_dynamic_shapes = False
    dynamo.config.recompile_limit = 64
    made = torch.compile(function)

    def call(*operands: Any) -> Any:
        for operand in operands:
            if isinstance(operand, Tensor) and operand.dim() > 1:
                dynamo.maybe_mark_dynamic(operand, 0)
        return made(*operands)

    return call


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm of the last dimension."""
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)
    return (wide * scale).to(x.dtype) * weight


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The residual stream with `x` added, and its RMSNorm."""
    stream = x + residual
    return stream, rms_norm(stream, weight)


def rms_norm_input_grad(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient of an RMSNorm's input."""
    wide, upper = x.float(), grad.float() * weight.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)
    along = (upper * wide).mean(-1, keepdim=True)
    return (scale * (upper - wide * scale.square() * along)).to(x.dtype)


def rms_norm_weight_grad(grad: Tensor, x: Tensor) -> Tensor:
    """Gradient of an RMSNorm's weight, FP32."""
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)
    return (grad.float() * wide * scale).sum(0)


def rms_norm_back(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both gradients of an RMSNorm."""
    return rms_norm_input_grad(grad, x, weight), rms_norm_weight_grad(grad, x)


def add_rms_norm_back(
    grad: Tensor, stream: Tensor, weight: Tensor, stream_grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Both gradients of `add_rms_norm`, the residual stream's gradient added."""
    dx = rms_norm_input_grad(grad, stream, weight) + stream_grad
    return dx, rms_norm_weight_grad(grad, stream)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (tokens, heads, width) by cos and sin (tokens, width / 2)."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def rotate_in_place(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate`, written over x."""
    return x.copy_(rotate(x, cos, sin))


def join_heads(own: Tensor, shared: Tensor) -> Tensor:
    """Keys: a head's own part and the rotary part that all heads share, (tokens, heads, both)."""
    return torch.cat([own, shared.expand(-1, own.shape[1], -1)], dim=-1)


def side_by_side(a: Tensor, b: Tensor) -> Tensor:
    """Two arrays joined along their last dimension."""
    return torch.cat([a, b], dim=-1)


def row_map(wanted: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """From which local experts want a token (tokens, experts): whose each row is, and `slots`.

    Rows are ordered by expert; `rows` is how many there are. `slots` are as in `reduce_rows`.
    """
    tokens, experts = wanted.shape
    flat = wanted.t().reshape(-1)
    place = torch.cumsum(flat, 0, dtype=torch.int64) - 1
    slots = torch.where(flat, place, -1)
    token = torch.empty(rows + 1, dtype=torch.int64, device=wanted.device)
    number = torch.arange(tokens, device=wanted.device).repeat(experts)
    token.scatter_(0, torch.where(flat, place, rows), number)
    return token[:rows], slots.view(experts, tokens).t()


def swiglu(both: Tensor) -> Tensor:
    """Gated activation of gate and up side by side."""
    gate, up = both.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate.float()).to(both.dtype) * up


def swiglu_back(grad: Tensor, both: Tensor) -> Tensor:
    """Gradient of `swiglu`'s input."""
    gate, up = both.float().chunk(2, dim=-1)
    upper = grad.float()
    half = torch.sigmoid(gate)
    d_gate = upper * up * half * (1 + gate * (1 - half))
    return torch.cat([d_gate, upper * gate * half], dim=-1).to(both.dtype)


def scaled(x: Tensor, factor: float) -> Tensor:
    """A streaming pass: `x` times a number."""
    return x * factor


def added(x: Tensor, y: Tensor) -> Tensor:
    """A streaming pass: the sum of two."""
    return x + y


def contiguous(x: Tensor) -> Tensor:
    """A strided array laid row by row."""
    return x.clone(memory_format=torch.contiguous_format)


def widened(x: Tensor, heads: int) -> Tensor:
    """One head (tokens, 1, width) copied to all."""
    return x.expand(-1, heads, -1).clone(memory_format=torch.contiguous_format)


def sum_heads(x: Tensor) -> Tensor:
    """Sum over heads (tokens, heads, width), kept as one."""
    return x.float().sum(1, keepdim=True).to(x.dtype)


def expand_rows(received: Tensor, token: Tensor) -> Tensor:
    """A row for each expert that wants a token: `token` (rows) says whose it is."""
    return received[token]


def reduce_rows(rows: Tensor, slots: Tensor) -> Tensor:
    """Sum of each token's rows; `slots` (tokens, most) are row numbers, -1 where there are less."""
    here = slots >= 0
    picked = rows[slots.clamp(min=0)].float()
    return torch.where(here[..., None], picked, 0.0).sum(1).to(rows.dtype)


def row_dot(grad: Tensor, rows: Tensor) -> Tensor:
    """Gradient of the routing weight of each row."""
    return (grad.float() * rows.float()).sum(-1)


def to_tiles(x: Tensor) -> tuple[Tensor, Tensor]:
    """FP8 in 1x128 tiles along the last dimension, and the tiles' scales."""
    tiles = x.float().reshape(x.shape[0], -1, BLOCK)
    scale = tiles.abs().amax(-1).clamp(min=1e-4) / FP8_MAX
    values = (tiles / scale[..., None]).reshape(x.shape)
    return values.to(torch.float8_e4m3fn), scale


def to_turned_tiles(x: Tensor) -> tuple[Tensor, Tensor]:
    """FP8 in 128x1 tiles, transposed: (columns, rows), and the tiles' scales."""
    tiles = x.float().reshape(-1, BLOCK, x.shape[1])
    scale = tiles.abs().amax(1).clamp(min=1e-4) / FP8_MAX
    values = (tiles / scale[:, None]).reshape(x.shape).to(torch.float8_e4m3fn)
    return values.t().contiguous(), scale.t().contiguous()


def turned(x: Tensor) -> Tensor:
    """The transpose, laid row by row."""
    return x.t().contiguous()


def adam(
    weight: Tensor, grad: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adam over FP32 master weights, in place."""
    first.mul_(0.9).add_(grad, alpha=0.1)
    second.mul_(0.95).addcmul_(grad, grad, value=0.05)
    weight.sub_(1e-4 * first / (second.sqrt() + 1e-8))
    return weight, first, second


def gate(
    logits: Tensor, bias: Tensor, groups: int, kept: int, topk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Group-limited top-k of sigmoid scores (arXiv 2412.19437 eq. 16): weights, experts, load."""
    scores = torch.sigmoid(logits)
    biased = scores + bias
    by_group = biased.view(logits.shape[0], groups, -1)
    strength = by_group.topk(2, dim=-1).values.sum(-1)
    best = strength.topk(kept, dim=-1).indices
    allowed = torch.zeros_like(strength).scatter_(1, best, 1.0)
    masked = by_group.masked_fill(allowed[..., None] == 0, float("-inf")).flatten(1)
    experts = masked.topk(topk, dim=-1).indices
    chosen = scores.gather(1, experts)
    weights = chosen / chosen.sum(-1, keepdim=True) * 2.5
    load = torch.zeros_like(bias).scatter_add_(
        0, experts.flatten(), torch.ones_like(experts.flatten(), dtype=bias.dtype)
    )
    return weights, experts, load


def gate_back(grad: Tensor, logits: Tensor, experts: Tensor) -> Tensor:
    """Gradient of the gate's logits from that of its weights."""
    scores = torch.sigmoid(logits)
    chosen = scores.gather(1, experts)
    total = chosen.sum(-1, keepdim=True)
    weights = chosen / total
    d_chosen = 2.5 * (grad - (grad * weights).sum(-1, keepdim=True)) / total
    d_scores = torch.zeros_like(scores).scatter_(1, experts, d_chosen)
    return d_scores * scores * (1 - scores)
