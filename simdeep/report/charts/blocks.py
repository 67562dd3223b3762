"""What the pipeline chart draws: one bar for each entry of the schedule, from its many tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.analysis.blame import is_data_parallel, stream_id, stream_rows
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I64, Action, Kind

#: Keys of `style.BLOCKS`, in the order of `Bars.look`.
LOOKS = ("F", "I", "W", "B", "FB", "grad_sync", "optimizer", "param_sync")
_DP_LOOK = {
    Action.GRAD_SYNC: LOOKS.index("grad_sync"),
    Action.OPTIMIZER: LOOKS.index("optimizer"),
    Action.PARAM_SYNC: LOOKS.index("param_sync"),
}


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars as columns: rank, start, end (ns), `look` (index into `LOOKS`) and micro-batches.

    `block` is the schedule entry (-1: none). `forward` and `backward` are the micro-batches of the
    F and of the I or W in it, -1 if none.
    """

    rank: I64
    block: I64
    start_ns: I64
    end_ns: I64
    look: I64
    forward: I64
    backward: I64

    def __len__(self) -> int:
        return len(self.rank)

    def take(self, index: I64) -> Bars:
        """Some of the bars."""
        return Bars(
            self.rank[index],
            self.block[index],
            self.start_ns[index],
            self.end_ns[index],
            self.look[index],
            self.forward[index],
            self.backward[index],
        )


def schedule_bars(timeline: Timeline, join_ns: int | None = None) -> Bars:
    """Merge the compute tasks of one rank's schedule entry (`block`) into a bar.

    Tasks of no block merge with neighbours of the same action and micro-batch.

    Args:
        timeline: what ran when.
        join_ns: cut a block into several bars where nothing of it computed for longer than this;
            None: never, a bar reaches from the block's first start to its last end.
    """
    program = timeline.program
    on = (program.stream == stream_id(program)) & (program.kind == Kind.COMPUTE)
    rows, first = stream_rows(program, np.flatnonzero(on & (program.action <= Action.W)))
    if not len(rows):
        return Bars(*(np.zeros(0, np.int64) for _ in range(7)))
    block, action = program.block[rows], program.action[rows]
    microbatch = program.microbatch[rows].astype(np.int64)
    new = first.copy()
    loose = (action[1:] != action[:-1]) | (microbatch[1:] != microbatch[:-1])
    new[1:] |= (block[1:] != block[:-1]) | ((block[1:] < 0) & loose)
    head = np.flatnonzero(new)
    block_of = np.cumsum(new) - 1
    if join_ns is not None:
        new[1:] |= timeline.start_ns[rows[1:]] - timeline.end_ns[rows[:-1]] > join_ns
    piece = np.flatnonzero(new)

    def best(values: I64) -> I64:
        """Largest of each block, for each of its pieces."""
        found: I64 = np.maximum.reduceat(values, head)[block_of[piece]]
        return found

    has = [best((action == a).astype(np.int64)) > 0 for a in (Action.F, Action.I, Action.W)]
    look = np.select(
        [has[0] & (has[1] | has[2]), has[0], has[1] & has[2], has[1]],
        [LOOKS.index(name) for name in ("FB", "F", "B", "I")],
        LOOKS.index("W"),
    )
    return Bars(
        rank=program.rank[rows[piece]].astype(np.int64),
        block=block[piece].astype(np.int64),
        start_ns=timeline.start_ns[rows[piece]],
        end_ns=np.maximum.reduceat(timeline.end_ns[rows], piece),
        look=look.astype(np.int64),
        forward=best(np.where(action == Action.F, microbatch, -1)),
        backward=best(np.where(action != Action.F, microbatch, -1)),
    )


def data_parallel_bars(timeline: Timeline) -> Bars:
    """Gradient reduction, optimizer and parameter gathering, a bar for each task that took time."""
    program = timeline.program
    rows = np.flatnonzero(is_data_parallel(program) & (timeline.end_ns > timeline.start_ns))
    look = np.array([_DP_LOOK[Action(a)] for a in program.action[rows]], np.int64)
    none = np.full(len(rows), -1, np.int64)
    return Bars(
        rank=program.rank[rows].astype(np.int64),
        block=none,
        start_ns=timeline.start_ns[rows],
        end_ns=timeline.end_ns[rows],
        look=look,
        forward=none,
        backward=none,
    )
