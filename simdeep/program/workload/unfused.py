"""The attention core without fusion: scores written to memory and read again at every step.

Megatron-LM before flash attention (arXiv 2205.05198 sec 4.1): a batched product, one kernel for
scale, causal mask and softmax, dropout, and a second product. Masked scores are computed too, so
the products have the FLOPs of full attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simdeep.program.workload.kernel import Kernel
from simdeep.program.workload.ops import BF16, memory

if TYPE_CHECKING:
    from simdeep.program.workload.attention import Core
    from simdeep.program.workload.shape import Plan

MASK = 1.0
"""Bytes of a dropout mask's value."""


def unfused_forward(core: Core, plan: Plan) -> list[Kernel]:
    """Scores, softmax, dropout, values, and the heads laid side by side."""
    scores = _scores(core, plan)
    kernels = [
        _product(core, plan, "attn_scores_fwd", core.qk_dim, wide=False),
        memory("attn_softmax_fwd", "softmax", scores * 2 * BF16),
    ]
    if plan.style.dropout:
        kernels.append(memory("attn_dropout_fwd", "dropout", scores * (2 * BF16 + MASK)))
    outputs = plan.shape.tokens * core.heads * core.v_dim
    return [
        *kernels,
        _product(core, plan, "attn_values_fwd", core.v_dim, wide=True),
        memory("attn_heads_join", "copy", outputs * 2 * BF16),
    ]


def unfused_backward(core: Core, plan: Plan) -> list[Kernel]:
    """Gradients of values, scores, queries and keys: two products for each of the forward's."""
    scores = _scores(core, plan)
    kernels = [
        _product(core, plan, "attn_dprobs", core.v_dim, wide=False),
        _product(core, plan, "attn_dvalues", core.v_dim, wide=True),
    ]
    if plan.style.dropout:
        kernels.append(memory("attn_dropout_bwd", "dropout", scores * (2 * BF16 + MASK)))
    return [
        *kernels,
        memory("attn_softmax_bwd", "softmax", scores * 3 * BF16),
        _product(core, plan, "attn_dqueries", core.qk_dim, wide=True),
        _product(core, plan, "attn_dkeys", core.qk_dim, wide=True),
    ]


def _scores(core: Core, plan: Plan) -> float:
    """Entries of all score matrices of this rank."""
    return plan.shape.tokens * core.heads * plan.shape.seq_len


def _product(core: Core, plan: Plan, name: str, dim: float, *, wide: bool) -> Kernel:
    """One batched product: queries by keys contracts `dim`, the `wide` one the sequence."""
    shape = plan.shape
    rows, span = shape.tokens * core.heads, shape.seq_len
    n, k = (dim, span) if wide else (span, dim)
    moved = _scores(core, plan) * BF16 + rows * dim * 2 * BF16
    flops = 2.0 * rows * span * dim
    return Kernel(name, "gemm", plan.dtype, "fwd", m=rows, n=n, k=k, flops=flops, bytes=moved)
