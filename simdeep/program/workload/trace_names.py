"""Which kernel class each kernel of the H800 training trace belongs to.

The trace is `h800_train_trace.csv`, from github.com/deepseek-ai/profile-data. GEMM and attention
rows carry their role in the `op` column; all others are told apart by kernel name.
"""

from __future__ import annotations

from typing import Final

BY_NAME: Final[dict[str, str]] = {
    "rmsnorm_fwd": "norm",
    "rmsnorm_bwd": "norm_bwd",
    "per_token_cast": "cast",
    "cast_back_impl": "cast",
    "per_channel_cast_and_transpose": "cast_transpose",
    "swiglu_and_per_channel_cast_and_transpose": "cast_transpose",
    "batched_transpose": "transpose",
    "gg_transpose_scales": "scales",
    "gg_fill_tensormaps": "scales",
    "_copy_tensor_kernel": "copy",
    "at_elementwise_kernel_direct_copy": "copy",
    "at_unrolled_elementwise_kernel_direct_copy": "gate",
    "gpu_mem": "gate",
    "rotary_kernel": "rope",
    "swiglu_forward_with_weight_and_per_token_cast": "swiglu",
    "swiglu_backward": "swiglu_bwd",
    "swiglu_forward_backward_with_weight": "swiglu_bwd",
    "swiglu_weight_backward_with_weight": "swiglu_bwd",
    "expand_to_fused_with_scales": "permute",
    "reduce_fused": "unpermute",
    "clean_and_count_expert": "mapping",
    "get_fused_mapping": "mapping",
    "at_gatherTopK": "gate",
    "at_normal_distribution": "gate",
    "at_arange": "gate",
    "at__scatter_gather": "gate",
    "topk_sum_and_topk_idx": "gate",
    "unique_group_indices": "gate",
    "aux_fi": "gate",
    "at_reduce_kernel": "elementwise",
    "at_elementwise_kernel": "elementwise",
    "at_vectorized_elementwise_kernel": "elementwise",
    "at_unrolled_elementwise_kernel": "elementwise",
    "flash_attn_bwd_pre": "attn_bwd_prepost",
    "flash_attn_bwd_post": "attn_bwd_prepost",
}
"""Kernel name prefix -> memory variant; the longest prefix that fits counts."""

_SUFFIX: Final = {
    "fwd": "fwd",
    "recompute": "fwd",
    "dgrad": "dgrad",
    "wgrad": "wgrad",
    "bwd": "bwd",
}


TINY_US: Final = 15
"""Elementwise kernels shorter than this are the gate's: the large ones take 29 us and more."""


def classify(kernel: str, op: str = "", dur_us: float = TINY_US) -> tuple[str, str] | None:
    """(cost class, variant) of a trace row, as in `Kernel`; None for a name it does not know.

    `op` is the row's column of that name. The gate's small elementwise kernels have the names of
    large ones: `dur_us` tells them apart.
    """
    if op:
        role = _SUFFIX[op.removesuffix("_expert").rsplit("_", 1)[1]]
        if op.startswith("attn_core"):
            return "attention", role
        return ("grouped_gemm" if op.startswith("routed_") else "gemm"), role
    fitting = [prefix for prefix in BY_NAME if kernel.startswith(prefix)]
    if not fitting:
        return None
    variant = BY_NAME[max(fitting, key=len)]
    if variant == "elementwise" and dur_us < TINY_US:
        variant = "gate"
    return "memory", variant
