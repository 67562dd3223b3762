"""Attention over a KV cache: of decoding rows (latent or grouped), and of prompts."""

from __future__ import annotations

import math

import numpy as np

from simdeep.program.workload.kernel import F
from simdeep.serving.kernels.curves import DecodeCurve, PrefillCurve, ServingKernels


def decode_attention(
    sequences: float,
    context: float,
    query_rows: float,
    values: float,
    value_bytes: float,
    curve: DecodeCurve,
    sms: int,
) -> tuple[float, float, float]:
    """(tile-bound, memory-bound, fixed) seconds of latent attention with absorbed weights.

    Args:
        sequences: how many decode.
        context: tokens each attends to.
        query_rows: heads of this GPU times tokens a sequence verifies at once.
        values: of a token in a layer's cache (576 in DeepSeek-V3).
        value_bytes: of a value of the cache.
        curve: of the GPU.
        sms: SMs it may use.
    """
    if sequences <= 0:
        return 0.0, 0.0, 0.0
    tiles = math.ceil(query_rows / curve.head_tile)
    groups = max(1.0, sms / tiles)
    blocks = sequences * (math.ceil(context / curve.block_tokens) + curve.overhead_blocks)
    rounds = max(blocks / groups, math.ceil(curve.overhead_blocks) + 1.0)
    busy = rounds * curve.block_s * max(1.0, tiles / sms)
    moved = sequences * context * values * value_bytes / curve.bandwidth
    if busy >= moved:
        return busy, 0.0, curve.launch_s
    return 0.0, moved, curve.launch_s


def gqa_decode(
    sequences: float, context: float, values: float, value_bytes: float, kernels: ServingKernels
) -> tuple[float, float, float]:
    """The same of grouped-query attention: keys and values read once, split over all SMs.

    There are no measured rows: it reads at the rate of GEMMs that stream weights, and starts as the
    latent kernel does.
    """
    if sequences <= 0:
        return 0.0, 0.0, 0.0
    moved = sequences * context * values * value_bytes / kernels.stream_bw
    return 0.0, moved, kernels.decode.launch_s


def prefill_attention(
    tokens: F, attended: F, heads: float, qk_dim: float, v_dim: float, curve: PrefillCurve, sms: int
) -> tuple[F, F]:
    """(tile-bound, fixed) seconds of causal attention of `tokens` that attend to `attended` each.

    Tiles on the diagonal are computed whole: half a tile more for each token.
    """
    if np.max(tokens) <= 0:
        return 0.0, 0.0
    flops = 2.0 * tokens * (attended + curve.tile / 2) * heads * (qk_dim + v_dim)
    return flops / (curve.flops_per_sm * sms), curve.launch_s
