"""What each effect adds to the step, as a table that adds up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from simdeep.report.summary import seconds

if TYPE_CHECKING:
    from rich.table import Table


class Effect(Protocol):
    """Seconds that one effect adds to a step (negative: it saves), and what it is."""

    @property
    def name(self) -> str:
        """Short name."""

    @property
    def seconds(self) -> float:
        """What it adds."""

    @property
    def explanation(self) -> str:
        """One line on what it is."""


def contributions_table(effects: Sequence[Effect]) -> Table:
    """Effects in order, from the bare chunks to the whole step; those that add nothing left out."""
    from simdeep.report.tables import grid

    whole = sum(effect.seconds for effect in effects)
    table = grid("what", "adds>", "share>", "meaning")
    for effect in effects:
        if not effect.seconds:
            continue
        share = effect.seconds / whole if whole else 0.0
        sign = "" if effect is effects[0] else "+" if effect.seconds >= 0 else "-"
        amount = sign + seconds(abs(effect.seconds))
        table.add_row(effect.name, amount, f"{share:.1%}", effect.explanation)
    table.add_section()
    table.add_row("the step", seconds(whole), "100.0%", "")
    return table
