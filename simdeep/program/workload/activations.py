"""Activation bytes: what a layer keeps from forward until its backward needs it.

Two spans: from F until I (forward values), and from I until W (operands of the weight gradients).
A tensor that both need is listed in both; the memory of the first span ends with I.
Sources: arXiv 2205.05198 (BF16 tensors of a transformer layer), arXiv 2412.19437 sec 3.2.3 and
3.3.3 (what DeepSeek-V3 keeps, and in which format).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simdeep.program.workload.ffn import FfnOps
from simdeep.program.workload.gqa import GqaOps
from simdeep.program.workload.kernel import F, KeptBytes
from simdeep.program.workload.layer import ATTN, MLP, attention_ops, ffn_ops
from simdeep.program.workload.mla import MlaOps
from simdeep.program.workload.moe import INDEX_BYTES, MoeOps
from simdeep.program.workload.ops import BF16, E5M6_TILED, FP32, Linear, linear_bytes
from simdeep.program.workload.shape import (
    CORE,
    FULL,
    MLA_UP,
    NORM,
    PRODUCTS,
    SWIGLU,
    Plan,
    Shape,
    Style,
)
from simdeep.program.workload.unfused import MASK
from simdeep.spec.model import Layer, Model, MoeFfn


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept tensor: its bytes from F until I, and from I until W."""

    component: str
    tensor: str
    until_i: F = 0.0
    until_w: F = 0.0


def activation_bytes(
    model: Model,
    layer: Layer,
    shape: Shape,
    precision: str,
    recompute: str | Sequence[str],
    *,
    flash: bool = True,
    dropout: bool = False,
    eager: bool = False,
) -> dict[str, KeptBytes]:
    """Bytes a micro-batch keeps in `layer` on one rank, by component; arguments as for kernels.

    `flash` False keeps the attention matrix as unfused attention does (BF16 scores, and with
    `dropout` their mask and result); `dropout` keeps the masks of both residual branches; `eager`
    code keeps every second product, wanted or not, where a compiler leaves out the last. Under
    "full" recomputation the backward of the layer also needs, while it runs, what "none" keeps.
    """
    return summed(
        kept_tensors(
            model, layer, shape, precision, recompute, flash=flash, dropout=dropout, eager=eager
        )
    )


def kept_tensors(
    model: Model,
    layer: Layer,
    shape: Shape,
    precision: str,
    recompute: str | Sequence[str],
    *,
    flash: bool = True,
    dropout: bool = False,
    eager: bool = False,
) -> tuple[Kept, ...]:
    """What `activation_bytes` sums, tensor by tensor."""
    plan = Plan.of(shape, precision, recompute, Style(eager=eager))
    shard = shape.shard_tokens
    attention = attention_ops(model, plan)
    operands = [*_attention_operands(attention), *_ffn_operands(ffn_ops(model, layer, plan))]
    if plan.again(FULL):
        return (Kept(ATTN, "input", until_i=shard * model.hidden * BF16), *operands)
    tensors = [*_residuals(model, layer, plan, dropout=dropout), *_core(attention)]
    if not plan.again(CORE):
        rows = shape.tokens * attention.core.heads
        score = 2 * BF16 + MASK if dropout else BF16
        flat = Kept(ATTN, "softmax_sums", rows * FP32)
        tensors.append(flat if flash else Kept(ATTN, "scores", rows * shape.seq_len * score))
    ffn = ffn_ops(model, layer, plan)
    if isinstance(ffn, MoeOps):
        tensors += _moe(ffn)
    else:
        tensors += _ffn(ffn, "ffn")
    return (*tensors, *operands)


def summed(tensors: Iterable[Kept]) -> dict[str, KeptBytes]:
    """Sums by component, both always present."""
    sums = {ATTN: KeptBytes(0.0, 0.0), MLP: KeptBytes(0.0, 0.0)}
    for t in tensors:
        old = sums[t.component]
        sums[t.component] = KeptBytes(old.until_i + t.until_i, old.until_w + t.until_w)
    return sums


def _residuals(model: Model, layer: Layer, plan: Plan, *, dropout: bool) -> list[Kept]:
    """Inputs of both norms, their outputs where norms are not repeated, router, dropout masks."""
    hidden = plan.shape.shard_tokens * model.hidden
    tensors = [Kept(ATTN, "input", hidden * BF16)]
    if not plan.again(PRODUCTS):
        tensors.append(Kept(ATTN, "post_norm_input", hidden * BF16))
    ffn = layer.ffn
    if not plan.again(NORM):
        tensors.append(Kept(ATTN, "normed_input", hidden * linear_bytes(plan.fp8)))
        if not isinstance(ffn, MoeFfn) or ffn.shared_width:
            tensors.append(Kept(MLP, "normed_input", hidden * linear_bytes(plan.fp8)))
        if isinstance(ffn, MoeFfn) and (plan.fp8 or not ffn.shared_width):
            tensors.append(Kept(ATTN, "router_input", hidden * BF16))
    if isinstance(ffn, MoeFfn):
        choice = ffn.experts * FP32 + ffn.topk * (FP32 + INDEX_BYTES)
        tensors.append(Kept(ATTN, "router_scores", plan.shape.shard_tokens * choice))
    if dropout:
        tensors += [Kept(c, "dropout_mask", hidden * MASK) for c in (ATTN, MLP)]
    return tensors


