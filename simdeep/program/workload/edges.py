"""Kernels at the edges of the model: embedding, head with loss, input of an MTP module.

Embedding and head stay BF16 in every precision (arXiv 2412.19437 sec 3.3.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from simdeep.program.workload.kernel import KeptBytes, Kernel
from simdeep.program.workload.layer import KernelTable
from simdeep.program.workload.moe import INDEX_BYTES
from simdeep.program.workload.ops import (
    BF16,
    FP8_TILED,
    FP32,
    Linear,
    linear_bytes,
    memory,
    norm,
    norm_bwd,
    recomputed,
)
from simdeep.program.workload.shape import DEFAULT_STYLE, NORM, Plan, Shape, Style
from simdeep.spec.model import Model

EMBED: Final = "embed"
HEAD: Final = "head"
MTP_IN: Final = "mtp_in"

LOGIT_CHUNK: Final = 1024
"""Most tokens whose logits one head GEMM makes, so that FP32 work on them stays small."""

EAGER_LOSS: Final = (13, 8)
"""BF16-wide passes over the logits of a cross-entropy without fusion, forward and backward: cast to
FP32, maximum, difference, exponential and sum; product, scale, cast back (Megatron-LM
core/tensor_parallel/cross_entropy.py)."""


def edge_kernels(
    model: Model,
    component: str,
    shape: Shape,
    precision: str,
    recompute: str | Sequence[str],
    style: Style = DEFAULT_STYLE,
) -> KernelTable:
    """Kernels of the edge `component`: "embed", "head" or "mtp_in"."""
    plan = Plan.of(shape, precision, recompute, style)
    makers = {EMBED: _embed, HEAD: _head, MTP_IN: _mtp_in}
    return makers[component](model, plan)


def edge_activation_bytes(
    model: Model,
    component: str,
    shape: Shape,
    precision: str,
    recompute: str | Sequence[str],
    style: Style = DEFAULT_STYLE,
) -> dict[str, KeptBytes]:
    """Bytes kept by an edge, under its name; see `activations.activation_bytes`."""
    plan = Plan.of(shape, precision, recompute, style)
    makers = {EMBED: _embed_kept, HEAD: _head_kept, MTP_IN: _mtp_kept}
    return {component: makers[component](model, plan)}


def _gather(model: Model, plan: Plan) -> Kernel:
    tables = 2 if model.positions else 1
    moved = plan.shape.shard_tokens * model.hidden * BF16 * (1 + tables)
    return memory("embed_fwd", "embed", moved)


def _scatter(model: Model, plan: Plan) -> Kernel:
    """Gradient rows added to the FP32 gradient of the table."""
    tables = 2 if model.positions else 1
    moved = plan.shape.shard_tokens * model.hidden * (BF16 + tables * 2 * FP32)
    return memory("embed_wgrad", "embed", moved)


def _embed(model: Model, plan: Plan) -> KernelTable:
    return {
        (EMBED, "F"): (_gather(model, plan),),
        (EMBED, "I"): (),
        (EMBED, "W"): (_scatter(model, plan),),
    }


def _head(model: Model, plan: Plan) -> KernelTable:
    """Final norm, logits, cross-entropy; the logits' gradient overwrites them and waits for W."""
    tokens, shard = plan.shape.tokens, plan.shape.shard_tokens
    linear = Linear(
        "head",
        model.vocab / plan.shape.tp,
        model.hidden,
        fp8=False,
        dtype=plan.dtype,
        accumulate=plan.style.wgrad_accumulate,
    )
    chunks = math.ceil(tokens / LOGIT_CHUNK)
    m = tokens / chunks
    logits = m * linear.n * BF16
    final_norm = norm("final_norm_fwd", shard, model.hidden, residual=True)
    again = recomputed([final_norm]) if plan.again(NORM) else []
    passes = (1, 2) if plan.style.loss else EAGER_LOSS
    forward: list[Kernel] = []
    backward: list[Kernel] = []
    for _ in range(chunks):
        forward += [linear.gemm("fwd", m), memory("loss_fwd", "loss", logits * passes[0])]
        backward += [memory("loss_bwd", "loss", logits * passes[1]), linear.gemm("dgrad", m)]
    norm_back = norm_bwd("final_norm_bwd", shard, model.hidden, residual=True)
    return {
        (HEAD, "F"): (final_norm, *forward),
        (HEAD, "I"): (*again, *backward, norm_back),
        (HEAD, "W"): tuple(linear.wgrad(tokens)),
    }


def _mtp_in(model: Model, plan: Plan) -> KernelTable:
    """Next token's embedding and hidden state, both normed, projected from 2h to h.

    Tensor parallel ranks split the output columns (arXiv 2412.19437 eq. 21 gives the projection).
    """
    tokens, shard = plan.shape.tokens, plan.shape.shard_tokens
    hidden = model.hidden
    linear = Linear.of(plan, "mtp_proj", hidden / plan.shape.tp, 2.0 * hidden)
    norms = [
        norm("mtp_hidden_norm_fwd", shard, hidden),
        norm("mtp_embed_norm_fwd", shard, hidden),
    ]
    again = recomputed(norms) if plan.again(NORM) else []
    return {
        (MTP_IN, "F"): (_gather(model, plan), *norms, *linear.forward(tokens)),
        (MTP_IN, "I"): (
            *again,
            *linear.dgrad(tokens),
            *linear.wgrad_input(tokens, read=BF16 if again else FP8_TILED),
            *linear.wgrad_grad(tokens),
            norm_bwd("mtp_hidden_norm_bwd", shard, hidden),
            norm_bwd("mtp_embed_norm_bwd", shard, hidden),
        ),
        (MTP_IN, "W"): (*linear.wgrad(tokens), _scatter(model, plan)),
    }


def _embed_kept(model: Model, plan: Plan) -> KeptBytes:
    """Token ids, later the gradient rows too."""
    ids = plan.shape.tokens * INDEX_BYTES
    return KeptBytes(ids, ids + plan.shape.shard_tokens * model.hidden * BF16)


def _head_kept(model: Model, plan: Plan) -> KeptBytes:
    """Norm input and output, logits and their sums; later the output and the logits' gradient."""
    tokens, hidden = plan.shape.tokens, plan.shape.shard_tokens * model.hidden * BF16
    logits = tokens * model.vocab / plan.shape.tp * BF16
    if not plan.style.loss:
        # PyTorch's cross-entropy: a copy in FP32, its log-softmax, and the gradient in FP32. The
        # BF16 logits' block is too small for any of them and stays with the allocator.
        wide = tokens * model.vocab / plan.shape.tp * 3 * FP32
        return KeptBytes(2 * hidden + wide, hidden + logits)
    normed = 0.0 if plan.again(NORM) else hidden
    return KeptBytes(hidden + normed + logits + tokens * FP32, hidden + logits)


def _mtp_kept(model: Model, plan: Plan) -> KeptBytes:
    """Both norms' inputs and outputs; later the projection's operands and the embedding's rows."""
    shape, byte = plan.shape, linear_bytes(plan.fp8)
    both = 2 * shape.shard_tokens * model.hidden
    normed = 0.0 if plan.again(NORM) else both
    ids = shape.tokens * INDEX_BYTES
    grad = shape.tokens * model.hidden / shape.tp
    return KeptBytes(
        both * BF16 + normed * byte + ids, (both + grad) * byte + both / 2 * BF16 + ids
    )
