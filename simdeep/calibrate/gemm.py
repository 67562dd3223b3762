"""GEMMs and grouped GEMMs as calls on operands of their own, in each recipe torch has.

A linear layer Y = X W^T keeps X (rows x k) and W (n x k) row by row: the forward product reads both
along k, the input gradient W across, the weight gradient both across, into FP32. FP8 operands must
both be read along the contracted dimension, so all three products are one there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from simdeep.calibrate.timing import Call

FP8_RECIPES = ("tensor", "row", "block", "block_wgrad")
"""Scales of FP8 operands: one a tensor; one a row; 1x128 and 128x128 blocks (DeepSeek-V3's forward
and input gradient); 1x128 on both sides (its weight gradient)."""

OPERAND_BYTES = {"bf16": 2, "fp32": 4}
_BLOCK = 128


def gemm_bytes(dtype: str, variant: str, m: int, n: int, k: int) -> float:
    """Bytes of operands and result, each once: what an ideal cache moves."""
    width = OPERAND_BYTES.get(dtype, 1)
    output = 4 if variant == "wgrad" else max(2, width if dtype == "fp32" else 2)
    return float(m * k * width + n * k * width + m * n * output)


def gemm_call(dtype: str, variant: str, m: int, n: int, k: int, device: str, seed: int) -> Call:
    """One product of `m` x `n` over `k`; `dtype` is bf16, fp32, or fp8 with its recipe."""
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    if dtype.startswith("fp8"):
        return _fp8_call(dtype.partition("_")[2] or "row", m, n, k, device, generator, variant)
    kind = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]

    def values(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, dtype=kind, device=device, generator=generator)

    if variant == "fwd":
        a, b = values(m, k), values(n, k).t()
    elif variant == "dgrad":
        a, b = values(m, k), values(k, n)
    else:
        a, b = values(k, m).t(), values(k, n)
    if variant == "wgrad" and dtype == "bf16" and device == "cuda":
        into = torch.zeros(m, n, dtype=torch.float32, device=device)
        return lambda: torch.addmm(into, a, b, out_dtype=torch.float32, out=into)
    out = torch.empty(m, n, dtype=kind, device=device)
    return lambda: torch.mm(a, b, out=out)


def _fp8(rows: int, columns: int, device: str, generator: Any) -> torch.Tensor:
    import torch

    values = torch.randn(rows, columns, dtype=torch.bfloat16, device=device, generator=generator)
    return values.to(torch.float8_e4m3fn)


def _scale(shape: tuple[int, ...], device: str) -> torch.Tensor:
    import torch

    return torch.full(shape, 0.5, dtype=torch.float32, device=device)


def _across(shape: tuple[int, int], device: str) -> torch.Tensor:
    """Scales of 1x128 tiles as cuBLAS wants them: the rows' index runs fastest."""
    return _scale((shape[1], shape[0]), device).t()


def _fp8_call(
    recipe: str, m: int, n: int, k: int, device: str, generator: Any, variant: str
) -> Call:
    import torch

    a, b = _fp8(m, k, device, generator), _fp8(n, k, device, generator).t()
    kind = torch.float32 if variant == "wgrad" else torch.bfloat16
    if recipe in ("tensor", "row"):
        per_row = recipe == "row"
        left = _scale((m, 1) if per_row else (), device)
        right = _scale((1, n) if per_row else (), device)
        if per_row:
            kind = torch.bfloat16  # the only result that row scales have
        return lambda: torch._scaled_mm(
            a, b, left, right, out_dtype=kind, use_fast_accum=not per_row
        )
    from torch.nn.functional import ScalingType, scaled_mm

    wgrad = recipe == "block_wgrad"
    left = _across((m, k // _BLOCK), device)
    if wgrad:
        right, right_type = _across((n, k // _BLOCK), device), ScalingType.BlockWise1x128
    else:
        # cuBLAS wants the blocks along k next to each other, padded to four.
        right = _scale((n // _BLOCK, -(-k // _BLOCK // 4) * 4), device).t()
        right_type = ScalingType.BlockWise128x128
    return lambda: scaled_mm(
        a, b, left, ScalingType.BlockWise1x128, right, right_type, output_dtype=kind
    )


def grouped_call(
    dtype: str, variant: str, rows: list[int], n: int, k: int, device: str, seed: int
) -> Call:
    """A grouped product over `rows` of each group: fwd, dgrad (rows x n over k), wgrad (n x k)."""
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    total, groups = sum(rows), len(rows)
    ends = torch.tensor(rows, device=device).cumsum(0).to(torch.int32)

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.bfloat16, device=device, generator=generator)

    if dtype == "bf16":
        if variant == "wgrad":
            a, b = values(total, n).t(), values(total, k)
        else:
            a = values(total, k)
            b = values(groups, n, k).transpose(1, 2) if variant == "fwd" else values(groups, k, n)
        return lambda: torch._grouped_mm(a, b, offs=ends)
    return _grouped_fp8(variant, total, groups, n, k, device, ends, values)


def _grouped_fp8(
    variant: str,
    total: int,
    groups: int,
    n: int,
    k: int,
    device: str,
    ends: torch.Tensor,
    values: Callable[..., torch.Tensor],
) -> Call:
    import torch

    e4m3 = torch.float8_e4m3fn
    if variant == "wgrad":
        a = values(n, total).to(e4m3)
        b = values(k, total).to(e4m3).t()
        left, right = _scale((n * groups,), device), _scale((k * groups,), device)
    else:
        a = values(total, k).to(e4m3)
        b = values(groups, n, k).to(e4m3).transpose(1, 2)
        left, right = _scale((total,), device), _scale((groups, n), device)
    return lambda: torch._scaled_grouped_mm(
        a, b, left, right, offs=ends, out_dtype=torch.bfloat16, use_fast_accum=False
    )
