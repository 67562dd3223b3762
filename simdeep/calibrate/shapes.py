"""Which sizes are measured: the products of known models' layers, over a range of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LINEARS: dict[str, tuple[int, int]] = {
    "v3.q_down": (1536, 7168),
    "v3.kv_down": (576, 7168),
    "v3.q_up": (24576, 1536),
    "v3.kv_up": (32768, 512),
    "v3.o_proj": (7168, 16384),
    "v3.gateup": (4096, 7168),
    "v3.down": (7168, 2048),
    "v3.router": (256, 7168),
    "v3.dense_down": (7168, 18432),
    "llama70b.qkv": (10240, 8192),
    "llama70b.o": (8192, 8192),
    "llama70b.gateup": (57344, 8192),
    "llama70b.down_tp8": (8192, 3584),
    "llama8b.qkv": (6144, 4096),
    "llama8b.o": (4096, 4096),
    "llama8b.down": (4096, 14336),
    "gpt3.qkv": (36864, 12288),
    "gpt3.up_tp8": (6144, 12288),
}
"""Outputs and inputs (n, k) of linear layers."""

TOKENS = (1, 4, 16, 48, 64, 128, 256, 384, 512, 1024, 2048, 3072, 4096, 8192, 16384)

TRAIN_TOKENS = (256, 512, 1024, 2048, 4096, 8192, 16384)

Product = tuple[str, str, int, int, int]
"""Name, variant, m, n, k of one product."""


def products(
    linears: Iterable[tuple[str, tuple[int, int]]], tokens: Sequence[int], train: Sequence[int]
) -> list[Product]:
    """Forward products over `tokens` rows, input and weight gradients over `train` rows."""
    found: list[Product] = []
    for name, (n, k) in linears:
        found += [(name, "fwd", t, n, k) for t in tokens]
        found += [(name, "dgrad", t, k, n) for t in train]
        found += [(name, "wgrad", n, k, t) for t in train]
    return found


def uneven(total: int, groups: int) -> list[int]:
    """Rows of each group, multiples of 128 that differ as routed tokens do, `total` in all."""
    weights = [1.0 + 0.12 * ((7 * g) % groups - (groups - 1) / 2) / groups for g in range(groups)]
    rows = [max(1, round(total * w / sum(weights) / 128)) * 128 for w in weights]
    rows[0] += total - sum(rows)
    return rows
