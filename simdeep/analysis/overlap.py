"""How much communication hides behind compute of the same rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.analysis.attribution import Attribution
from simdeep.analysis.blame import stream_id, stream_rows, transfer_kind
from simdeep.analysis.bubble import Extremes
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I64, Kind


@dataclass(frozen=True, eq=False)
class Overlap:
    """Transfer time by kind and rank, and how much of it ran beside compute.

    `transfer_ns` and `hidden_ns` have shape (kinds, ranks). Transfers on different streams of a
    rank count each for itself.
    """

    kinds: tuple[str, ...]
    transfer_ns: I64
    hidden_ns: I64

    @property
    def comm_overlap(self) -> float:
        """Share of all transfer time that ran beside compute of the same rank (1.0 if none)."""
        total = int(self.transfer_ns.sum())
        return float(self.hidden_ns.sum() / total) if total else 1.0

    def by_kind(self) -> dict[str, float]:
        """The same share for each kind of transfer that took time."""
        total, hidden = self.transfer_ns.sum(axis=1), self.hidden_ns.sum(axis=1)
        pairs = zip(self.kinds, total.tolist(), hidden.tolist(), strict=True)
        return {kind: h / t for kind, t, h in pairs if t}


def exposed_comm_s(attribution: Attribution) -> Extremes:
    """Seconds of exposed communication over ranks, data-parallel traffic apart."""
    return Extremes.of_ns(attribution.exposed_comm_ns)


def overlap(timeline: Timeline) -> Overlap:
    """Measure, for every transfer, the time it ran beside compute of its own rank."""
    program = timeline.program
    names = [transfer_kind(c) for c in program.components]
    kinds = tuple(sorted(set(names)))
    kind_of = np.array([kinds.index(name) for name in names], np.int64)

    transfers = np.flatnonzero(program.kind == Kind.TRANSFER)
    rank = program.rank[transfers].astype(np.int64)
    begun, ended = timeline.start_ns[transfers], timeline.end_ns[transfers]
    hidden = _computed_until(timeline, rank, ended) - _computed_until(timeline, rank, begun)

    cell = kind_of[program.component[transfers]] * program.n_ranks + rank
    shape = (len(kinds), program.n_ranks)
    sums = [
        np.bincount(cell, weights=ns, minlength=shape[0] * shape[1]).astype(np.int64).reshape(shape)
        for ns in (ended - begun, hidden)
    ]
    used = np.flatnonzero(np.bincount(kind_of[program.component[transfers]], minlength=len(kinds)))
    return Overlap(tuple(kinds[i] for i in used), sums[0][used], sums[1][used])


def _computed_until(timeline: Timeline, rank: I64, at_ns: I64) -> I64:
    """Compute time of each rank's compute stream in [0, at_ns), for pairs (rank, at_ns)."""
    program = timeline.program
    on_stream = program.stream == stream_id(program)
    rows, _ = stream_rows(program, np.flatnonzero(on_stream & (program.kind == Kind.COMPUTE)))
    # Laid end to end, the ranks' clocks make one sorted axis that a single search can serve.
    year = timeline.makespan_ns + 1
    offset = program.rank[rows].astype(np.int64) * year
    begun, ended = timeline.start_ns[rows] + offset, timeline.end_ns[rows] + offset
    done = np.concatenate(([0], np.cumsum(ended - begun)))
    moment = at_ns + rank * year
    index = np.searchsorted(begun, moment, side="right")
    whole = done[index]
    over = np.where(index > 0, np.maximum(np.append(ended, 0)[index - 1] - moment, 0), 0)
    return whole - over