def _core(attention: MlaOps | GqaOps) -> list[Kept]:
    """Latents, queries, keys and values, and the output of the attention core."""
    plan, core = attention.plan, attention.core
    tokens, shard = plan.shape.tokens, plan.shape.shard_tokens
    query = tokens * core.heads * core.qk_dim * BF16
    key = tokens * core.kv_heads * core.qk_dim * BF16
    value = tokens * core.kv_heads * core.v_dim * BF16
    output = tokens * core.heads * core.v_dim * (E5M6_TILED if plan.fp8 else BF16)
    tensors = [Kept(ATTN, "core_output", output)]
    if isinstance(attention, GqaOps):
        if attention.gqa.qk_norm and not plan.again(NORM):
            # The norms' inputs, beside the normed heads that the core reads.
            tensors.append(Kept(ATTN, "unnormed_heads", query + key))
        projected = query + value + (0.0 if plan.again(PRODUCTS) else key)
        return [*tensors, Kept(ATTN, "qkv", projected)]
    mla = attention.mla
    latent = (mla.q_lora_rank or 0) + mla.kv_lora_rank
    tensors.append(Kept(ATTN, "latents", shard * (latent + mla.rope_dim) * BF16))
    if not plan.again(NORM):
        tensors.append(Kept(ATTN, "normed_latents", shard * latent * linear_bytes(plan.fp8)))
    if not plan.again(MLA_UP):
        tensors.append(Kept(ATTN, "qkv", query + key + value))
    elif mla.q_lora_rank is None:
        tensors.append(Kept(ATTN, "queries", query))
    return tensors


def _ffn(ffn: FfnOps, name: str) -> list[Kept]:
    """Input of the activation, and its output where not recomputed."""
    tokens, byte = ffn.plan.shape.tokens, linear_bytes(ffn.plan.fp8)
    if ffn.plan.again(PRODUCTS) and ffn.gated:
        last = ffn.hidden if ffn.plan.style.eager else 0.0
        return [Kept(MLP, f"{name}_products", tokens * (ffn.inner + last) * BF16)]
    tensors = [Kept(MLP, f"{name}_act_input", tokens * ffn.fan * byte)]
    if not ffn.plan.again(SWIGLU):
        tensors.append(Kept(MLP, f"{name}_act_output", tokens * ffn.inner * byte))
    return tensors


def _moe(moe: MoeOps) -> list[Kept]:
    """Received rows, their activations and weights; the shared expert's."""
    plan, width = moe.plan, moe.moe.width
    rows, byte = plan.shape.rows, linear_bytes(plan.fp8)
    tensors = [
        Kept(MLP, "received_rows", rows * moe.hidden * byte),
        Kept(MLP, "routed_act_input", rows * 2 * width * byte),
        Kept(MLP, "row_weights_and_map", rows * (FP32 + INDEX_BYTES)),
    ]
    if not plan.again(SWIGLU):
        tensors.append(Kept(MLP, "routed_act_output", rows * width * byte))
    return [*tensors, *(_ffn(moe.shared, "shared") if moe.shared else ())]


def _attention_operands(attention: MlaOps | GqaOps) -> list[Kept]:
    """Operands of the projections' weight gradients; their memory goes with the W of attention."""
    plan = attention.plan
    tokens, shard = plan.shape.tokens, plan.shape.shard_tokens
    if isinstance(attention, GqaOps):
        # The input is kept as sequence parallelism splits it and gathered again for W.
        return [
            _operand(ATTN, plan, attention.o_proj, tokens, tokens),
            _operand(ATTN, plan, attention.qkv, shard, tokens),
        ]
    down = [attention.kv_down, *([attention.q_down] if attention.q_down else [])]
    q_input = tokens if attention.mla.q_lora_rank else shard
    return [
        _operand(ATTN, plan, attention.o_proj, tokens, tokens),
        _operand(ATTN, plan, attention.kv_up, tokens, tokens),
        _operand(ATTN, plan, attention.q_up, q_input, tokens),
        *(_operand(ATTN, plan, linear, shard, shard) for linear in down),
    ]


def _ffn_operands(ffn: MoeOps | FfnOps) -> list[Kept]:
    """Operands of the FFN's weight gradients."""
    tokens, shard = ffn.plan.shape.tokens, ffn.plan.shape.shard_tokens
    if isinstance(ffn, FfnOps):
        return [
            _operand(MLP, ffn.plan, ffn.down, tokens, shard),
            _operand(MLP, ffn.plan, ffn.up, shard, tokens),
        ]
    rows = ffn.plan.shape.rows
    routed = [_operand(MLP, ffn.plan, linear, rows, rows) for linear in (ffn.down, ffn.gateup)]
    return [*routed, *(_ffn_operands(ffn.shared) if ffn.shared else ())]


def _operand(component: str, plan: Plan, linear: Linear, x_rows: F, dy_rows: F) -> Kept:
    """X and dY of one linear layer."""
    values = x_rows * linear.k + dy_rows * linear.n
    return Kept(component, f"{linear.name}_operands", until_w=values * linear_bytes(plan.fp8))
