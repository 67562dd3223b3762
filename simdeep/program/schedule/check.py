"""Refuses a wrong table, saying what is wrong where, with the grid and the faulty rows marked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simdeep.errors import InputError, Problem
from simdeep.program.schedule.actions import KINDS, Act, Overlap, acts_of
from simdeep.program.schedule.grid import render_order
from simdeep.program.schedule.replay import StuckError, replay
from simdeep.program.schedule.table import Table

_MOST_SHOWN = 12


class TableError(InputError):
    """A table that cannot be run; its text ends with `grid`, the table with its faults marked."""

    def __init__(self, problems: list[Problem], grid: str):
        super().__init__(problems)
        self.grid = grid

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.grid}"


@dataclass(frozen=True, slots=True)
class _Fault:
    rank: int
    index: int
    text: str


def check(table: Table) -> Table:
    """Return the table if it can be run; otherwise raise TableError with every fault found.

    Every stage runs the F of every micro-batch once, then either one B or one I and, later, one W,
    on the rank that holds the stage; and the rows can be run to their ends without waiting for
    each other in a circle. Of a window only what it has is checked.
    """
    faults = list(_shape(table)) or list(_cells(table)) or [*_once(table), *_order(table)]
    if not faults:
        try:
            replay(table)
        except StuckError as stuck:
            texts = str(stuck).splitlines()
            faults = [_Fault(*at, text) for at, text in zip(stuck.waiting, texts, strict=True)]
    if faults:
        raise _error(table, faults)
    return table


def _error(table: Table, faults: list[_Fault]) -> TableError:
    problems = [Problem(f"rank {f.rank}, cell {f.index}", "", f.text) for f in faults[:_MOST_SHOWN]]
    if len(faults) > _MOST_SHOWN:
        problems.append(Problem("", "", f"and {len(faults) - _MOST_SHOWN} more"))
    return TableError(problems, render_order(table, {(f.rank, f.index) for f in faults}))


def _shape(table: Table) -> Iterator[_Fault]:
    if table.n_stages < 1 or table.n_microbatches < 1:
        yield _Fault(0, 0, "the table has no stage or no micro-batch")
    elif table.directions < 1 or table.n_microbatches % table.directions:
        text = f"{table.n_microbatches} micro-batches over {table.directions} directions"
        yield _Fault(0, 0, f"{text} do not divide evenly")
    for ranks in table.stage_ranks:
        if len(ranks) != table.n_stages or not all(0 <= rank < table.n_ranks for rank in ranks):
            yield _Fault(0, 0, f"stages lie on ranks {ranks}, the table has {table.n_ranks} rows")


def _acts(table: Table) -> Iterator[tuple[int, int, Act]]:
    for rank, row in enumerate(table.rows):
        for index, cell in enumerate(row):
            for act in acts_of(cell):
                yield rank, index, act


def _cells(table: Table) -> Iterator[_Fault]:
    """Each action on its own: known, in range, on the rank of its stage."""
    for rank, row in enumerate(table.rows):
        for index, cell in enumerate(row):
            if isinstance(cell, Overlap) and (
                (cell.f.kind, cell.b.kind) != ("F", "B") or cell.f[1:] == cell.b[1:]
            ):
                yield _Fault(
                    rank,
                    index,
                    f"{cell}: a block is an F and the B of another chunk, in this order",
                )
    for rank, index, act in _acts(table):
        if act.kind not in KINDS:
            yield _Fault(rank, index, f"{act}: no such action; there are {', '.join(KINDS)}")
        elif not 0 <= act.stage < table.n_stages:
            yield _Fault(rank, index, f"{act}: stages are 0 to {table.n_stages - 1}")
        elif not 0 <= act.mb < table.n_microbatches:
            yield _Fault(rank, index, f"{act}: micro-batches are 0 to {table.n_microbatches - 1}")
        elif table.rank_of(act.stage, act.mb) != rank:
            holder = table.rank_of(act.stage, act.mb)
            yield _Fault(
                rank,
                index,
                f"{act}: stage {act.stage} of micro-batch {act.mb} is on rank {holder}",
            )


def _once(table: Table) -> Iterator[_Fault]:
    """Each action once; B, or I and W; nothing missing, windows aside."""
    seen: dict[Act, int] = {}
    for rank, index, act in _acts(table):
        if act in seen:
            yield _Fault(rank, index, f"{act} is there twice, first in cell {seen[act]}")
        seen.setdefault(act, index)
    for act, index in seen.items():
        kind, stage, mb = act
        rank = table.rank_of(stage, mb)
        if kind in ("I", "W") and Act("B", stage, mb) in seen:
            yield _Fault(rank, index, f"{act}: its chunk has a full backward as well")
    if table.window:
        return
    for mb in range(table.n_microbatches):
        for stage in range(table.n_stages):
            rank = table.rank_of(stage, mb)
            end = len(table.rows[rank]) - 1
            if Act("F", stage, mb) not in seen:
                yield _Fault(rank, end, f"{stage}F{mb} is missing")
            if Act("B", stage, mb) not in seen:
                parts = [a for a in (Act("I", stage, mb), Act("W", stage, mb)) if a not in seen]
                if len(parts) == 2:
                    yield _Fault(rank, end, f"{stage}B{mb} is missing")
                elif parts:
                    yield _Fault(rank, end, f"{parts[0]} is missing")


def _order(table: Table) -> Iterator[_Fault]:
    """On its rank a chunk's F comes before its I or B, and its I before its W."""
    place: dict[Act, tuple[int, int]] = {}
    for rank, index, act in _acts(table):
        place.setdefault(act, (rank, index))
    for act, (rank, index) in place.items():
        if act.kind == "F":
            continue
        before = Act("I" if act.kind == "W" else "F", act.stage, act.mb)
        if before in place and place[before][1] >= index:
            yield _Fault(rank, index, f"{act} comes before {before}")
