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


@dataclass(frozen=True, slots=True)
class MemorySize:
    """`tokens` rows of `width` values."""

    tokens: int
    width: int


@dataclass(frozen=True)
class MemoryWork:
    """A class of kernels: `operands(size, new)` makes what `function` takes; bytes by size.

    `new(shape, dtype)` gives random values. `bytes` are the kernel record's.
    """

    name: str
    variant: str
    dtype: str
    function: Callable[..., Any]
    operands: Callable[[MemorySize, Callable[..., Any]], tuple[Any, ...]]
    bytes: Callable[[MemorySize], float]
    widths: Sequence[int]
    fuse: bool = True


HIDDEN = (2048, 4096, 7168)
WIDE = (2048, 4096, 8192)


def works(device: str) -> list[MemoryWork]:
    """All classes that torch can run on the device."""
    import torch

    from simdeep.calibrate import tensor_ops as ops

    half = torch.bfloat16 if device == "cuda" else torch.float32
    unit = 2.0 if device == "cuda" else 4.0

    def rows(s: MemorySize, new: Callable[..., Any], n: int = 1, width: int = 0) -> list[Tensor]:
        return [new((s.tokens, width or s.width), half) for _ in range(n)]

    def weight(s: MemorySize, new: Callable[..., Any]) -> Tensor:
        return new((s.width,), half)

    def passes(count: float) -> Callable[[MemorySize], float]:
        return lambda s: s.tokens * s.width * unit * count

    def angles(s: MemorySize, new: Callable[..., Any]) -> list[Tensor]:
        return [new((s.tokens, ROPE // 2), half) for _ in range(2)]

    def heads(s: MemorySize, new: Callable[..., Any], each: int) -> Tensor:
        return new((s.tokens, s.width, each), half)

    found = [
        MemoryWork(
            "norm",
            "norm",
            "bf16",
            ops.rms_norm,
            lambda s, new: (*rows(s, new), weight(s, new)),
            passes(2),
            (512, 1536, *HIDDEN),
        ),
        MemoryWork(
            "add_norm",
            "norm",
            "bf16",
            ops.add_rms_norm,
            lambda s, new: (*rows(s, new, 2), weight(s, new)),
            passes(4),
            HIDDEN,
        ),
        MemoryWork(
            "norm_bwd",
            "norm_bwd",
            "bf16",
            ops.rms_norm_back,
            lambda s, new: (*rows(s, new, 2), weight(s, new)),
            passes(3),
            (512, 1536, *HIDDEN),
        ),
        MemoryWork(
            "add_norm_bwd",
            "norm_bwd",
            "bf16",
            ops.add_rms_norm_back,
            lambda s, new: (*rows(s, new, 2), weight(s, new), *rows(s, new)),
            passes(4),
            HIDDEN,
        ),
        MemoryWork(
            "copy",
            "copy",
            "bf16",
            ops.contiguous,
            lambda s, new: (heads(s, new, NOPE + HEAD_V)[..., :NOPE],),
            lambda s: s.tokens * s.width * NOPE * 2 * unit,
            (16, 64, 128),
        ),
        MemoryWork(
            "widen",
            "copy",
            "bf16",
            ops.widened,
            lambda s, new: (new((s.tokens, 1, ROPE), half), s.width),
            lambda s: s.tokens * s.width * ROPE * unit,
            (16, 64, 128),
        ),
        MemoryWork(
            "rope",
            "rope",
            "bf16",
            ops.rotate_in_place,
            lambda s, new: (heads(s, new, NOPE + ROPE)[..., NOPE:], *angles(s, new)),
            lambda s: s.tokens * s.width * ROPE * 2 * unit,
            (8, 32, 128),
        ),
        MemoryWork(
            "swiglu",
            "swiglu",
            "bf16",
            ops.swiglu,
            lambda s, new: tuple(rows(s, new, 1, 2 * s.width)),
            passes(3),
            WIDE,
        ),
        MemoryWork(
            "swiglu_bwd",
            "swiglu_bwd",
            "bf16",
            ops.swiglu_back,
            lambda s, new: (*rows(s, new), *rows(s, new, 1, 2 * s.width)),
            passes(5),
            WIDE,
        ),
        MemoryWork(
            "row_dot",
            "row_dot",
            "bf16",
            ops.row_dot,
            lambda s, new: tuple(rows(s, new, 2)),
            passes(2),
            WIDE,
        ),
        MemoryWork(
            "add",
            "elementwise",
            "bf16",
            ops.added,
            lambda s, new: tuple(rows(s, new, 2)),
            passes(3),
            HIDDEN,
        ),
        MemoryWork(
            "scale",
            "elementwise",
            "bf16",
            ops.scaled,
            lambda s, new: (*rows(s, new), 0.5),
            passes(2),
            HIDDEN,
        ),
        MemoryWork(
            "sum_heads",
            "sum_heads",
            "bf16",
            ops.sum_heads,
            lambda s, new: (heads(s, new, NOPE + ROPE)[..., NOPE:],),
            lambda s: s.tokens * s.width * ROPE * unit,
            (16, 64, 128),
        ),
        MemoryWork(
            "expand",
            "permute",
            "bf16",
            ops.expand_rows,
            lambda s, new: (*rows(s, new), _picks(s.tokens, s.tokens * 9 // 8, device)),
            lambda s: (s.tokens + s.tokens * 9 // 8) * s.width * unit,
            HIDDEN,
        ),
        MemoryWork(
            "reduce",
            "unpermute",
            "bf16",
            ops.reduce_rows,
            lambda s, new: _reducible(s, new, half, device),
            lambda s: (s.tokens + s.tokens * 9 // 8) * s.width * unit,
            HIDDEN,
        ),
        MemoryWork(
            "row_map",
            "mapping",
            "fp32",
            ops.row_map,
            lambda s, new: (new((s.tokens, s.width), half) > 1.0, s.tokens * 9 // 8),
            lambda s: s.tokens * 8 * 3 * 8.0,
            (4,),
            fuse=False,
        ),
        MemoryWork(
            "adam",
            "adam",
            "fp32",
            ops.adam,
            lambda s, new: tuple(new((s.tokens, s.width), torch.float32).abs() for _ in range(4)),
            lambda s: s.tokens * s.width * FP32 * 7,
            HIDDEN,
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
    return [*found, *_fp8_works(half)] if device == "cuda" else found


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
