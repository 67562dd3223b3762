"""Kernels of serving: GEMMs with few rows, grouped GEMMs of experts, attention over a KV cache."""

from simdeep.serving.kernels.attention import decode_attention, gqa_decode, prefill_attention
from simdeep.serving.kernels.curves import (
    GemmLayout,
    ServingKernels,
    kernels_for,
    load_serving_kernels,
)
from simdeep.serving.kernels.gemm import GemmShape, GemmTime, gemm_seconds, sustained_seconds

__all__ = [
    "GemmLayout",
    "GemmShape",
    "GemmTime",
    "ServingKernels",
    "decode_attention",
    "gemm_seconds",
    "gqa_decode",
    "kernels_for",
    "load_serving_kernels",
    "prefill_attention",
    "sustained_seconds",
]
