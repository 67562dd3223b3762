"""Grouped-query and multi-head attention: kernels of one layer's attention.

One fused projection makes queries, keys and values; heads are split over tensor parallel ranks,
and a rank holds at least one key-value head.
"""

from __future__ import annotations

from dataclasses import dataclass

from simdeep.program.workload.attention import Core, o_proj_dgrad, o_proj_forward
from simdeep.program.workload.kernel import Kernel
from simdeep.program.workload.ops import (
    BF16,
    EAGER_ROPE,
    FP8_TILED,
    Linear,
    memory,
    norm,
    norm_bwd,
    pointwise,
    recomputed,
)
from simdeep.program.workload.shape import NORM, PRODUCTS, Plan
from simdeep.spec.model import Gqa


@dataclass(frozen=True, slots=True, eq=False)
class GqaOps:
    """Kernels of GQA between the input norm and the output projection."""

    plan: Plan
    gqa: Gqa
    hidden: int
    rotary: bool = True

    @property
    def core(self) -> Core:
        """Attention core over this rank's heads."""
        tp, dim = self.plan.shape.tp, self.gqa.head_dim
        heads, kv_heads = self.gqa.heads / tp, max(1.0, self.gqa.kv_heads / tp)
        return Core(heads, kv_heads, dim, dim, self.gqa.window, self.gqa.windowed)

    @property
    def qkv(self) -> Linear:
        """Hidden to queries, keys and values."""
        width = (self.core.heads + 2 * self.core.kv_heads) * self.gqa.head_dim
        return Linear.of(self.plan, "qkv", width, self.hidden)

    @property
    def keys(self) -> Linear:
        """Hidden to keys alone, the second product of a layer."""
        return Linear.of(self.plan, "keys", self.core.kv_heads * self.gqa.head_dim, self.hidden)

    @property
    def o_proj(self) -> Linear:
        """Heads' outputs to hidden."""
        width = self.core.heads * self.gqa.head_dim
        return Linear.of(self.plan, "o_proj", self.hidden, width)

    def forward(self) -> tuple[Kernel, ...]:
        """From the normed input to the attention output."""
        return (
            *self.qkv.forward(self.plan.shape.tokens, cast_input=self.plan.quant is None),
            *self._head_norms(),
            *self._rope("rope"),
            *self.core.forward(self.plan),
            *o_proj_forward(self.plan, self.o_proj),
        )

    def input_gradient(self) -> tuple[Kernel, ...]:
        """From the gradient of the attention output to that of the normed input."""
        plan, tokens = self.plan, self.plan.shape.tokens
        shard = plan.shape.shard_tokens
        again: list[Kernel] = []
        if plan.again(NORM):
            eager = plan.style.eager
            input_norm = norm("input_norm_fwd", shard, self.hidden, eager=eager)
            again += recomputed([*self._head_norms(), input_norm])
        if plan.again(PRODUCTS):
            again += recomputed(
                [
                    *self.keys.forward(tokens),
                    *self._rope("rope_fwd"),
                    *self.o_proj.forward(tokens),
                ]
            )
        read = BF16 if plan.again(NORM) else FP8_TILED
        return (
            *o_proj_dgrad(plan, self.o_proj),
            *again,
            *self.core.backward(plan),
            *self._rope("rope_bwd"),
            *self._head_norms_bwd(),
            *self.qkv.dgrad(tokens),
            *self.qkv.wgrad_input(tokens, read=read),
            *self.qkv.wgrad_grad(tokens),
        )

    def weight_gradient(self) -> tuple[Kernel, ...]:
        """Weight gradients of both projections."""
        tokens = self.plan.shape.tokens
        return (*self.o_proj.wgrad(tokens), *self.qkv.wgrad(tokens))

    @property
    def _rotated_heads(self) -> float:
        return self.core.heads + self.core.kv_heads

    def _rope(self, name: str) -> list[Kernel]:
        if not self.rotary:
            return []
        values = self.plan.shape.tokens * self._rotated_heads * self.gqa.head_dim
        if not self.plan.style.eager:
            return [memory(name, "rope", values * 2 * BF16)]
        # Keys and values are also copied out to as many heads as queries have, or summed up again.
        copied = self.plan.shape.tokens * 2 * (self.core.heads + self.core.kv_heads)
        return [
            pointwise(name, values, EAGER_ROPE),
            memory(f"{name}_heads", "copy", copied * self.gqa.head_dim * BF16, launches=2),
        ]

    def _head_norms(self) -> list[Kernel]:
        """Norm of each query and key head, where the model has it."""
        if not self.gqa.qk_norm:
            return []
        rows = self.plan.shape.tokens * self._rotated_heads
        return [norm("qk_norm_fwd", rows, self.gqa.head_dim)]

    def _head_norms_bwd(self) -> list[Kernel]:
        if not self.gqa.qk_norm:
            return []
        rows = self.plan.shape.tokens * self._rotated_heads
        return [norm_bwd("qk_norm_bwd", rows, self.gqa.head_dim)]
