"""What is run, and what keeps it from being run; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simdeep.errors import InputError, Problem
from simdeep.spec.model import Model, MoeFfn

Backend = Literal["gloo", "nccl"]

MAX_PROCS = 16
"""Processes of one run; each is a torch of its own and takes about 300 MiB."""

EXCHANGED = (1, 48, 192, 384, 768, 1536, 3072, 6144)
"""Rows that each rank sends to each in the all-to-alls that are timed."""

MAX_TOKENS = 1 << 16


@dataclass(frozen=True, slots=True)
class Case:
    """A model whose experts `procs` processes share, each with as many tokens a step as `tokens`.

    All entries of `tokens` are run. Tokens come in sequences of `sequence`. The gate is trained for
    `train_steps` on the shipped text first, so that its choices are those of a model that learns.
    """

    config: str = "tiny-moe"
    procs: int = 2
    tokens: tuple[int, ...] = (256, 1024, 2048)
    sequence: int = 128
    train_steps: int = 150
    repeats: int = 20
    seed: int = 0
    backend: Backend = "gloo"
    timeout_s: float = 150.0


def check_case(case: Case, model: Model) -> None:
    """Raise InputError with everything that keeps a case from being run."""
    found = []
    counts = {layer.ffn.experts for layer in model.layers if isinstance(layer.ffn, MoeFfn)}
    if not counts:
        message = f"{model.name} has no experts to share; take a model with some, as `tiny-moe`"
        found.append(Problem("--model", "", message))
    for experts in sorted(counts):
        if case.procs >= 1 and experts % case.procs:
            message = f"is {case.procs}; the {experts} experts of {model.name} do not divide by it"
            fits = [str(n) for n in range(2, MAX_PROCS + 1) if not experts % n]
            found.append(Problem("--procs", "", f"{message}; these do: {', '.join(fits)}"))
    if not 2 <= case.procs <= MAX_PROCS:
        message = f"is {case.procs}; must be 2 to {MAX_PROCS}: each is a process on this machine"
        found.append(Problem("--procs", "", message))
    for tokens in case.tokens:
        if not case.sequence <= tokens <= MAX_TOKENS or tokens % case.sequence:
            message = (
                f"is {tokens}; must be a multiple of the {case.sequence} tokens of a sequence, "
                f"{MAX_TOKENS} or fewer"
            )
            found.append(Problem("--tokens", "", message))
    if found:
        raise InputError(found)
