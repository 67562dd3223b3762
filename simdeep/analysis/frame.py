"""The timeline as one flat table: a row for each task that ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.analysis.blame import Blame, part_codes
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import Action, Kind

if TYPE_CHECKING:
    import pandas as pd

#: Column name to meaning, in order; -1 stands for "does not apply".
COLUMNS: dict[str, str] = {
    "task": "row of the program",
    "rank": "the GPU's place in the job",
    "stream": "FIFO queue of the rank: compute, comm, p2p, p2p_b, dp",
    "kind": "compute, transfer or sync",
    "action": "F, I, W, P2P, GRAD_SYNC, OPTIMIZER or PARAM_SYNC",
    "component": "part of the layer or step: attn, mlp, dispatch, combine, ...",
    "part": "name its time is booked under, e.g. computing.F.attn; empty for sync",
    "stage": "pipeline stage",
    "layer": "decoder layer",
    "microbatch": "micro-batch",
    "block": "entry of the schedule's row that the task belongs to",
    "peer": "the other rank of a point-to-point transfer",
    "group": "rendezvous the task is a member of",
    "start_ns": "start, integer nanoseconds from the start of the step",
    "end_ns": "end, integer nanoseconds",
    "duration_ns": "end_ns - start_ns",
    "sms": "SMs a transfer holds, or a compute task's launch wants, while it runs",
    "mem_take_bytes": "memory taken at start",
    "mem_free_bytes": "memory freed at end",
    "cause": "task that ended last of those it waited for (only with blame)",
}


def spans_frame(timeline: Timeline, blame: Blame | None = None) -> pd.DataFrame:
    """All spans as a DataFrame with the columns of `COLUMNS`, in program order.

    Args:
        timeline: what ran when.
        blame: adds the column `cause`.
    """
    import pandas as pd

    program, priced = timeline.program, timeline.priced
    codes = part_codes(program)
    is_sync = program.kind == Kind.SYNC
    part_names = ["", *map(str, codes.parts)]

    def named(code: npt.NDArray[np.integer], names: list[str]) -> pd.Categorical[str]:
        # Categories must be distinct; parts and streams are, components may repeat a name.
        distinct = list(dict.fromkeys(names))
        table = np.array([distinct.index(n) for n in names], np.int64)
        return pd.Categorical.from_codes(table[code], pd.Index(distinct))

    data: dict[str, object] = {
        "task": np.arange(program.n),
        "rank": program.rank,
        "stream": named(program.stream, list(program.streams)),
        "kind": named(program.kind, [k.name.lower() for k in Kind]),
        "action": named(program.action, [a.name for a in Action]),
        "component": named(program.component, list(program.components)),
        "part": named(np.where(is_sync, 0, codes.code + 1), part_names),
        "stage": program.stage,
        "layer": program.layer,
        "microbatch": program.microbatch,
        "block": program.block,
        "peer": program.peer,
        "group": program.group,
        "start_ns": timeline.start_ns,
        "end_ns": timeline.end_ns,
        "duration_ns": timeline.end_ns - timeline.start_ns,
        "sms": np.where(program.kind == Kind.COMPUTE, priced.sm_want, priced.sms),
        "mem_take_bytes": program.mem_take,
        "mem_free_bytes": program.mem_free,
    }
    if blame is not None:
        data["cause"] = blame.cause
    return pd.DataFrame(data)
