"""What chunks cost: each is run on its own by the engine, with its communication and its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simdeep.cost.memory import static_memory
from simdeep.cost.program import Machine, price_program
from simdeep.program.columns import I64, Action
from simdeep.program.lower.train import Effects, lower
from simdeep.program.schedule.actions import Act, Overlap
from simdeep.program.schedule.costs import F64, Costs
from simdeep.program.search import Placement, probe_table

if TYPE_CHECKING:
    from simdeep.engine.timeline import Timeline
    from simdeep.spec.scenario import Scenario


@dataclass(frozen=True, eq=False)
class ChunkCosts:
    """What a scenario's chunks cost under a placement.

    Attributes:
        costs: seconds of F, I, W and blocks by stage, and of the slowest transfer between ranks.
        after_f, after_i: bytes by stage that a chunk holds after its F, and after its I.
        static: bytes each rank holds all the time: parameters, gradients, optimizer, buffers.
        working: bytes by rank that a cell holds while it runs, more than at its start and end.
    """

    costs: Costs
    after_f: F64
    after_i: F64
    static: I64
    working: F64

    @property
    def fixed(self) -> F64:
        """Bytes of each rank that no order changes."""
        return self.static + self.working


def chunk_costs(scenario: Scenario, machine: Machine, placement: Placement) -> ChunkCosts:
    """Time every chunk, and every block a rank could run, alone on its rank; and their memory."""
    from simdeep.engine import compiled

    table = probe_table(placement)
    lowered = lower(folded(scenario), table, Effects(step_end=False))
    program = lowered.program
    timeline = compiled.run(price_program(program, machine))
    sends = program.action == Action.P2P
    took = timeline.end_ns - timeline.start_ns
    own = ~sends
    cells = sum(map(len, table.rows))
    first = np.full(cells, np.iinfo(np.int64).max)
    last = np.zeros(cells, np.int64)
    np.minimum.at(first, program.block[own], timeline.start_ns[own])
    np.maximum.at(last, program.block[own], timeline.end_ns[own])
    freed = np.bincount(program.block, program.mem_free, cells)
    taken = np.bincount(program.block, program.mem_take, cells)

    n = placement.n_stages
    seconds: dict[tuple[object, ...], list[float]] = {}
    held: dict[tuple[str, int], float] = {}
    cells_of = [(rank, cell) for rank, row in enumerate(table.rows) for cell in row]
    rank_before = -1
    for index, (rank, cell) in enumerate(cells_of):
        # What a cell adds to its rank's time: its first collective may run beside the one before.
        ended = int(last[index - 1]) if rank == rank_before else 0
        rank_before = rank
        key = (cell.f.stage, cell.b.stage) if isinstance(cell, Overlap) else (cell.kind, cell.stage)
        seconds.setdefault(key, []).append(float(last[index] - max(first[index], ended)) / 1e9)
        if isinstance(cell, Act):
            held[cell.kind, cell.stage] = float(taken[index] if cell.kind == "F" else freed[index])
    f, i, w = (np.array([np.mean(seconds[kind, s]) for s in range(n)]) for kind in "FIW")
    pair = f[:, None] + (i + w)[None, :]
    for a, b in ((a, b) for a in range(n) for b in range(n) if (a, b) in seconds):
        pair[a, b] = min(pair[a, b], max(float(np.mean(seconds[a, b])), f[a], i[b] + w[b]))
    after_f, after_i = (np.array([held[kind, s] for s in range(n)]) for kind in "FW")
    working = np.zeros(placement.n_ranks)
    for index, (rank, cell) in enumerate(cells_of):
        here = np.flatnonzero(program.block == index)
        steps = _running(timeline, here)
        stage = cell.f.stage if isinstance(cell, Overlap) else cell.stage
        known = {"F": after_f[stage], "I": max(after_i[stage] - after_f[stage], 0.0)}
        counted = known["F"] if isinstance(cell, Overlap) else known.get(cell.kind, 0.0)
        working[rank] = max(working[rank], steps - counted)
    p2p = float(took[sends].max(initial=0)) / 1e9
    static = static_memory(folded(scenario), lowered)
    parts = sum(static.parts.values(), start=np.zeros(placement.n_ranks, np.int64))
    return ChunkCosts(Costs(f, i, w, pair, p2p), after_f, after_i, parts, working)


def _running(timeline: Timeline, rows: I64) -> float:
    """Most bytes that these tasks hold at once above what was held before them."""
    program = timeline.program
    at = np.concatenate([timeline.end_ns[rows], timeline.start_ns[rows]])
    change = np.concatenate([-program.mem_free[rows], program.mem_take[rows]])
    order = np.lexsort((change, at))  # at equal times what is freed comes first
    return float(np.cumsum(change[order]).max(initial=0))


def folded(scenario: Scenario) -> Scenario:
    """The same step with one GPU standing for its peers: enough to compare orders."""
    if scenario.simulate.fold:
        return scenario
    return replace(scenario, simulate=scenario.simulate.model_copy(update={"fold": True}))
