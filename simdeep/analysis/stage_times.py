"""What each stage's chunks take in a simulated step: costs for replays of other schedules."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from simdeep.engine.timeline import Timeline
from simdeep.program.columns import Action, Kind
from simdeep.program.schedule import Costs, Overlap, Table


def stage_costs(table: Table, timeline: Timeline) -> Costs:
    """Median seconds of F, I and W of every stage; a transfer's median; blocks where there are any.

    A cell lasts from the start of its first task, or the end of the rank's cells before it if that
    is later, to the end of its last task, sends apart. Full backwards are parted into I and W as
    their compute is. Blocks of stages that never meet in this table are priced by what blocks gain
    over their parts, the median. Unfolded, the first peer of a pipeline rank is taken.
    """
    program = timeline.program
    peers = program.n_ranks // table.n_ranks
    lasted = (timeline.end_ns - timeline.start_ns) / 1e9
    cells = _cell_times(table, timeline, peers)
    f, i, w = np.zeros((3, table.n_stages))
    first = program.rank % peers == 0
    compute = first & (program.kind == Kind.COMPUTE)
    for stage in range(table.n_stages):
        here = compute & (program.stage == stage)
        parts = [lasted[here & (program.action == a)].sum() for a in (Action.I, Action.W)]
        share = parts[1] / sum(parts) if sum(parts) else 0.0
        f[stage] = _median(cells, "F", stage)
        full = _median(cells, "B", stage)
        i[stage] = _median(cells, "I", stage) or full * (1 - share)
        w[stage] = _median(cells, "W", stage) or full * share
    blocks = [(key[1], key[2], times) for key, times in cells.items() if key[0] == "FB"]
    fb = None
    if blocks:
        alone = f[:, None] + (i + w)[None, :]
        gains = [t / alone[a, b] for a, b, times in blocks if alone[a, b] for t in times]
        fb = float(np.median(gains)) * alone if gains else alone
        for a, b, times in blocks:
            fb[a, b] = np.median(times)
    sends = lasted[first & (program.action == Action.P2P)]
    return Costs(f, i, w, fb, float(np.median(sends)) if len(sends) else 0.0)


_Times = dict[tuple[str, int, int], list[float]]


def _cell_times(table: Table, timeline: Timeline, peers: int) -> _Times:
    """Seconds of the cells of each (kind, stage, stage of a block's backward)."""
    program = timeline.program
    mine = (program.rank % peers == 0) & (program.block >= 0) & (program.action != Action.P2P)
    rows = np.flatnonzero(mine)
    cells = [cell for row in table.rows for cell in row]
    start = np.full(len(cells), np.iinfo(np.int64).max)
    end = np.zeros(len(cells), np.int64)
    np.minimum.at(start, program.block[rows], timeline.start_ns[rows])
    np.maximum.at(end, program.block[rows], timeline.end_ns[rows])
    # Transfers of a cell may begin while the rank still computes the one before it.
    bounds = np.cumsum([0, *map(len, table.rows)]).tolist()
    for first, last in pairwise(bounds):
        before = np.maximum.accumulate(end[first:last])[:-1]
        start[first + 1 : last] = np.maximum(start[first + 1 : last], before)
    lasted = np.maximum(end - start, 0) / 1e9
    found: _Times = {}
    for cell, seconds in zip(cells, lasted.tolist(), strict=True):
        if isinstance(cell, Overlap):
            key = ("FB", cell.f.stage, cell.b.stage)
        else:
            key = (cell.kind, cell.stage, -1)
        found.setdefault(key, []).append(seconds)
    return found


def _median(cells: _Times, kind: str, stage: int) -> float:
    times = cells.get((kind, stage, -1))
    return float(np.median(times)) if times else 0.0
