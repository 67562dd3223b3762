"""The optimizer step: AdamW over FP32 master weights, sharded over data parallel ranks."""

from __future__ import annotations

from typing import Final

from simdeep.errors import InputError, Problem
from simdeep.program.workload.kernel import Kernel
from simdeep.program.workload.ops import BF16, FP8, FP32, memory

MOMENT_BYTES: Final = {"bf16": BF16, "fp32": FP32}


def optimizer_kernels(
    owned: float, held: float, *, moments: str = "bf16", fp8_weights: float = 0.0
) -> tuple[Kernel, ...]:
    """Kernels after the gradients are reduced.

    Args:
        owned: parameters whose state this rank updates (its ZeRO shard).
        held: parameters whose gradients this rank holds and clears.
        moments: dtype of both Adam moments, "bf16" (DeepSeek-V3) or "fp32".
        fp8_weights: parameters this rank quantises anew once the updated BF16 ones are gathered.
    """
    if moments not in MOMENT_BYTES:
        raise InputError([Problem("", "moments", f"{moments!r} is not bf16 or fp32")])
    gradient, master = FP32, 2 * FP32
    state = 2 * 2 * MOMENT_BYTES[moments]
    kernels = [
        memory("grad_norm", "elementwise", owned * FP32, dtype="fp32"),
        memory("adam", "adam", owned * (gradient + master + state + BF16), dtype="fp32"),
    ]
    if fp8_weights:
        kernels.append(memory("weight_cast", "cast", fp8_weights * (BF16 + FP8), dtype="fp8"))
    kernels.append(memory("grad_clear", "elementwise", held * FP32, dtype="fp32"))
    return tuple(kernels)
