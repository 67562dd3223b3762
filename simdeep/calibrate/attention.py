"""Attention cores, forward and backward, as calls: torch's fused kernels, causal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simdeep.calibrate.timing import Call

BF16, FP32 = 2.0, 4.0


@dataclass(frozen=True, slots=True)
class CoreSize:
    """`batch` sequences of `seq` tokens; `heads` of queries, `kv_heads`, sizes of a head."""

    batch: int
    seq: int
    heads: int
    kv_heads: int
    qk_dim: int
    v_dim: int

    def flops(self, variant: str) -> float:
        """FLOPs of the causal half, as the kernel record counts them."""
        pairs = self.batch * self.seq * self.seq * self.heads
        if variant == "fwd":
            return float(pairs * (self.qk_dim + self.v_dim))
        return float(pairs * (3 * self.qk_dim + 2 * self.v_dim))

    def bytes(self, variant: str) -> float:
        """Bytes of operands and results, each once."""
        tokens = self.batch * self.seq
        width = (self.qk_dim + self.v_dim) * BF16
        forward = tokens * (self.heads * (width + FP32) + self.kv_heads * width)
        return forward if variant == "fwd" else 2 * forward


def backends() -> dict[str, Any]:
    """torch's fused attention backends by name, the faster on this device first."""
    from torch.nn.attention import SDPBackend

    return {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def attention_calls(
    size: CoreSize, dtype: Any, device: str, seed: int, backend: str | None
) -> dict[str, Call]:
    """Forward and backward of one core on operands of their own; on a CPU torch picks the kernel.

    Raises RuntimeError where the backend does not take the sizes.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    generator = torch.Generator(device).manual_seed(seed)

    def values(heads: int, width: int) -> torch.Tensor:
        # Token by token in memory, as projections leave them.
        shape = (size.batch, size.seq, heads, width)
        made = torch.randn(*shape, dtype=dtype, device=device, generator=generator)
        return made.transpose(1, 2)

    q, k = values(size.heads, size.qk_dim), values(size.kv_heads, size.qk_dim)
    v = values(size.kv_heads, size.v_dim)
    grad = values(size.heads, size.v_dim)
    options: dict[str, Any] = {"is_causal": True, "enable_gqa": size.kv_heads != size.heads}

    def forward(*operands: torch.Tensor) -> Any:
        if backend is None:
            return scaled_dot_product_attention(*operands, **options)
        from torch.nn.attention import sdpa_kernel

        with sdpa_kernel(backends()[backend]):
            return scaled_dot_product_attention(*operands, **options)

    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    out = forward(*leaves)

    def backward() -> object:
        return torch.autograd.grad(out, leaves, grad, retain_graph=True)

    return {"fwd": lambda: forward(q, k, v), "bwd": backward}
