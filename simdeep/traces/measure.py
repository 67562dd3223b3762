"""What a trace's spans add up to, the same for simulated and measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simdeep.program.columns import I64
from simdeep.traces.trace import COMMUNICATION, COMPUTE, MEMORY, Trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Measures:
    """Sums of a trace in integer nanoseconds.

    Attributes:
        makespan_ns: from the first start to the last end of any rank.
        by_rank: a row for each rank. `compute`, `communication`, `memory`: time in which at least
            one span of that kind ran; `hidden`: communication time in which compute or memory ran
            too; `exposed`: the rest of it; `idle`: nothing ran.
        by_kind: a row for each kind and phase: `spans`, `busy_ns` (sum of lengths), `hidden_ns` (of
            communication, the sum over spans of the time beside compute).
        by_part: a row for each part the simulator books (launch gaps apart) and rank, `ns`; idle
            intervals are in it. Empty for measured traces.
    """

    makespan_ns: int
    by_rank: pd.DataFrame
    by_kind: pd.DataFrame
    by_part: pd.DataFrame

    @property
    def overlap(self) -> float:
        """Share of all spans' communication time that ran beside compute (1.0 if there is none)."""
        own = self.by_kind[self.by_kind["kind"] == COMMUNICATION]
        busy = int(own["busy_ns"].sum())
        return float(int(own["hidden_ns"].sum()) / busy) if busy else 1.0


def measure(trace: Trace) -> Measures:
    """Add up a trace."""
    import pandas as pd

    spans = trace.spans
    rows = []
    hidden = np.zeros(len(spans), np.int64)
    position = np.arange(len(spans))
    for rank, own in spans.groupby("rank", sort=True):
        rows.append({"rank": rank} | _rank(own, trace.makespan_ns))
        comm = (own["kind"] == COMMUNICATION).to_numpy()
        inside = _Union.of(own[own["kind"] == COMPUTE])
        where = position[(spans["rank"] == rank).to_numpy()][comm]
        hidden[where] = inside.until(own["end_ns"].to_numpy()[comm]) - inside.until(
            own["start_ns"].to_numpy()[comm]
        )
    lasted = spans["end_ns"] - spans["start_ns"]
    kinds = (
        spans.assign(busy_ns=lasted, hidden_ns=hidden)
        .groupby(["kind", "phase"], sort=True)
        .agg(spans=("busy_ns", "size"), busy_ns=("busy_ns", "sum"), hidden_ns=("hidden_ns", "sum"))
        .reset_index()
    )
    columns = ["rank", "compute", "communication", "memory", "hidden", "exposed", "idle"]
    by_rank = pd.DataFrame(rows, columns=columns)
    return Measures(trace.makespan_ns, by_rank, kinds, _parts(trace))


def _rank(own: pd.DataFrame, makespan_ns: int) -> dict[str, int]:
    compute, comm, memory = (
        _Union.of(own[own["kind"] == kind]) for kind in (COMPUTE, COMMUNICATION, MEMORY)
    )
    work = _Union.of(own[own["kind"] != COMMUNICATION])
    any_of_all = _Union.of(own).total
    hidden = comm.total + work.total - any_of_all
    return {
        "compute": compute.total,
        "communication": comm.total,
        "memory": memory.total,
        "hidden": hidden,
        "exposed": comm.total - hidden,
        "idle": makespan_ns - any_of_all,
    }


def _parts(trace: Trace) -> pd.DataFrame:
    """Time of compute streams by part and rank, launch gaps under a name of their own."""
    import pandas as pd

    spans = trace.spans[(trace.spans["stream"] == "compute") & (trace.spans["part"] != "")]
    lasted = spans["end_ns"] - spans["start_ns"]
    pieces = [
        pd.DataFrame(
            {"part": spans["part"], "rank": spans["rank"], "ns": lasted - spans["launch_ns"]}
        ),
        pd.DataFrame({"part": "launch_gap", "rank": spans["rank"], "ns": spans["launch_ns"]}),
        trace.idle.assign(ns=trace.idle["end_ns"] - trace.idle["start_ns"])[["part", "rank", "ns"]],
    ]
    # An empty table of idle intervals knows no types.
    table = pd.concat(pieces, ignore_index=True).astype({"rank": np.int64, "ns": np.int64})
    return table.groupby(["part", "rank"], sort=True)["ns"].sum().reset_index()


@dataclass(frozen=True, eq=False)
class _Union:
    """Intervals that do not overlap, ascending, and the time they cover before each."""

    start: I64
    end: I64
    before: I64

    @classmethod
    def of(cls, spans: pd.DataFrame) -> _Union:
        order = np.argsort(spans["start_ns"].to_numpy(), kind="stable")
        start = spans["start_ns"].to_numpy(np.int64)[order]
        end = np.maximum.accumulate(spans["end_ns"].to_numpy(np.int64)[order])
        new = np.ones(len(start), np.bool_)
        new[1:] = start[1:] > end[:-1]
        last = np.append(new[1:], True)[: len(start)]
        start, end = start[new], end[last]
        return cls(start, end, np.concatenate(([0], np.cumsum(end - start))))

    @property
    def total(self) -> int:
        return int(self.before[-1])

    def until(self, at: I64) -> I64:
        """Covered time before each moment."""
        index = np.searchsorted(self.start, at, side="right")
        over = np.where(index > 0, np.maximum(np.append(self.end, 0)[index - 1] - at, 0), 0)
        found: I64 = self.before[index] - over
        return found
