"""A small table that runs every chunk of a placement on its own, so that it can be timed."""

from __future__ import annotations

from simdeep.program.schedule.actions import Act, Cell, Overlap
from simdeep.program.schedule.table import Table
from simdeep.program.search.problem import Placement

ROUNDS = 2
"""Micro-batches each chunk is timed with: routing gives them different loads."""


def probe_table(placement: Placement) -> Table:
    """Rows of F, I, W and B of every chunk, and every block a rank could run, none waiting.

    A window whose micro-batches are only named apart: neighbouring stages use different ones, so
    that no cell needs what another cell makes. Not a schedule.
    """
    directions, stages = len(placement.stage_ranks), placement.n_stages
    per_way = 4 * ROUNDS
    rows: list[list[Cell]] = [[] for _ in range(placement.n_ranks)]
    held: list[list[tuple[int, int]]] = [[] for _ in rows]
    for way, ranks in enumerate(placement.stage_ranks):
        for stage, rank in enumerate(ranks):
            held[rank].append((way, stage))

    def mb(way: int, stage: int, turn: int, backward: bool) -> int:
        # Even and odd stages, and forwards and backwards of blocks, have micro-batches apart.
        return way * per_way + 4 * turn + 2 * backward + stage % 2

    for turn in range(ROUNDS):
        for rank, chunks in enumerate(held):
            for way, stage in chunks:
                number = mb(way, stage, turn, False)
                rows[rank] += [
                    Act("F", stage, number),
                    Act("I", stage, number),
                    Act("W", stage, number),
                    Act("B", stage, number),
                ]
            for way_f, f in chunks:
                for way_b, b in chunks:
                    forward = Act("F", f, mb(way_f, f, turn, False))
                    rows[rank].append(Overlap(forward, Act("B", b, mb(way_b, b, turn, True))))
    return Table(
        "probe",
        tuple(map(tuple, rows)),
        stages,
        directions * per_way,
        placement.stage_ranks,
        window=True,
    )
