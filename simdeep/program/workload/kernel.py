"""The kernel record: one piece of GPU work, without hardware and without time.

Cost code turns a record into seconds from `op`, `dtype`, `variant` and the sizes alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

F = float | npt.NDArray[np.float64]
"""A size: one number, or one number for each routing draw."""

OPS: Final = ("gemm", "grouped_gemm", "attention", "memory")
"""Cost classes of a kernel."""

GEMM_VARIANTS: Final = ("fwd", "dgrad", "wgrad")
"""Which product of a linear layer: Y = X W^T, dX = dY W, dW += dY^T X."""

ATTENTION_VARIANTS: Final = ("fwd", "bwd")
"""Fused (flash) attention core, causal."""

MEMORY_VARIANTS: Final[dict[str, str]] = {
    "norm": "RMSNorm forward, residual add fused where the layer has one",
    "norm_bwd": "RMSNorm backward with the residual gradient added, and its weight gradient",
    "cast": "BF16 to FP8 in 1x128 tiles, or back (also the 12-bit E5M6 format)",
    "cast_transpose": "to FP8 in 128x1 tiles with transposition, for weight gradients",
    "transpose": "FP8 weight transposed tile by tile, for input gradients",
    "scales": "tile scales re-laid for the GEMM: a few hundred kB, bound by its launch",
    "copy": "strided copy or broadcast (heads split, joined or widened)",
    "rope": "rotary embedding in place",
    "swiglu": "gated activation forward, with the cast to FP8 fused where there is one",
    "swiglu_bwd": "gated activation backward (with recomputation of its output fused)",
    "permute": "received tokens copied to one row for each local expert that wants them",
    "unpermute": "expert rows summed back to one row a token",
    "mapping": "token-to-row map of the local experts: tiny bytes, bound by atomics",
    "softmax": "scale, causal mask and softmax over written scores, or their backward",
    "dropout": "random mask drawn and applied, or undone; with the residual where there is one",
    "elementwise": "streaming pass: add, scale, sum over heads, activation of an ungated FFN",
    "gate": "top-k, group limit, load statistics: many tiny kernels, see `launches`",
    "attn_bwd_prepost": "around the attention backward: row sums of O dO, FP32 dQ to BF16",
    "loss": "cross-entropy passes over the logits",
    "embed": "embedding gather and scatter-add",
    "adam": "optimizer step over FP32 master weights",
}
"""Memory-bound kernel classes: each has one achieved bandwidth in a calibration."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel, or `launches` equal-purpose tiny ones.

    GEMM sizes: `m` x `n` output, `k` contracted. A grouped GEMM has `groups` weights: forward and
    dgrad give `m` as the rows of all groups together, wgrad gives `k` as the rows of one group
    (mean). `flops` and `bytes` always cover all groups and all launches. `bytes` are those an
    ideal cache lets through to HBM: every operand read once, every result written once.
    `recomputed` is the part of `flops` that repeats forward work (a recompute policy, or flash
    attention rebuilding its scores): `flops - recomputed` is the model's own arithmetic.
    """

    name: str
    op: str
    dtype: str
    variant: str
    m: F = 0.0
    n: F = 0.0
    k: F = 0.0
    groups: int = 1
    flops: F = 0.0
    bytes: F = 0.0
    launches: int = 1
    recomputed: F = 0.0


class KeptBytes(NamedTuple):
    """Bytes kept from forward until the input gradient, and from there until the weight's."""

    until_i: F
    until_w: F


def total_flops(kernels: Iterable[Kernel]) -> F:
    """FLOPs the hardware does, recomputation included."""
    total: F = 0.0
    for kernel in kernels:
        total = total + kernel.flops
    return total


def model_flops(kernels: Iterable[Kernel]) -> F:
    """FLOPs of the model's own arithmetic: what MFU counts."""
    total: F = 0.0
    for kernel in kernels:
        total = total + (kernel.flops - kernel.recomputed)
    return total
