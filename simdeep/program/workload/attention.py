"""What every attention kind shares: the fused core and the output projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simdeep.program.workload.kernel import Kernel
from simdeep.program.workload.ops import (
    BF16,
    E5M6_TILED,
    FP32,
    Linear,
    cast,
    memory,
    recomputed,
)
from simdeep.program.workload.shape import CORE, Plan
from simdeep.program.workload.unfused import unfused_backward, unfused_forward

RING: Final = ((50.0, 8), (72.0, 12))
"""Bytes a value of a part's output, and operators, around one part of a context parallel core as
PyTorch has it (torch/distributed/tensor/experimental, _templated_ring_attention). Forward: keys and
values laid side by side to be sent, the part cast to FP32 and joined as out - sigmoid(difference) *
(out - part), halves put together. Backward: the same laying side by side, gradients of queries,
keys and values added in FP32, those sent on laid side by side, the core's own passes before and
after."""


@dataclass(frozen=True, slots=True)
class Core:
    """Causal flash attention of this rank's tokens over the whole sequence.

    `heads` and `kv_heads` are this rank's share, `qk_dim` and `v_dim` a head's sizes. With context
    parallelism each rank keeps its queries and sees every key, half of them on average.
    """

    heads: float
    kv_heads: float
    qk_dim: int
    v_dim: int
    window: int = 0
    windowed: float = 0.0

    def span(self, plan: Plan) -> float:
        """Twice the keys a token sees, mean over tokens and layers: the sequence, where causal."""
        seq_len = plan.shape.seq_len
        if not self.windowed or self.window >= seq_len:
            return float(seq_len)
        inside = self.window * (2 - self.window / seq_len)
        return (1 - self.windowed) * seq_len + self.windowed * inside

    def forward(self, plan: Plan) -> list[Kernel]:
        """Scores, softmax and values: one kernel, or one for each step."""
        if not plan.style.flash:
            return unfused_forward(self, plan)
        return [self._fused(plan), *self._joins(plan, "attn_ring_fwd", plan.shape.cp - 1, RING[0])]

    def _joins(self, plan: Plan, name: str, parts: int, each: tuple[float, int]) -> list[Kernel]:
        """What joins `parts` parts of a context parallel core, where its own kernels do not."""
        if not plan.style.ring_operators or plan.shape.cp == 1:
            return []
        values = parts * plan.shape.tokens * self.heads * self.v_dim
        return [memory(name, "elementwise", values * each[0], launches=parts * each[1])]

    def _fused(self, plan: Plan) -> Kernel:
        shape = plan.shape
        per_token = self.heads * self.span(plan)
        queries = shape.tokens * self.heads
        return Kernel(
            name="attn_core_fwd",
            op="attention",
            dtype=plan.dtype,
            variant=plan.style.core("fwd"),
            m=shape.tokens,
            n=shape.seq_len,
            k=self.qk_dim,
            groups=max(1, round(self.heads)),
            flops=shape.tokens * per_token * (self.qk_dim + self.v_dim),
            bytes=queries * ((self.qk_dim + self.v_dim) * BF16 + FP32) + self._kv_bytes(plan),
        )

    def backward(self, plan: Plan) -> list[Kernel]:
        """Row sums before, the core (five products, one of them the scores again), dQ after."""
        again = recomputed(self.forward(plan)) if plan.again(CORE) else []
        if not plan.style.flash:
            return [*again, *unfused_backward(self, plan)]
        shape = plan.shape
        queries = shape.tokens * self.heads
        grad_q32 = queries * self.qk_dim * FP32
        pairs = shape.tokens * self.heads * self.span(plan)
        pre = queries * (2 * self.v_dim * BF16 + 2 * FP32) + grad_q32
        core = Kernel(
            name="attn_core_bwd",
            op="attention",
            dtype=plan.dtype,
            variant=plan.style.core("bwd"),
            m=shape.tokens,
            n=shape.seq_len,
            k=self.qk_dim,
            groups=max(1, round(self.heads)),
            flops=pairs * (3 * self.qk_dim + 2 * self.v_dim),
            bytes=queries * ((self.qk_dim + self.v_dim) * BF16 + 2 * FP32)
            + 2 * grad_q32
            + 2 * self._kv_bytes(plan),
            recomputed=pairs * self.qk_dim,
        )
        return [
            *again,
            memory("attn_bwd_pre", "attn_bwd_prepost", pre),
            core,
            *self._joins(plan, "attn_ring_bwd", plan.shape.cp, RING[1]),
            memory("attn_bwd_post", "attn_bwd_prepost", grad_q32 + queries * self.qk_dim * BF16),
        ]

    def _kv_bytes(self, plan: Plan) -> float:
        """Keys and values of the whole sequence, once."""
        keys = plan.shape.tokens * plan.shape.cp * self.kv_heads
        return keys * (self.qk_dim + self.v_dim) * BF16


def o_proj_forward(plan: Plan, linear: Linear) -> list[Kernel]:
    """Output projection; in FP8 its input is also kept as E5M6 for the backward pass."""
    values = plan.shape.tokens * linear.k
    keep = [cast("attn_out_keep", values, write=E5M6_TILED)] if plan.fp8 else []
    return [*keep, *linear.forward(plan.shape.tokens)]


def o_proj_dgrad(plan: Plan, linear: Linear) -> list[Kernel]:
    """Input gradient of the output projection, and the operands of its weight gradient."""
    tokens = plan.shape.tokens
    back = [cast("attn_out_back", tokens * linear.k, E5M6_TILED, BF16)] if plan.fp8 else []
    return [
        *back,
        *linear.dgrad(tokens),
        *linear.wgrad_input(tokens),
        *linear.wgrad_grad(tokens),
    ]
