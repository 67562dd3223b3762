"""The schedule replayed with least chunk times: the sharpest bound, one candidate at a time.

Chunks run in the table's order; each keeps its rank busy for what its compute and the transfers
inside it take alone on average, jitter included. A makespan is the longest of sums, so with average
times it is at most the average makespan; a single draw may fall short of that by as much as the sum
along the longest way falls short of its mean, for which six standard deviations are taken off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep import api
from simdeep.cost.collectives import point_to_point
from simdeep.planner.groups import Group
from simdeep.planner.replay_kernel import run_cells
from simdeep.program.schedule.actions import KINDS

if TYPE_CHECKING:
    from simdeep.program.schedule.table import Table
    from simdeep.spec.scenario import Scenario

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

SIGMAS = 6.0
_F, _I, _W, _B = (KINDS.index(kind) for kind in ("F", "I", "W", "B"))
_BLOCK = 4


@dataclass(frozen=True, eq=False)
class Cells:
    """A table's cells for the compiled loop."""

    row_ptr: I64
    kind: I64
    f_stage: I64
    f_mb: I64
    b_stage: I64
    b_mb: I64
    f_far: I64
    b_far: I64
    n_mb: int


@lru_cache(maxsize=128)
def cells_of(table: Table) -> Cells:
    """Cells in order; `far` is 1 where an input comes from another rank."""
    c = table.columns
    n = int(c.row_ptr[-1])
    forward = c.kind == _F
    kind = np.full(n, _F)
    kind[c.cell[~forward]] = c.kind[~forward]
    sides = []
    for chosen in (forward, ~forward):
        stage, mb = np.full(n, -1), np.full(n, 0)
        stage[c.cell[chosen]], mb[c.cell[chosen]] = c.stage[chosen], c.mb[chosen]
        sides.append((stage, mb))
    (f_stage, f_mb), (b_stage, b_mb) = sides
    kind[(f_stage >= 0) & (b_stage >= 0)] = _BLOCK
    rank = np.zeros(n, np.int64)
    rank[c.cell] = c.rank
    holder = np.array(table.stage_ranks)

    def far(stage: I64, mb: I64, step: int) -> I64:
        source = np.clip(stage + step, 0, table.n_stages - 1)
        way = mb * table.directions // table.n_microbatches
        away: I64 = (holder[way, source] != rank).astype(np.int64)
        return away

    return Cells(
        c.row_ptr.astype(np.int64),
        kind,
        f_stage,
        f_mb,
        b_stage,
        b_mb,
        far(f_stage, f_mb, -1),
        far(b_stage, b_mb, 1),
        table.n_microbatches,
    )


def replay_bound(
    scenario: Scenario,
    table: Table,
    group: Group,
    unit: dict[str, F64],
    end: tuple[F64, float],
) -> float:
    """Seconds a candidate's step takes at least.

    Args:
        scenario: the candidate.
        table: its schedule.
        group: its stages.
        unit: [kinds] average prices of its units, by name.
        end: seconds of its step end, [ranks] until gradients are reduced, and after that.
    """
    cells = cells_of(table)
    free = np.zeros(len(cells.row_ptr) - 1)
    chunk = _chunks(group, unit)
    left = run_cells(
        cells.row_ptr,
        cells.kind,
        cells.f_stage,
        cells.f_mb,
        cells.b_stage,
        cells.b_mb,
        cells.f_far,
        cells.b_far,
        cells.n_mb,
        chunk.busy,
        chunk.out,
        chunk.lead,
        chunk.pair,
        _send(scenario),
        free,
    )
    if left:
        return 0.0
    stages = len(group.counts)
    # Chunks on the longest way: those of one rank, and twice those of one micro-batch.
    on_way = cells.n_mb * stages / len(free) + 2 * stages
    spread = SIGMAS * float(np.sqrt(2 * on_way * (group.counts @ unit["variance"]).max()))
    reduce, after = end
    return max(float((free + reduce).max()) - spread, 0.0) + after


@dataclass(frozen=True, eq=False)
class _Chunks:
    """Seconds of chunks as `run_cells` takes them."""

    busy: F64
    out: F64
    lead: F64
    pair: F64


def _chunks(group: Group, u: dict[str, F64]) -> _Chunks:
    counts, repeats, last = group.counts, group.repeats, group.last
    attn_f, attn_i = np.maximum(u["attn_f"], u["ring_f"]), np.maximum(u["attn_i"], u["ring_i"])
    around_f, around_i = ((counts > 0) * u[name] for name in ("around_f", "around_i"))
    forward = counts @ (attn_f + u["ahead_f"] + u["mlp_f"] + u["behind_f"])
    f_busy = forward - u["behind_f"][last]
    # The transfer in front of a backward may run before the rank is free.
    lead = u["behind_i"][last]
    inputs = counts @ (u["mlp_i"] + u["ahead_i"] + attn_i + u["behind_i"]) - lead
    i_busy = counts @ (u["mlp_i"] + u["ahead_i"] + attn_i) + repeats @ u["behind_i"]
    w_busy = counts @ (u["attn_w"] + u["mlp_w"])
    inside = counts @ (u["mlp_i"] + np.maximum(u["mlp_w"], u["ahead_i"]) + attn_i)
    between = np.maximum(u["behind_i"], u["attn_w"])
    b_out = np.maximum(inside + repeats @ between, inputs)
    b_busy = inside + counts @ u["attn_w"] + repeats @ (between - u["attn_w"])
    f_compute = counts @ (u["attn_f"] + u["mlp_f"])
    b_compute = counts @ (u["attn_i"] + u["mlp_i"]) + w_busy
    beside = u["loss"][counts.sum(axis=0) > 0].min()
    # A block's first and last transfer may run beside other blocks.
    f_moved = np.maximum(counts @ u["comm_f"] - u["behind_f"][last], 0.0)
    b_moved = np.maximum(counts @ u["comm_i"] - lead, 0.0)
    pair = (f_compute + beside * f_moved)[:, None] + (b_compute + beside * b_moved)[None, :]
    out_f = forward - around_f.max(axis=1)
    drop = around_i.max(axis=1)
    return _Chunks(
        busy=np.stack([f_busy, i_busy, w_busy, b_busy]),
        out=np.stack([out_f, inputs, w_busy, b_out]) - np.stack([0 * drop, drop, 0 * drop, drop]),
        lead=np.maximum(lead - drop, 0.0),
        pair=pair,
    )


def _send(scenario: Scenario) -> float:
    """Seconds of a transfer between stages at least."""
    layout, train, machine = scenario.layout, scenario.train, api.machine_of(scenario)
    tokens = train.mbs * train.seq_len / layout.cp
    nbytes = tokens * scenario.model.hidden * 2.0 / (layout.tp if layout.sp else 1)
    near = layout.stage_size < scenario.topology.gpus_per_node
    ways = (True, False) if near else (False,)
    prices = [
        point_to_point(nbytes, machine.links, machine.calibration, same_node=way) for way in ways
    ]
    return min(float(p.alone_s) for p in prices)
