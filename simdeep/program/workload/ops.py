"""Building blocks: kernels from sizes, with their FLOPs and HBM bytes.

All sizes are those of one rank. FP8 linear layers follow DeepSeek-V3's recipe (arXiv 2412.19437
sec 3.3): activations in 1x128 tiles with an FP32 scale each, weights in 128x128 blocks, the
operands of the weight gradient in 128x1 tiles, gradients accumulated in FP32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from simdeep.program.workload.kernel import F, Kernel
from simdeep.program.workload.shape import Plan, Quant

BF16: Final = 2.0
FP32: Final = 4.0
FP8: Final = 1.0
TILE: Final = 128
FP8_TILED: Final = FP8 + FP32 / TILE
"""Bytes of an FP8 value with its share of the tile's scale."""
E5M6_TILED: Final = 1.5 + FP32 / TILE
"""Bytes of a 12-bit value, the format kept for the attention output, scale included."""


def linear_bytes(fp8: bool) -> float:
    """Bytes of one value of a linear layer's operand."""
    return FP8_TILED if fp8 else BF16


def memory(name: str, variant: str, nbytes: F, *, dtype: str = "bf16", launches: int = 1) -> Kernel:
    """A memory-bound kernel that moves `nbytes`."""
    return Kernel(name, "memory", dtype, variant, bytes=nbytes, launches=launches)


EAGER_NORM: Final = ((36.0, 6), (88.0, 16))
"""Bytes a value and operators of an RMSNorm written as y = type_as(x.float() * rsqrt(mean(x * x)))
* weight, forward and backward: each operator reads and writes whole tensors, FP32 inside."""
EAGER_ROPE: Final = (20.0, 4)
"""The same of a rotary embedding as a complex product in FP32, either way."""
EAGER_SWIGLU: Final = ((10.0, 2), (18.0, 3))
"""The same of silu(a) * b, by output value."""


def norm(
    name: str, tokens: F, width: float, *, residual: bool = False, eager: bool = False
) -> Kernel:
    """RMSNorm; with `residual` it also adds and writes the residual stream."""
    if eager:
        return pointwise(name, tokens * width, EAGER_NORM[0])
    return memory(name, "norm", tokens * width * BF16 * (4 if residual else 2))


def norm_bwd(
    name: str, tokens: F, width: float, *, residual: bool = False, eager: bool = False
) -> Kernel:
    """RMSNorm backward: main pass, reduction of the weight gradient, its accumulation."""
    if eager:
        return pointwise(name, tokens * width, EAGER_NORM[1])
    passes = 4 if residual else 3
    return memory(name, "norm_bwd", tokens * width * BF16 * passes, launches=3)


def pointwise(name: str, values: F, each: tuple[float, int]) -> Kernel:
    """A row of elementwise operators: (bytes a value of all together, number of them)."""
    return memory(name, "elementwise", values * each[0], launches=each[1])


def cast(name: str, values: F, read: float = BF16, write: float = FP8_TILED) -> Kernel:
    """Format change of `values` values, from and to bytes a value."""
    return memory(name, "cast", values * (read + write), dtype="fp8")


def cast_transpose(name: str, values: F, read: float = BF16) -> Kernel:
    """To transposed 128x1 FP8 tiles, the layout the weight gradient wants."""
    return memory(name, "cast_transpose", values * (read + FP8_TILED), dtype="fp8")


def weight_transpose(name: str, values: F) -> Kernel:
    """Transposed copy of an FP8 weight: FP8 tensor cores want both operands K-major."""
    return memory(name, "transpose", values * 2 * FP8, dtype="fp8")


def scales(name: str, m: F, k: float) -> Kernel:
    """Tile scales of an m x k operand re-laid for the GEMM."""
    return memory(name, "scales", m * k / TILE * 2 * FP32, dtype="fp32")


