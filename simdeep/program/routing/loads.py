"""Loads: what each rank of an expert-parallel group gets and moves, for each routing draw."""

from __future__ import annotations

from dataclasses import dataclass

from simdeep.errors import InputError
from simdeep.program.routing.kernels import F64


@dataclass(frozen=True, eq=False)
class Loads:
    """Counts of tokens and of token copies in arrays [draws, ranks] of float64.

    A draw is one dispatch of the whole group: every rank sends its tokens. A copy is one token's
    vector crossing one link; combine moves the same copies the other way.
    """

    tokens: F64
    """Tokens each rank sends."""
    rows: F64
    """(token, expert) rows the rank's experts work on, each expert's padded to 128."""
    unique: F64
    """Distinct tokens the rank receives, its own included."""
    ib_out_copies: F64
    """Copies sent over InfiniBand: one for each other node that a token of this rank goes to."""
    ib_in_copies: F64
    """Copies that land here over InfiniBand, from the GPUs of the same index on other nodes."""
    nvl_out_copies: F64
    """Copies sent over NVLink, from where a token landed (or began) to its experts' GPUs."""
    nvl_in_copies: F64
    """Copies received over NVLink."""
    nodes_per_token: F64
    """[draws] nodes a token goes to, its own included if it has experts there; mean over tokens."""
    gpus_per_token: F64
    """[draws] GPUs a token goes to; mean over tokens."""
    expert_tokens: F64 | None
    """[draws, experts] tokens of each expert; None where only one rank was recorded."""

    @property
    def draws(self) -> int:
        """Number of routing draws."""
        return len(self.unique)

    @property
    def ranks(self) -> int:
        """Number of ranks described: all of the group, or one recorded rank."""
        return int(self.unique.shape[1])


def check_size(tokens_per_rank: int, draws: int) -> None:
    """Refuse to draw nothing."""
    if tokens_per_rank < 1 or draws < 1:
        raise InputError(
            f"{draws} routing draws of {tokens_per_rank} tokens a rank: both must be at least 1"
        )
