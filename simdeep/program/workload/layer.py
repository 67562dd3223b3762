"""The kernels of one decoder layer, by component and action.

Small work stands where the H800 trace has it: the post-attention norm, router and cast of the
tokens end attn(F); the router's backward begins attn(I); the post-attention norm is repeated in
mlp(I), which needs it first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from simdeep.program.workload.ffn import FfnOps
from simdeep.program.workload.gqa import GqaOps
from simdeep.program.workload.kernel import Kernel
from simdeep.program.workload.mla import MlaOps
from simdeep.program.workload.moe import MoeOps, RouterOps
from simdeep.program.workload.ops import BF16, cast, memory, norm, norm_bwd, recomputed
from simdeep.program.workload.shape import DEFAULT_STYLE, FULL, NORM, Plan, Shape, Style
from simdeep.program.workload.unfused import MASK
from simdeep.spec.model import Gqa, Layer, Mla, Model, MoeFfn

KernelTable = dict[tuple[str, str], tuple[Kernel, ...]]
"""(component, action) -> kernels in launch order; actions F, I (with recomputation), W."""

ATTN: Final = "attn"
MLP: Final = "mlp"


def layer_kernels(
    model: Model,
    layer: Layer,
    shape: Shape,
    precision: str,
    recompute: str | Sequence[str],
    style: Style = DEFAULT_STYLE,
) -> KernelTable:
    """Kernels of `layer` on one rank for one micro-batch.

    Args:
        model: gives the attention and the hidden size.
        layer: gives the feed-forward part.
        shape: tokens, splits and received expert rows.
        precision: "fp8" (linear layers; router, norms, attention core stay BF16) or "bf16".
        recompute: a policy of `POLICIES`, a list of them, or "none".
        style: which kernels the framework has where there is a choice.
    """
    plan = Plan.of(shape, precision, recompute, style)
    if not plan.again(FULL):
        return _kernels(model, layer, plan)
    table = _kernels(model, layer, replace(plan, recompute=frozenset()))
    for component in (ATTN, MLP):
        again = recomputed(table[component, "F"])
        table[component, "I"] = (*again, *table[component, "I"])
    return table


def _kernels(model: Model, layer: Layer, plan: Plan) -> KernelTable:
    hidden = model.hidden
    shard = plan.shape.shard_tokens
    attention = attention_ops(model, plan)
    ffn = ffn_ops(model, layer, plan)
    router = RouterOps(plan, layer.ffn, hidden) if isinstance(layer.ffn, MoeFfn) else None
    to_fp8 = (cast("tokens_cast", shard * hidden),) if plan.fp8 else ()
    residual, eager = plan.style.norm_residual, plan.style.eager
    add = _branch_end(plan, hidden)
    post_norm = norm("post_norm_fwd", shard, hidden, residual=residual, eager=eager)
    again: tuple[Kernel, ...] = ()
    if plan.again(NORM):
        again = tuple(recomputed([post_norm, *to_fp8]))
    return {
        (ATTN, "F"): (
            norm("input_norm_fwd", shard, hidden, residual=residual, eager=eager),
            *attention.forward(),
            *add("attn_add_fwd", 3),
            post_norm,
            *(router.forward() if router else ()),
            *to_fp8,
        ),
        (MLP, "F"): (*ffn.forward(), *add("mlp_add_fwd", 3)),
        (MLP, "I"): (*add("mlp_add_bwd", 2), *again, *ffn.input_gradient()),
        (ATTN, "I"): (
            *(router.backward() if router else ()),
            norm_bwd("post_norm_bwd", shard, hidden, residual=True, eager=eager),
            *add("attn_add_bwd", 2),
            *attention.input_gradient(),
            norm_bwd("input_norm_bwd", shard, hidden, residual=True, eager=eager),
        ),
        (MLP, "W"): ffn.weight_gradient(),
        (ATTN, "W"): attention.weight_gradient(),
    }


def _branch_end(plan: Plan, hidden: int) -> Callable[[str, int], list[Kernel]]:
    """Makes the kernel that ends a branch, where the norm has not taken it over: residual added,
    and dropout with its mask. Its backward only has the dropout to undo."""
    style, values = plan.style, plan.shape.shard_tokens * hidden

    def kernel(name: str, passes: int) -> list[Kernel]:
        if style.norm_residual and not style.dropout:
            return []
        if name.endswith("_bwd") and not style.dropout:
            return []
        variant = "dropout" if style.dropout else "elementwise"
        return [memory(name, variant, values * (passes * BF16 + MASK * style.dropout))]

    return kernel


def attention_ops(model: Model, plan: Plan) -> MlaOps | GqaOps:
    """The attention of a model's layers."""
    match model.attention:
        case Mla() as mla:
            return MlaOps(plan, mla, model.hidden)
        case Gqa() as gqa:
            return GqaOps(plan, gqa, model.hidden, rotary=model.positions == 0)


def ffn_ops(model: Model, layer: Layer, plan: Plan) -> MoeOps | FfnOps:
    """The feed-forward part of a layer."""
    ffn = layer.ffn
    if isinstance(ffn, MoeFfn):
        return MoeOps(plan, ffn, model.hidden)
    return FfnOps(plan, "ffn", model.hidden, ffn.width, ffn.gated, grad_fp8=False)