@dataclass(frozen=True, slots=True)
class Linear:
    """Y = X W^T with `groups` weights of n x k on this rank; makes the kernels around it.

    In the methods `m` is the rows of X (of all groups together). Names follow the layer: `q_up`
    gives q_up_fwd, q_up_dgrad, q_up_wgrad.
    """

    name: str
    n: float
    k: float
    fp8: bool
    groups: int = 1
    dtype: str = "bf16"
    quant: Quant | None = None
    accumulate: bool = True

    @classmethod
    def of(cls, plan: Plan, name: str, n: float, k: float, groups: int = 1) -> Linear:
        """A linear layer in the plan's precision."""
        accumulate = plan.style.wgrad_accumulate
        return cls(name, n, k, plan.fp8, groups, plan.dtype, plan.quant, accumulate)

    @property
    def weights(self) -> float:
        """Number of weights."""
        return self.groups * self.n * self.k

    def forward(self, m: F, *, cast_input: bool = True) -> list[Kernel]:
        """Cast of X, its scales, and the GEMM."""
        # What a norm or an activation hands over it has quantised on its way out.
        around = self.quantised("x", m * self.k) if cast_input else []
        if self.fp8:
            if cast_input:
                around.append(cast(f"{self.name}_cast", m * self.k))
            around.append(scales(f"{self.name}_scales", m, self.k))
        return [*around, self.gemm("fwd", m)]

    def dgrad(self, m: F, *, cast_grad: bool = True, transpose_weight: bool = True) -> list[Kernel]:
        """Transposed weight, cast of dY, its scales, and the GEMM for dX."""
        around = self.quantised("dy", m * self.n)
        if self.fp8:
            if transpose_weight:
                around.append(self.transpose())
            if cast_grad:
                around.append(cast(f"{self.name}_grad_cast", m * self.n))
            around.append(scales(f"{self.name}_grad_scales", m, self.n))
        return [*around, self.gemm("dgrad", m)]

    def transpose(self) -> Kernel:
        """The FP8 weight turned for the input gradient."""
        return weight_transpose(f"{self.name}_transpose", self.weights)

    def wgrad_input(self, m: F, *, read: float = BF16) -> list[Kernel]:
        """X for the weight gradient, from `read` bytes a value; nothing in BF16."""
        return [cast_transpose(f"{self.name}_x_turn", m * self.k, read)] if self.fp8 else []

    def wgrad_grad(self, m: F, *, read: float = BF16) -> list[Kernel]:
        """Gradient dY for the weight gradient, from `read` bytes a value; nothing in BF16."""
        return [cast_transpose(f"{self.name}_dy_turn", m * self.n, read)] if self.fp8 else []

    def wgrad(self, m: F) -> list[Kernel]:
        """The GEMM that adds dY^T X to the FP32 gradient, or that and a kernel that adds it."""
        if self.accumulate:
            return [self.gemm("wgrad", m)]
        added = memory(f"{self.name}_grad_add", "elementwise", self.weights * (BF16 + 2 * FP32))
        return [self.gemm("wgrad", m), added]

    def quantised(self, operand: str, values: F) -> list[Kernel]:
        """An operand in Transformer Engine's narrow format, along rows and columns at once."""
        if self.quant is None:
            return []
        moved = values * (self.quant.reads * BF16 + self.quant.written)
        return [memory(f"{self.name}_{operand}_quantise", "cast", moved, dtype=self.quant.dtype)]

    def gemm(self, variant: str, m: F, *, output: float = BF16) -> Kernel:
        """One of the three products; `output` bytes a value (wgrad: FP32 read and written)."""
        narrow = None if self.quant is None else self.quant.kept
        operand = narrow or (FP8 if self.fp8 else BF16)
        tiled = narrow or linear_bytes(self.fp8)
        grads = 2 * FP32 if self.accumulate else BF16
        sizes: tuple[F, F, F]
        if variant == "wgrad":
            sizes = (self.n, self.k, m / self.groups)
            moved = m * (self.n + self.k) * tiled + self.weights * grads
        else:
            inner, outer = (self.k, self.n) if variant == "fwd" else (self.n, self.k)
            sizes = (m, outer, inner)
            moved = m * inner * tiled + self.weights * operand + m * outer * output
        return Kernel(
            name=f"{self.name}_{variant}",
            op="grouped_gemm" if self.groups > 1 else "gemm",
            dtype="fp8" if self.fp8 else self.dtype if self.quant is None else self.quant.dtype,
            variant=variant,
            m=sizes[0],
            n=sizes[1],
            k=sizes[2],
            groups=self.groups,
            flops=2.0 * m * self.n * self.k,
            bytes=moved,
        )


def recomputed(kernels: Iterable[Kernel]) -> list[Kernel]:
    """The same forward kernels run again in the backward pass: x_fwd becomes x_recompute."""
    return [
        replace(k, name=f"{k.name.removesuffix('_fwd')}_recompute", recomputed=k.flops)
        for k in kernels
    ]
