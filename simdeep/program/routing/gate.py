"""The gate: from a token's logits to the experts it is sent to.

DeepSeek-V3 (arXiv 2412.19437, section 2.1.2): affinity is the sigmoid of the logit; selection goes
by affinity plus a bias for each expert. With node-limited routing the experts form groups (a group
a node), a group scores the sum of its K/M best, the M best groups stay, and the K best experts in
them are taken. DeepSeek-V2 (arXiv 2405.04434, section 2.2.2): softmax affinity, a group scores its
best expert. Mixtral and Qwen: softmax, no groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from simdeep.errors import InputError
from simdeep.program.routing.kernels import BLOCK, F32, F64, I16, compiled, select_kernel


class GateSpec(Protocol):
    """What routing reads of an MoE layer; `simdeep.spec.model.MoeFfn` has these fields."""

    @property
    def experts(self) -> int:
        """Routed experts of the layer."""

    @property
    def topk(self) -> int:
        """Experts of a token."""

    @property
    def n_groups(self) -> int:
        """Groups the experts form; 0 or 1 where there are none."""

    @property
    def topk_groups(self) -> int:
        """Groups a token may use."""

    @property
    def scoring(self) -> str:
        """`sigmoid` or `softmax`."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A `GateSpec` of its own, hashable: what `canonical` makes of any other."""

    experts: int
    topk: int
    n_groups: int = 1
    topk_groups: int = 1
    scoring: str = "sigmoid"


def canonical(gate: GateSpec) -> Gate:
    """The gate alone, one group where groups do not limit it; equal gates compare equal."""
    return Gate(gate.experts, gate.topk, *group_limit(gate), gate.scoring)


def group_limit(gate: GateSpec) -> tuple[int, int]:
    """Groups and groups a token may use; (1, 1) where the gate is not limited."""
    groups = max(1, gate.n_groups)
    limit = min(groups, gate.topk_groups) if gate.topk_groups > 0 else groups
    return (groups, limit) if limit < groups else (1, 1)


def group_top(gate: GateSpec) -> int:
    """How many of a group's best affinities make its score."""
    _, limit = group_limit(gate)
    return max(1, gate.topk // limit) if gate.scoring == "sigmoid" else 1


def check_gate(gate: GateSpec) -> None:
    """Refuse a gate that cannot choose `topk` distinct experts."""
    groups, limit = group_limit(gate)
    if gate.scoring not in ("sigmoid", "softmax"):
        raise InputError(f"gate scoring {gate.scoring!r}: must be 'sigmoid' or 'softmax'")
    if not 1 <= gate.experts <= np.iinfo(np.int16).max:
        raise InputError(f"gate with {gate.experts} experts: must be 1 to 32767")
    if gate.experts % groups:
        raise InputError(f"{gate.experts} experts do not divide into {groups} groups")
    selectable = gate.experts // groups * limit
    if not 1 <= gate.topk <= selectable:
        raise InputError(
            f"gate takes {gate.topk} experts of a token: must be 1 to {selectable}, the experts in "
            f"{limit} of {groups} groups"
        )


def affinity(gate: GateSpec, logits: F32) -> F32:
    """Affinities of logits [tokens, experts], both float32."""
    if gate.scoring == "sigmoid":
        decay = np.exp(-np.abs(logits))  # at most 1: cannot overflow
        return np.asarray(np.where(logits < 0, decay, 1) / (1 + decay), dtype=np.float32)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)


def select_experts(gate: GateSpec, logits: F32, bias: F64 | F32 | None = None) -> I16:
    """Experts of each token, [tokens, topk] int16, best first, ties to the lower index.

    `logits` is float32 [tokens, experts]; `bias` [experts] is added to the affinities for selection
    only. Affinities are float32, as in DeepSeek's own code.
    """
    check_gate(gate)
    logits = np.asarray(logits, dtype=np.float32)
    if logits.ndim != 2 or logits.shape[1] != gate.experts:
        raise InputError(f"logits of shape {logits.shape}: must be [tokens, {gate.experts}]")
    if not np.isfinite(logits).all():
        raise InputError("logits hold a NaN or an infinity")
    keys = affinity(gate, logits)
    if bias is not None:
        bias = np.asarray(bias, dtype=np.float32)
        if bias.shape != (gate.experts,) or not np.isfinite(bias).all():
            raise InputError(f"gate bias {bias.shape}: must be {gate.experts} finite numbers")
        keys = keys + bias
    return select_by_key(gate, keys)


def select_by_key(gate: GateSpec, keys: F32) -> I16:
    """`select_experts` without checks, from (biased) affinities [tokens, experts]."""
    n_blocks = -(-len(keys) // BLOCK)
    padded = np.zeros((n_blocks * BLOCK, gate.experts), dtype=np.float32)
    padded[: len(keys)] = keys
    blocks = padded.reshape(n_blocks, BLOCK, gate.experts).transpose(0, 2, 1)
    return select_blocks(gate, np.ascontiguousarray(blocks), len(keys))


def select_blocks(gate: GateSpec, keys: F32, tokens: int, odds: bool = False) -> I16:
    """Experts of the first `tokens` tokens of keys [blocks, experts, BLOCK], float32, contiguous.

    Keys are (biased) affinities or numbers proportional to them; with `odds` they are
    affinity / (1 - affinity): the exponential of sigmoid logits.
    """
    parts, kept = group_limit(gate)
    top_m = group_top(gate)
    if kept == parts:  # no limit: parts that only serve to bound the keys to look at
        parts = kept = gate.topk
        top_m = 1
    chosen = np.empty((tokens, gate.topk), dtype=np.int16)
    compiled(select_kernel)(keys, keys.view(np.int32), parts, kept, top_m, odds, chosen)
    return chosen
