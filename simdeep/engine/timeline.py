"""The timeline: when each task of a priced program ran. Nothing downstream moves a span."""

from __future__ import annotations

from dataclasses import dataclass

from simdeep.program.columns import I64, Priced, Program


@dataclass(frozen=True, eq=False)
class Timeline:
    """Start and end of every task in integer nanoseconds, in the program's row order."""

    priced: Priced
    start_ns: I64
    end_ns: I64
    engine: str
    wall_s: float

    @property
    def program(self) -> Program:
        """The program whose tasks these are."""
        return self.priced.program

    @property
    def makespan_ns(self) -> int:
        """End of the last task."""
        return int(self.end_ns.max()) if len(self.end_ns) else 0
