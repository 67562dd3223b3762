"""Attention: multi-head latent (arXiv 2405.04434 sec 2.1) and grouped-query, both causal."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from simdeep.spec.model import Gqa, Mla
from simdeep.validate.transformer.config import Config


def make_attention(config: Config) -> nn.Module:
    """The attention of every layer of a model."""
    shape = config.model.attention
    if isinstance(shape, Mla):
        return LatentAttention(config, shape)
    return GroupedQueryAttention(config, shape)


class LatentAttention(nn.Module):  # type: ignore[misc]
    """MLA: keys and values come from one latent, the rotary part of the key is shared by heads."""

    def __init__(self, config: Config, shape: Mla):
        super().__init__()
        hidden, heads, bias = config.model.hidden, shape.heads, shape.bias
        self.shape, self.theta = shape, config.rope_theta
        q_width = heads * shape.qk_dim
        if shape.q_lora_rank is None:
            self.q = nn.Linear(hidden, q_width, bias=False)
        else:
            self.q = nn.Sequential(
                nn.Linear(hidden, shape.q_lora_rank, bias=bias),
                nn.RMSNorm(shape.q_lora_rank, eps=config.eps),
                nn.Linear(shape.q_lora_rank, q_width, bias=False),
            )
        self.kv_down = nn.Linear(hidden, shape.kv_values, bias=bias)
        self.kv_norm = nn.RMSNorm(shape.kv_lora_rank, eps=config.eps)
        kv_width = heads * (shape.nope_dim + shape.v_dim)
        self.kv_up = nn.Linear(shape.kv_lora_rank, kv_width, bias=False)
        self.out = nn.Linear(heads * shape.v_dim, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Input and output are [batch, tokens, hidden]."""
        shape = self.shape
        batch, tokens, _ = x.shape
        q = self.q(x).view(batch, tokens, shape.heads, shape.qk_dim).transpose(1, 2)
        q_nope, q_rope = q.split([shape.nope_dim, shape.rope_dim], dim=-1)
        latent, k_rope = self.kv_down(x).split([shape.kv_lora_rank, shape.rope_dim], dim=-1)
        kv = self.kv_up(self.kv_norm(latent)).view(batch, tokens, shape.heads, -1).transpose(1, 2)
        k_nope, v = kv.split([shape.nope_dim, shape.v_dim], dim=-1)
        shared = rotate(k_rope.unsqueeze(1), self.theta).expand(-1, shape.heads, -1, -1)
        y = scaled_dot_product_attention(
            torch.cat([q_nope, rotate(q_rope, self.theta)], dim=-1),
            torch.cat([k_nope, shared], dim=-1),
            v,
            is_causal=True,
        )
        return self.out(y.transpose(1, 2).reshape(batch, tokens, -1))


class GroupedQueryAttention(nn.Module):  # type: ignore[misc]
    """GQA: several query heads share a key and a value head."""

    def __init__(self, config: Config, shape: Gqa):
        super().__init__()
        hidden, dim = config.model.hidden, shape.head_dim
        self.shape, self.theta = shape, config.rope_theta
        self.q = nn.Linear(hidden, shape.heads * dim, bias=shape.qkv_bias)
        self.k = nn.Linear(hidden, shape.kv_heads * dim, bias=shape.qkv_bias)
        self.v = nn.Linear(hidden, shape.kv_heads * dim, bias=shape.qkv_bias)
        self.q_norm = nn.RMSNorm(dim, eps=config.eps) if shape.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(dim, eps=config.eps) if shape.qk_norm else nn.Identity()
        self.out = nn.Linear(shape.heads * dim, hidden, bias=shape.out_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Input and output are [batch, tokens, hidden]."""
        batch, tokens, _ = x.shape
        q, k, v = (
            part(x).view(batch, tokens, -1, self.shape.head_dim)
            for part in (self.q, self.k, self.v)
        )
        q = rotate(self.q_norm(q).transpose(1, 2), self.theta)
        k = rotate(self.k_norm(k).transpose(1, 2), self.theta)
        times = self.shape.heads // self.shape.kv_heads
        k, v = (part.repeat_interleave(times, dim=1) for part in (k, v.transpose(1, 2)))
        y = scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, tokens, -1))


def rotate(x: Tensor, theta: float) -> Tensor:
    """Rotary positions (arXiv 2104.09864) of x [..., tokens, dim], `dim` being even."""
    tokens, dim = x.shape[-2:]
    speed = theta ** (-torch.arange(0, dim, 2, dtype=torch.float32, device=x.device) / dim)
    angle = torch.arange(tokens, dtype=torch.float32, device=x.device)[:, None] * speed
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    one, two = x.chunk(2, dim=-1)
    return torch.cat([one * cos - two * sin, two * cos + one * sin], dim=-1)
