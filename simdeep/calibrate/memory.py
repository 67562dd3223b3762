"""Memory-bound kernels to time: each class of the kernel records at sizes of a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from simdeep.calibrate.timing import Call

BF16, FP8, FP32 = 2.0, 1.0, 4.0
ROPE, NOPE, HEAD_V = 64, 128, 128

New = Callable[..., Any]
"""`new(shape, dtype)` gives random values."""


@dataclass(frozen=True, slots=True)
class MemorySize:
    """`tokens` rows of `width` values."""

    tokens: int
    width: int


@dataclass(frozen=True)
class MemoryWork:
    """A class of kernels: `operands(size, new)` makes what `function` takes; bytes by size.

    `bytes` are the kernel record's.
    """

    name: str
    variant: str
    dtype: str
    function: Callable[..., Any]
    operands: Callable[[MemorySize, New], tuple[Any, ...]]
    bytes: Callable[[MemorySize], float]
    widths: Sequence[int]
    fuse: bool = True


HIDDEN = (2048, 4096, 7168)
WIDE = (2048, 4096, 8192)


@dataclass(frozen=True)
class _Operands:
    """Makes operands: `half` is the dtype of activations on `device`, `unit` its bytes."""

    device: str
    half: Any
    unit: float

    def rows(self, s: MemorySize, new: New, n: int = 1, width: int = 0) -> list[Tensor]:
        return [new((s.tokens, width or s.width), self.half) for _ in range(n)]

    def weight(self, s: MemorySize, new: New) -> Tensor:
        return new((s.width,), self.half)

    def angles(self, s: MemorySize, new: New) -> list[Tensor]:
        return [new((s.tokens, ROPE // 2), self.half) for _ in range(2)]

    def heads(self, s: MemorySize, new: New, each: int) -> Tensor:
        return new((s.tokens, s.width, each), self.half)

    def passes(self, count: float) -> Callable[[MemorySize], float]:
        return lambda s: s.tokens * s.width * self.unit * count


def works(device: str) -> list[MemoryWork]:
    """All classes that torch can run on the device."""
    import torch

    if device == "cuda":
        of = _Operands(device, torch.bfloat16, BF16)
    else:
        of = _Operands(device, torch.float32, FP32)
    kinds = (_norms, _attention, _feed_forward, _experts, _optimizer)
    found = [work for kind in kinds for work in kind(of)]
    return [*found, *_fp8_works(of.half)] if device == "cuda" else found


def _norms(of: _Operands) -> list[MemoryWork]:
    """Norms, with and without the residual addition, forward and backward."""
    from simdeep.calibrate import tensor_ops as ops

    return [
        MemoryWork(
            "norm",
            "norm",
            "bf16",
            ops.rms_norm,
            lambda s, new: (*of.rows(s, new), of.weight(s, new)),
            of.passes(2),
            (512, 1536, *HIDDEN),
        ),
        MemoryWork(
            "add_norm",
            "norm",
            "bf16",
            ops.add_rms_norm,
            lambda s, new: (*of.rows(s, new, 2), of.weight(s, new)),
            of.passes(4),
            HIDDEN,
        ),
        MemoryWork(
            "norm_bwd",
            "norm_bwd",
            "bf16",
            ops.rms_norm_back,
            lambda s, new: (*of.rows(s, new, 2), of.weight(s, new)),
            of.passes(3),
            (512, 1536, *HIDDEN),
        ),
        MemoryWork(
            "add_norm_bwd",
            "norm_bwd",
            "bf16",
            ops.add_rms_norm_back,
            lambda s, new: (*of.rows(s, new, 2), of.weight(s, new), *of.rows(s, new)),
            of.passes(4),
            HIDDEN,
        ),
    ]


def _attention(of: _Operands) -> list[MemoryWork]:
    """What attention does beside its GEMMs and its core."""
    from simdeep.calibrate import tensor_ops as ops

    return [
        MemoryWork(
            "copy",
            "copy",
            "bf16",
            ops.contiguous,
            lambda s, new: (of.heads(s, new, NOPE + HEAD_V)[..., :NOPE],),
            lambda s: s.tokens * s.width * NOPE * 2 * of.unit,
            (16, 64, 128),
        ),
        MemoryWork(
            "widen",
            "copy",
            "bf16",
            ops.widened,
            lambda s, new: (new((s.tokens, 1, ROPE), of.half), s.width),
            lambda s: s.tokens * s.width * ROPE * of.unit,
            (16, 64, 128),
        ),
        MemoryWork(
            "rope",
            "rope",
            "bf16",
            ops.rotate_in_place,
            lambda s, new: (of.heads(s, new, NOPE + ROPE)[..., NOPE:], *of.angles(s, new)),
            lambda s: s.tokens * s.width * ROPE * 2 * of.unit,
            (8, 32, 128),
        ),
        MemoryWork(
            "sum_heads",
            "sum_heads",
            "bf16",
            ops.sum_heads,
            lambda s, new: (of.heads(s, new, NOPE + ROPE)[..., NOPE:],),
            lambda s: s.tokens * s.width * ROPE * of.unit,
            (16, 64, 128),
        ),
    ]


def _feed_forward(of: _Operands) -> list[MemoryWork]:
    """Activations of an MLP, and elementwise passes."""
    from simdeep.calibrate import tensor_ops as ops

    return [
        MemoryWork(
            "swiglu",
            "swiglu",
            "bf16",
            ops.swiglu,
            lambda s, new: tuple(of.rows(s, new, 1, 2 * s.width)),
            of.passes(3),
            WIDE,
        ),
        MemoryWork(
            "swiglu_bwd",
            "swiglu_bwd",
            "bf16",
            ops.swiglu_back,
            lambda s, new: (*of.rows(s, new), *of.rows(s, new, 1, 2 * s.width)),
            of.passes(5),
            WIDE,
        ),
        MemoryWork(
            "row_dot",
            "row_dot",
            "bf16",
            ops.row_dot,
            lambda s, new: tuple(of.rows(s, new, 2)),
            of.passes(2),
            WIDE,
        ),
        MemoryWork(
            "add",
            "elementwise",
            "bf16",
            ops.added,
            lambda s, new: tuple(of.rows(s, new, 2)),
            of.passes(3),
            HIDDEN,
        ),
        MemoryWork(
            "scale",
            "elementwise",
            "bf16",
            ops.scaled,
            lambda s, new: (*of.rows(s, new), 0.5),
            of.passes(2),
            HIDDEN,
        ),
    ]


def _experts(of: _Operands) -> list[MemoryWork]:
    """Rows to experts and back, and the gate."""
    import torch

    from simdeep.calibrate import tensor_ops as ops

    return [
        MemoryWork(
            "expand",
            "permute",
            "bf16",
            ops.expand_rows,
            lambda s, new: (*of.rows(s, new), _picks(s.tokens, s.tokens * 9 // 8, of.device)),
            lambda s: (s.tokens + s.tokens * 9 // 8) * s.width * of.unit,
            HIDDEN,
        ),
        MemoryWork(
            "reduce",
            "unpermute",
            "bf16",
            ops.reduce_rows,
            lambda s, new: _reducible(s, new, of.half, of.device),
            lambda s: (s.tokens + s.tokens * 9 // 8) * s.width * of.unit,
            HIDDEN,
        ),
        MemoryWork(
            "row_map",
            "mapping",
            "fp32",
            ops.row_map,
            lambda s, new: (new((s.tokens, s.width), of.half) > 1.0, s.tokens * 9 // 8),
            lambda s: s.tokens * 8 * 3 * 8.0,
            (4,),
            fuse=False,
        ),
        MemoryWork(
            "gate",
            "gate",
            "fp32",
            ops.gate,
            lambda s, new: (
                new((s.tokens, s.width), torch.float32),
                new((s.width,), torch.float32),
                8,
                4,
                8,
            ),
            lambda s: s.tokens * s.width * FP32 * 16,
            (256,),
            fuse=False,
        ),
        MemoryWork(
            "gate_bwd",
            "gate",
            "fp32",
            ops.gate_back,
            lambda s, new: (
                new((s.tokens, 8), torch.float32),
                new((s.tokens, s.width), torch.float32),
                new((s.tokens, s.width), torch.float32).topk(8).indices,
            ),
            lambda s: s.tokens * s.width * FP32 * 30,
            (256,),
            fuse=False,
        ),
    ]


def _optimizer(of: _Operands) -> list[MemoryWork]:
    """The step of AdamW."""
    import torch

    from simdeep.calibrate import tensor_ops as ops

    return [
        MemoryWork(
            "adam",
            "adam",
            "fp32",
            ops.adam,
            lambda s, new: tuple(new((s.tokens, s.width), torch.float32).abs() for _ in range(4)),
            lambda s: s.tokens * s.width * FP32 * 7,
            HIDDEN,
        ),
    ]


def _fp8_works(half: Any) -> list[MemoryWork]:
    import torch

    from simdeep.calibrate import tensor_ops as ops

    tiled = FP8 + FP32 / 128
    return [
        MemoryWork(
            "cast",
            "cast",
            "fp8",
            ops.to_tiles,
            lambda s, new: (new((s.tokens, s.width), half),),
            lambda s: s.tokens * s.width * (BF16 + tiled),
            HIDDEN,
        ),
        MemoryWork(
            "cast_transpose",
            "cast_transpose",
            "fp8",
            ops.to_turned_tiles,
            lambda s, new: (new((s.tokens, s.width), half),),
            lambda s: s.tokens * s.width * (BF16 + tiled),
            HIDDEN,
        ),
        MemoryWork(
            "transpose",
            "transpose",
            "fp8",
            ops.turned,
            lambda s, new: (new((s.tokens, s.width), half).to(torch.float8_e4m3fn),),
            lambda s: s.tokens * s.width * 2 * FP8,
            HIDDEN,
        ),
    ]


def memory_call(work: MemoryWork, size: MemorySize, device: str, seed: int) -> Call:
    """One call of a class on operands of its own."""
    import torch

    from simdeep.calibrate.tensor_ops import fused

    generator = torch.Generator(device).manual_seed(seed)

    def new(shape: tuple[int, ...], dtype: Any) -> Tensor:
        return torch.randn(*shape, dtype=dtype, device=device, generator=generator)

    function = fused(work.function, device) if work.fuse else work.function
    operands = work.operands(size, new)
    return lambda: function(*operands)


def _picks(tokens: int, rows: int, device: str) -> Tensor:
    """Which token each row is of, in the order of experts: every token, and some twice."""
    import torch

    twice = torch.randperm(tokens, device=device)[: rows - tokens]
    both = torch.cat([torch.randperm(tokens, device=device), twice])
    return both[torch.randperm(rows, device=device)]


def _reducible(
    s: MemorySize, new: Callable[..., Any], half: Any, device: str
) -> tuple[Tensor, Tensor]:
    """Rows and, for every token, which of them are its own."""
    token = _picks(s.tokens, s.tokens * 9 // 8, device)
    return new((len(token), s.width), half), slots_of(token, s.tokens, 4)


def slots_of(token: Tensor, tokens: int, most: int) -> Tensor:
    """For every token up to `most` numbers of its rows, then -1; `token` says whose each row is."""
    import torch

    order = torch.argsort(token, stable=True)
    sorted_tokens = token[order]
    first = torch.searchsorted(sorted_tokens, torch.arange(tokens, device=token.device))
    place = torch.arange(len(token), device=token.device) - first[sorted_tokens]
    slots = torch.full((tokens, most), -1, dtype=torch.int64, device=token.device)
    slots[sorted_tokens, place] = order
    return slots
