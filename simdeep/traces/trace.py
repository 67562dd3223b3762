"""Spans of ranks' streams, simulated or measured, in one shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from simdeep.analysis.attribution import idle_pieces
from simdeep.analysis.blame import part_codes, transfer_kind
from simdeep.program.columns import Action, Kind

if TYPE_CHECKING:
    import pandas as pd

    from simdeep.analysis.booking import IdlePieces
    from simdeep.engine.timeline import Timeline

#: Columns of `Trace.spans`, and what they mean.
SPANS: dict[str, str] = {
    "rank": "the GPU's place in the job",
    "stream": "queue of the rank: compute, comm, p2p, ..., or a CUDA stream's number",
    "name": "what ran: component and action, or the kernel's name",
    "kind": "compute, communication, memory (a copy or fill) or wait (a barrier between ranks)",
    "phase": "part of the step it belongs to, as in attn(F), mlp(W), dispatch(B); empty if unknown",
    "part": "name the simulator books its time under; empty for measured spans",
    "layer": "decoder layer, or which occurrence of the phase in a measured trace; -1 if unknown",
    "microbatch": "micro-batch, -1 if unknown",
    "start_ns": "start, integer nanoseconds from the first event",
    "end_ns": "end, integer nanoseconds",
    "launch_ns": "part of the span that is launch gaps, integer nanoseconds",
    "setup_ns": "part of a transfer before bytes move, integer nanoseconds",
}

#: Columns of `Trace.idle`: idle intervals of compute streams and why, known of simulations only.
IDLE = ("rank", "part", "start_ns", "end_ns")

COMPUTE, COMMUNICATION, MEMORY, WAIT = "compute", "communication", "memory", "wait"


@dataclass(frozen=True, eq=False)
class Trace:
    """A timeline as tables.

    Attributes:
        name: what it is of, for titles.
        source: whether the times were simulated or measured.
        spans: a row for each task or kernel that took time, columns of `SPANS`.
        idle: a row for each idle interval, columns `IDLE`; empty where reasons are not known.
        meta: what the file said of itself.
    """

    name: str
    source: Literal["simulated", "measured"]
    spans: pd.DataFrame
    idle: pd.DataFrame
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def makespan_ns(self) -> int:
        """From the first start to the last end."""
        spans = self.spans
        return int(spans["end_ns"].max() - spans["start_ns"].min()) if len(spans) else 0


def phase_name(component: str, action: str, kind: str) -> str:
    """`attn(F)`, `mlp(W)`, `dispatch(B)`: the backward of a transfer is B, as profilers call it."""
    if kind == COMMUNICATION and action == "I":
        action = "B"
    return f"{component}({action})" if action in ("F", "I", "B", "W") else component


def trace_of(timeline: Timeline, name: str, idle: IdlePieces | None = None) -> Trace:
    """A simulated timeline as a trace; tasks that take no time are left out.

    Args:
        timeline: what ran when.
        name: what it is of.
        idle: idle intervals and their reasons, of a view of a larger timeline; else its own.
    """
    import pandas as pd

    program, priced = timeline.program, timeline.priced
    rows = np.flatnonzero((program.kind != Kind.SYNC) & (timeline.end_ns > timeline.start_ns))
    codes = part_codes(program)
    parts = [str(part) for part in codes.parts]
    kinds = {Kind.COMPUTE: COMPUTE, Kind.TRANSFER: COMMUNICATION}
    labels: dict[tuple[int, int, int], str] = {}
    cells = zip(
        program.component[rows].tolist(),
        program.action[rows].tolist(),
        program.kind[rows].tolist(),
        strict=True,
    )
    phases = []
    for cell in cells:
        if cell not in labels:
            component, action, kind = cell
            said = program.components[component]
            if kind == Kind.TRANSFER:
                said = transfer_kind(said)
            labels[cell] = phase_name(said, Action(action).name, kinds[Kind(kind)])
        phases.append(labels[cell])
    lasted = timeline.end_ns[rows] - timeline.start_ns[rows]
    is_compute = program.kind[rows] == Kind.COMPUTE
    fixed, setup = (
        np.clip(np.rint(column[rows]).astype(np.int64), 0, lasted)
        for column in (priced.fixed_ns, priced.latency_ns)
    )
    spans = pd.DataFrame(
        {
            "rank": program.rank[rows].astype(np.int64),
            "stream": [program.streams[s] for s in program.stream[rows].tolist()],
            "name": phases,
            "kind": [kinds[Kind(k)] for k in program.kind[rows].tolist()],
            "phase": phases,
            "part": [parts[c] for c in codes.code[rows].tolist()],
            "layer": program.layer[rows].astype(np.int64),
            "microbatch": program.microbatch[rows].astype(np.int64),
            "start_ns": timeline.start_ns[rows],
            "end_ns": timeline.end_ns[rows],
            "launch_ns": np.where(is_compute, fixed, 0),
            "setup_ns": np.where(is_compute, 0, setup),
        },
        index=rows,
    )
    found = idle_pieces(timeline) if idle is None else idle
    pieces = pd.DataFrame(
        {
            "rank": found.rank,
            "part": [str(found.parts[c]) for c in found.code.tolist()],
            "start_ns": found.start_ns,
            "end_ns": found.end_ns,
        },
        columns=list(IDLE),
    )
    return Trace(name, "simulated", spans, pieces)
