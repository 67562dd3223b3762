"""A search task as flat arrays, and tables as rows of integer codes, for the compiled kernels.

A chunk c = direction * stages + stage is one stage for the micro-batches of one direction. The
micro-batches of a direction are alike, so some best order runs each chunk's forwards, and its input
gradients, in order of micro-batches: exchanging two that are out of order never delays what
follows. A row then only says which chunk does what next. With C chunks, code c is a forward, C + c
an input gradient, 2C + c the oldest weight gradient still to do, 3C + c a full backward, and
4C + f * C + b a block of the forward of chunk f with the full backward of chunk b. Full backwards
are used where the weight gradient's inputs take more memory than what the input gradient frees;
elsewhere an input gradient followed by its weight gradient does the same and ends no later.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simdeep.program.schedule.actions import KINDS, Act, Cell, Overlap, acts_of
from simdeep.program.schedule.table import Table
from simdeep.program.search.problem import Task

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

NO_CHUNK = -1


class Flat(NamedTuple):
    """A task as arrays; indices are chunks, ranks or codes as the comments say."""

    n_ranks: int
    microbatches: int  # micro-batches of a direction
    rank: I64  # chunk -> rank
    stage: I64  # chunk -> stage
    before: I64  # chunk -> chunk whose forward it takes, or -1
    after: I64  # chunk -> chunk whose input gradient it takes, or -1
    wait_f: F64  # chunk -> transfer of its forward's input
    wait_i: F64  # chunk -> transfer of its input gradient's input
    took: F64  # code -> time
    code_f: I64  # code -> chunk of its forward, or -1
    code_i: I64  # code -> chunk of its input gradient, or -1
    code_w: I64  # code -> chunk of its weight gradient, or -1
    after_f: F64  # chunk -> bytes held between F and I
    after_i: F64  # chunk -> bytes held between I and W
    limit: F64  # rank -> bytes
    held_ptr: I64  # rank -> first entry of `held`
    held: I64  # chunks of rank after rank, deepest stage first
    block: npt.NDArray[np.bool_]  # [chunk of F][chunk of B]: a block that may be used


class Rows(NamedTuple):
    """Codes of every rank's row, padded to the longest; `length[rank]` of them count."""

    code: I32
    length: I64


def flatten(task: Task) -> Flat:
    """The arrays of a task."""
    place, costs = task.placement, task.costs
    directions, n = len(place.stage_ranks), place.n_stages
    chunks = directions * n
    stage = np.tile(np.arange(n), directions)
    rank = np.concatenate([np.asarray(ranks) for ranks in place.stage_ranks])
    index = np.arange(chunks)
    before = np.where(stage > 0, index - 1, NO_CHUNK)
    after = np.where(stage < n - 1, index + 1, NO_CHUNK)
    p2p = costs.transfer()
    single = np.tile(costs.single(n), directions)
    pair = np.tile(costs.pair(n), (directions, directions))
    f, b = np.divmod(np.arange(chunks * chunks), chunks)
    none = np.full(chunks, NO_CHUNK)
    after_f, after_i = (np.tile(size, directions) for size in task.activations.sizes(n))
    order = np.lexsort((index, -stage, rank))
    gains = np.tile(task.blocks_gain, (directions, directions))
    return Flat(
        n_ranks=place.n_ranks,
        microbatches=place.microbatches // directions,
        rank=rank,
        stage=stage,
        before=before,
        after=after,
        wait_f=np.where((before >= 0) & (rank[before] != rank), p2p, 0.0),
        wait_i=np.where((after >= 0) & (rank[np.minimum(after, chunks - 1)] != rank), p2p, 0.0),
        took=np.concatenate([*(single[KINDS.index(k)] for k in "FIWB"), pair.ravel()]),
        code_f=np.concatenate([index, none, none, none, f]),
        code_i=np.concatenate([none, index, none, index, b]),
        code_w=np.concatenate([none, none, index, index, b]),
        after_f=after_f,
        after_i=after_i,
        limit=task.activations.limits(place.n_ranks) * (1 + 1e-9),
        held_ptr=np.searchsorted(rank[order], np.arange(place.n_ranks + 1)),
        held=order,
        block=gains & (rank[:, None] == rank[None, :]),
    )


def encode(table: Table, flat: Flat) -> Rows:
    """The codes of a table, a block without gain as its parts."""
    chunks, n = len(flat.rank), table.n_stages
    lines = []
    for row in table.rows:
        line: list[int] = []
        for cell in row:
            acts = [(a.kind, table.direction_of(a.mb) * n + a.stage) for a in acts_of(cell)]
            if isinstance(cell, Overlap) and flat.block[acts[0][1], acts[1][1]]:
                line.append((4 + acts[0][1]) * chunks + acts[1][1])
                continue
            for kind, chunk in acts:
                apart = kind == "B" and flat.after_i[chunk] <= flat.after_f[chunk]
                line += [KINDS.index(k) * chunks + chunk for k in ("IW" if apart else kind)]
        lines.append(line)
    return pack(lines)


def pack(lines: list[list[int]]) -> Rows:
    """Rows from lists of codes."""
    code = np.full((len(lines), max(map(len, lines))), -1, np.int32)
    for rank, line in enumerate(lines):
        code[rank, : len(line)] = line
    return Rows(code, np.array([len(line) for line in lines], np.int64))


def decode(rows: Rows, task: Task, flat: Flat, name: str) -> Table:
    """The table of codes: each chunk's micro-batches in order, weight gradients oldest first."""
    place = task.placement
    chunks = len(flat.rank)
    lines = []
    for rank in range(place.n_ranks):
        # A chunk is on one rank, so these counters are its own.
        first = {c: c // place.n_stages * flat.microbatches for c in range(chunks)}
        next_f, next_i = dict(first), dict(first)
        late: dict[int, deque[int]] = {c: deque() for c in range(chunks)}
        line: list[Cell] = []
        for code in rows.code[rank, : rows.length[rank]].tolist():
            f, i, w = (int(c[code]) for c in (flat.code_f, flat.code_i, flat.code_w))
            forward = None
            if f >= 0:
                forward = Act("F", int(flat.stage[f]), next_f[f])
                next_f[f] += 1
            if forward and i < 0:
                line.append(forward)
            elif forward:
                line.append(Overlap(forward, Act("B", int(flat.stage[i]), next_i[i])))
                next_i[i] += 1
            elif i >= 0 and w >= 0:
                line.append(Act("B", int(flat.stage[i]), next_i[i]))
                next_i[i] += 1
            elif i >= 0:
                line.append(Act("I", int(flat.stage[i]), next_i[i]))
                late[i].append(next_i[i])
                next_i[i] += 1
            else:
                line.append(Act("W", int(flat.stage[w]), late[w].popleft()))
        lines.append(tuple(line))
    return Table(name, tuple(lines), place.n_stages, place.microbatches, place.stage_ranks)
