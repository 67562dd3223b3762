"""Text of cells and CSV of tables, in the notation of torch.distributed.pipelining.

One CSV row a rank, one field a cell, such as `0F3`, `2I1`, `2W1`, `1B0` or
`(0F5;3B2)OVERLAP_F_B`. Empty fields are skipped: torch writes them where a rank waits.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import cast

from simdeep.errors import InputError, Problem
from simdeep.program.schedule.actions import Act, Cell, Kind, Overlap, acts_of
from simdeep.program.schedule.check import check
from simdeep.program.schedule.table import Table

_ACT = re.compile(r"([0-9]{1,6})([FIWB])([0-9]{1,6})")
_BLOCK = re.compile(r"\(([0-9]+F[0-9]+);([0-9]+B[0-9]+)\)OVERLAP_F_B")


def parse_cell(text: str) -> Cell:
    """The cell a text stands for: the inverse of `str`; raises InputError."""
    text = text.strip()
    block = _BLOCK.fullmatch(text)
    if block:
        return Overlap(_parse_act(block[1]), _parse_act(block[2]))
    return _parse_act(text)


def _parse_act(text: str) -> Act:
    match = _ACT.fullmatch(text)
    if not match:
        raise InputError(
            f"{text[:40]!r} is no action; write stage, F, I, W or B, micro-batch, as 2F0, "
            "or (0F5;3B2)OVERLAP_F_B"
        )
    return Act(cast(Kind, match[2]), int(match[1]), int(match[3]))


def to_csv(table: Table) -> str:
    """One line a rank, cells separated by commas."""
    return "".join(",".join(map(str, row)) + "\n" for row in table.rows)


def from_csv(text: str, *, name: str = "csv", place: str = "", window: bool = False) -> Table:
    """The table of a CSV text, checked; raises InputError naming line and field.

    Stages, micro-batches and the rank of each stage follow from the cells. `place` is the file
    name for messages; a CSV does not say that it is a `window`, so the caller must.
    """
    rows: list[tuple[Cell, ...]] = []
    problems: list[Problem] = []
    for line, fields in enumerate(csv.reader(io.StringIO(text)), start=1):
        row: list[Cell] = []
        for column, field in enumerate(fields, start=1):
            if field.strip():
                try:
                    row.append(parse_cell(field))
                except InputError as error:
                    where = f"{place}:{line}" if place else f"line {line}"
                    problems.append(Problem(where, f"field {column}", str(error)))
        rows.append(tuple(row))
    if not problems and not any(rows):
        problems.append(Problem(place, "", "no actions in it; one line a rank is wanted"))
    if problems:
        raise InputError(problems)
    n_stages, n_microbatches, stage_ranks = _placement(rows, place)
    return check(Table(name, tuple(rows), n_stages, n_microbatches, stage_ranks, window))


def _placement(
    rows: list[tuple[Cell, ...]], place: str
) -> tuple[int, int, tuple[tuple[int, ...], ...]]:
    """Stages, micro-batches and `Table.stage_ranks`, from where the cells are."""
    where: dict[tuple[int, int], int] = {}
    for rank, row in enumerate(rows):
        for cell in row:
            for act in acts_of(cell):
                where.setdefault((act.mb, act.stage), rank)
    n_microbatches = _count("micro-batch", (mb for mb, _ in where), place)
    n_stages = _count("stage", (stage for _, stage in where), place)
    paths = []
    for mb in range(n_microbatches):
        lacking = [stage for stage in range(n_stages) if (mb, stage) not in where]
        if lacking:
            message = f"micro-batch {mb} never visits stage {lacking[0]}"
            raise InputError([Problem(place, "", message)])
        paths.append(tuple(where[mb, stage] for stage in range(n_stages)))
    distinct = tuple(dict.fromkeys(paths))
    share = [distinct[mb * len(distinct) // n_microbatches] for mb in range(n_microbatches)]
    if share != paths:
        message = (
            f"micro-batches take {len(distinct)} ways over the ranks; each way must have an equal, "
            "contiguous share of them"
        )
        raise InputError([Problem(place, "", message)])
    return n_stages, n_microbatches, distinct


def _count(what: str, numbers: Iterable[int], place: str) -> int:
    seen = set(numbers)
    top = max(seen)
    if len(seen) != top + 1:
        missing = next(number for number in range(top) if number not in seen)
        message = f"has {what} {top} but no {what} {missing}"
        raise InputError([Problem(place, "", message)])
    return top + 1
