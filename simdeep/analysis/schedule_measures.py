"""Schedules measured alike: on equal devices, or with equal stages on as many as they need."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from simdeep.errors import InputError
from simdeep.program.schedule import (
    Costs,
    Spans,
    Table,
    build_table,
    find_schedule,
    p2p_sends,
    replay,
)


class Equal(StrEnum):
    """What schedules with different numbers of stages a rank have in common."""

    devices = "devices"
    """The same ranks; with more stages on a rank, stages are smaller."""
    stages = "stages"
    """The same stages; with more of them on a rank, there are fewer ranks."""


@dataclass(frozen=True, eq=False)
class Measures:
    """One schedule replayed; `share` is the size of its stages in shares of the model.

    A share is what each of the devices compared would have of the model with one stage on each, and
    the unit of activations (of one micro-batch) and of parameters.
    """

    table: Table
    spans: Spans
    share: float

    @property
    def activation_shares(self) -> dict[str, list[float]]:
        """Most micro-batches' activations on each rank, freed after I and freed after W."""
        peaks = self.spans.peak_activations
        return {str(freed): (peak * self.share).tolist() for freed, peak in peaks.items()}

    @property
    def parameter_shares(self) -> list[float]:
        """Parameters on each rank."""
        return [len(stages) * self.share for stages in self.table.stages_of]

    @property
    def p2p_messages(self) -> int:
        """Transfers between ranks in a step."""
        return int(p2p_sends(self.table).sum())


def sized_table(name: str, n_shares: int, microbatches: int, vpp: int, equal: Equal) -> Table:
    """A schedule's table for `n_shares` devices, or as many stages.

    `vpp` is taken where the schedule can have it, else its own. Raises InputError where the
    schedule cannot be built.
    """
    stages_a_rank = find_schedule(name).vpp_or_own(vpp)
    if equal is Equal.devices:
        return build_table(name, n_shares, microbatches, stages_a_rank)
    ranks, rest = divmod(n_shares, stages_a_rank)
    if rest:
        raise InputError(
            f"{n_shares} stages do not lie on ranks with {stages_a_rank} of them on each"
        )
    return build_table(name, ranks, microbatches, stages_a_rank)


def measured(table: Table, n_shares: int, costs: Costs | None = None) -> Measures:
    """Replay a table; without `costs` F = I = W = 1 for a share, free transfers."""
    share = n_shares / table.n_stages
    if costs is None:
        costs = Costs(share, share, share)
    return Measures(table, replay(table, costs), share)
