"""What is measured on a CPU, in FP32: products of the given layers, attention, memory passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simdeep.calibrate.attention import CoreSize, attention_calls
from simdeep.calibrate.gemm import gemm_bytes, gemm_call
from simdeep.calibrate.memory import MemorySize, MemoryWork, memory_call, works
from simdeep.calibrate.rows import Row
from simdeep.calibrate.shapes import products
from simdeep.calibrate.timing import Call, CpuClock, Timing, rotation

CACHE_BYTES = 2 * 2**20
"""Cache of a core that calls go round beyond: its own L2."""


@dataclass(frozen=True, slots=True)
class CpuPlan:
    """Sizes to measure; the defaults take under two minutes on one core."""

    linears: Mapping[str, tuple[int, int]]
    tokens: Sequence[int] = (1, 4, 16, 48, 64, 128, 256, 512, 1024)
    train_tokens: Sequence[int] = (64, 256, 1024)
    lengths: Sequence[int] = (64, 128, 256, 512)
    heads: int = 4
    head_dim: int = 32
    memory_tokens: Sequence[int] = (64, 256, 1024, 4096)
    memory_width: int = 128
    experts: int = 4


SKIPPED = frozenset({"gate", "gate_bwd"})
"""Works whose width is not free."""


def measure_cpu(plan: CpuPlan, clock: CpuClock) -> list[Row]:
    """All rows of a plan on the threads that torch has."""
    import torch

    rows: list[Row] = []

    def add(calls: Sequence[Call], **facts: Any) -> None:
        timing = clock.time(calls)
        rows.append(_row(timing, sms=torch.get_num_threads(), **facts))

    add([_nothing], group="gap", name="nothing", dtype="", variant="")
    for name, variant, m, n, k in products(plan.linears.items(), plan.tokens, plan.train_tokens):
        nbytes = gemm_bytes("fp32", variant, m, n, k)
        add(
            _copies(_gemm_maker(variant, m, n, k), nbytes),
            group="gemm",
            name=name,
            dtype="fp32",
            variant=variant,
            m=m,
            n=n,
            k=k,
            flops=2.0 * m * n * k,
            bytes=nbytes,
        )
    _grouped(plan, add)
    _attention(plan, add)
    _memory(plan, add)
    return rows


def _row(timing: Timing, **facts: Any) -> Row:
    return Row(
        us=timing.us,
        low_us=timing.low_us,
        high_us=timing.high_us,
        repeats=timing.repeats,
        **facts,
    )


def _nothing() -> None:
    pass


def _gemm_maker(variant: str, m: int, n: int, k: int) -> Callable[[int], Call]:
    return lambda seed: gemm_call("fp32", variant, m, n, k, "cpu", seed)


def _memory_maker(work: MemoryWork, size: MemorySize) -> Callable[[int], Call]:
    return lambda seed: memory_call(work, size, "cpu", seed)


def _copies(make: Callable[[int], Call], nbytes: float) -> list[Call]:
    return [make(seed) for seed in range(rotation(nbytes, CACHE_BYTES))]


def _grouped(plan: CpuPlan, add: Callable[..., None]) -> None:
    """One product a group, in turn: what a CPU does with experts."""
    for name, (n, k) in plan.linears.items():
        for tokens in plan.train_tokens:
            calls = [gemm_call("fp32", "fwd", tokens, n, k, "cpu", e) for e in range(plan.experts)]
            add(
                [lambda calls=tuple(calls): [call() for call in calls]],
                group="grouped_gemm",
                name=name,
                dtype="fp32",
                variant="fwd",
                m=tokens * plan.experts,
                n=n,
                k=k,
                groups=plan.experts,
                flops=2.0 * tokens * plan.experts * n * k,
                bytes=plan.experts * gemm_bytes("fp32", "fwd", tokens, n, k),
            )


def _attention(plan: CpuPlan, add: Callable[..., None]) -> None:
    import torch

    for length in plan.lengths:
        size = CoreSize(1, length, plan.heads, plan.heads, plan.head_dim, plan.head_dim)
        for variant, call in attention_calls(size, torch.float32, "cpu", 0, None).items():
            add(
                [call],
                group="attention",
                name="torch",
                dtype="fp32",
                variant=variant,
                m=length,
                n=length,
                k=plan.head_dim,
                groups=plan.heads,
                kv_heads=plan.heads,
                qk_dim=plan.head_dim,
                v_dim=plan.head_dim,
                flops=size.flops(variant),
                bytes=size.bytes(variant),
            )


def _memory(plan: CpuPlan, add: Callable[..., None]) -> None:
    for work in works("cpu"):
        if work.name in SKIPPED:
            continue
        for tokens in plan.memory_tokens:
            # Per-head works take their width in heads, the row map in experts.
            few = max(work.widths) <= 128
            size = MemorySize(
                tokens, min(plan.heads, max(work.widths)) if few else plan.memory_width
            )
            nbytes = work.bytes(size)
            add(
                _copies(_memory_maker(work, size), nbytes),
                group="memory",
                name=work.name,
                dtype="fp32",
                variant=work.variant,
                m=tokens,
                n=size.width,
                bytes=nbytes,
            )
