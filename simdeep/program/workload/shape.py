"""What one rank sees of a micro-batch, and how it computes: precision and recomputation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from simdeep.errors import InputError, Problem
from simdeep.program.workload.kernel import F

NORM: Final = "norm"
MLA_UP: Final = "mla_up"
SWIGLU: Final = "swiglu"
PRODUCTS: Final = "products"
CORE: Final = "selective"
FULL: Final = "full"
POLICIES: Final[dict[str, str]] = {
    NORM: "every RMSNorm again from its kept input (DeepSeek-V3, arXiv 2412.19437 sec 3.2.3)",
    MLA_UP: "queries, keys and values again from the kept latents (same section)",
    SWIGLU: "the output of the gated activation again from its kept input (sec 3.3.3)",
    PRODUCTS: "keys, output projection and up projection of a dense layer again, every second "
    "product, with norms, rotary embedding and activation (torch's selective checkpointing by "
    "operator, as pytorch/torchtitan@9dec370a torchtitan/parallelisms/parallelize_llama.py has it)",
    CORE: "the attention core again from queries, keys and values (arXiv 2205.05198 sec 5)",
    FULL: "the whole layer forward again from its kept input (arXiv 2205.05198 sec 5)",
}
"""What a recomputation policy repeats in the backward pass."""

PRECISIONS: Final = ("fp8", "bf16", "fp16", "fp8-current", "fp8-delayed", "mxfp8", "nvfp4")


@dataclass(frozen=True, slots=True)
class Quant:
    """How Transformer Engine turns the operands of a linear layer into a narrow format.

    A value is read `reads` times at BF16's width (current scaling looks for the largest first) and
    `written` bytes of it are written: a copy along its rows and one along its columns, for the two
    GEMMs that want it, with their scales. A copy is `kept` bytes a value.
    """

    dtype: str
    reads: float
    written: float
    kept: float


QUANTS: Final[dict[str, Quant]] = {
    "fp8-delayed": Quant("fp8", 1.0, 2.0, 1.0),
    "fp8-current": Quant("fp8", 2.0, 2.0, 1.0),
    "mxfp8": Quant("fp8", 1.0, 2.0 + 2.0 / 32, 1.0 + 1.0 / 32),
    "nvfp4": Quant("fp4", 2.0, 1.0 + 2.0 / 16, 0.5 + 1.0 / 16),
}
"""Transformer Engine's recipes (its documentation, "Using FP8 and FP4"): one scale a tensor from
the last steps' largest values or from the tensor itself, one for 32 values, one for 16."""


@dataclass(frozen=True, slots=True)
class Style:
    """Which kernels a framework has where it has a choice.

    `attention`: a fused core, by library, or `unfused`: scores are written to memory. `dropout`
    after attention scores and both branches. `norm_residual`: the norm's kernel adds the residual.
    `wgrad_accumulate`: the weight gradient GEMM adds to the FP32 gradient itself. `loss`: the
    cross-entropy is one kernel each way, else a row of FP32 kernels. `eager`: RMSNorm, rotary
    embedding and gated activation are rows of PyTorch operators, not one kernel each.
    `ring_operators`: parts of context parallel attention are joined by such operators.
    """

    attention: str = "flash"
    dropout: bool = False
    norm_residual: bool = True
    wgrad_accumulate: bool = True
    loss: bool = True
    eager: bool = False
    ring_operators: bool = False

    @property
    def flash(self) -> bool:
        """Whether the attention core is fused."""
        return self.attention != "unfused"

    def core(self, variant: str) -> str:
        """A fused core's cost class: fwd or bwd, with the library where it is not the best one."""
        return variant if self.attention == "flash" else f"{variant}:{self.attention}"


DEFAULT_STYLE: Final = Style()


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One micro-batch as one rank sees it.

    `tokens` are those of this rank after the context-parallel split (micro-batch size x sequence
    / cp), `seq_len` those of a whole sequence. `rows` are token rows received by the rank's
    `local_experts`, padded to 128 for each expert; `unique` the tokens among them. Both may hold
    one entry for each routing draw; kernels then hold arrays.
    """

    tokens: int
    seq_len: int
    tp: int = 1
    sp: bool = False
    cp: int = 1
    ep: int = 1
    rows: F = 0.0
    unique: F = 0.0
    local_experts: int = 1

    @property
    def shard_tokens(self) -> float:
        """Tokens in the regions that sequence parallelism splits: norms, router, residuals."""
        return self.tokens / self.tp if self.sp else self.tokens


def policies(recompute: str | Sequence[str]) -> frozenset[str]:
    """The set of policies that a scenario's `recompute` names; refuses unknown ones."""
    names = (recompute,) if isinstance(recompute, str) else tuple(recompute)
    problems = []
    for name in names:
        if name not in POLICIES and name != "none":
            near = get_close_matches(name, [*POLICIES, "none"], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            valid = ", ".join([*POLICIES, "none"])
            problems.append(Problem("", "recompute", f"{name!r} is none of {valid}{hint}"))
    if problems:
        raise InputError(problems)
    return frozenset(names) - {"none"}


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A shape with the precision of its linear layers and what its backward pass recomputes."""

    shape: Shape
    fp8: bool
    recompute: frozenset[str]
    dtype: str = "bf16"
    quant: Quant | None = None
    style: Style = DEFAULT_STYLE

    @classmethod
    def of(
        cls,
        shape: Shape,
        precision: str,
        recompute: str | Sequence[str],
        style: Style = DEFAULT_STYLE,
    ) -> Plan:
        """Check the names and build the plan; "fp8" is DeepSeek-V3's recipe."""
        if precision not in PRECISIONS:
            valid = " or ".join(PRECISIONS)
            raise InputError([Problem("", "precision", f"{precision!r} is not {valid}")])
        wide = "fp16" if precision == "fp16" else "bf16"
        quant = QUANTS.get(precision)
        again = policies(recompute)
        if PRODUCTS in again:
            again |= {NORM, SWIGLU}
        return cls(shape, precision == "fp8", again, wide, quant, style)

    def again(self, policy: str) -> bool:
        """Whether the backward pass repeats what `policy` names."""
        return policy in self.recompute
