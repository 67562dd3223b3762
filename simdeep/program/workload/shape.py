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
CORE: Final = "selective"
FULL: Final = "full"
POLICIES: Final[dict[str, str]] = {
    NORM: "every RMSNorm again from its kept input (DeepSeek-V3, arXiv 2412.19437 sec 3.2.3)",
    MLA_UP: "queries, keys and values again from the kept latents (same section)",
    SWIGLU: "the output of the gated activation again from its kept input (sec 3.3.3)",
    CORE: "the attention core again from queries, keys and values (arXiv 2205.05198 sec 5)",
    FULL: "the whole layer forward again from its kept input (arXiv 2205.05198 sec 5)",
}
"""What a recomputation policy repeats in the backward pass."""

PRECISIONS: Final = ("fp8", "bf16")


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

    @classmethod
    def of(cls, shape: Shape, precision: str, recompute: str | Sequence[str]) -> Plan:
        """Check the names and build the plan."""
        if precision not in PRECISIONS:
            valid = " or ".join(PRECISIONS)
            raise InputError([Problem("", "precision", f"{precision!r} is not {valid}")])
        return cls(shape, precision == "fp8", policies(recompute))

    def again(self, policy: str) -> bool:
        """Whether the backward pass repeats what `policy` names."""
        return policy in self.recompute
