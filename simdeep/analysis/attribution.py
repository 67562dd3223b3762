"""Every moment of each rank's compute stream, booked under exactly one name.

Parts are integer nanoseconds and add up to the makespan on every rank. The rules:

* A compute task's span is *computing* (by action and component); its launch gaps (`fixed_ns`) are
  *launch gap*; the optimizer's own compute is *data parallel*.
* An idle gap is blamed on the dependency that ended last before the next task, followed back
  through syncs and transfers. While a blamed transfer ran, on whichever rank, the gap is *exposed
  communication* of its kind (or *data parallel*); while that chain waited for another rank's
  compute, it is *pipeline bubble*.
* A wait for a slower peer of the same stage in the rendezvous of a collective counts as that
  collective's communication, as a profiler shows it: it is imbalance, not the pipeline.
* After its last task a rank is in the bubble, except while data-parallel tasks of it run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.analysis.blame import (
    BUBBLE,
    COMPUTING,
    DATA_PARALLEL,
    EXPOSED,
    GROUPS,
    P2P,
    Blame,
    Bool,
    Part,
    PartCodes,
    find_blame,
    is_data_parallel,
    part_codes,
    stream_id,
    stream_rows,
)
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I64, Action, Kind, Program


@dataclass(frozen=True, eq=False)
class Attribution:
    """Where each rank's time went: `ns[part, rank]`, summing to `makespan_ns` over parts.

    `bubble_in_span_ns` (length ranks) is the part of the bubble between a rank's first and last
    F, I or W; `span_ns` the time from the start of the one to the end of the other.
    """

    makespan_ns: int
    parts: tuple[Part, ...]
    ns: I64
    bubble_in_span_ns: I64
    span_ns: I64

    @property
    def n_ranks(self) -> int:
        """Number of ranks."""
        return int(self.ns.shape[1])

    def group_ns(self, group: str) -> I64:
        """Nanoseconds of each rank (length ranks) in one of `GROUPS`."""
        rows = [i for i, part in enumerate(self.parts) if part.group == group]
        total: I64 = self.ns[rows].sum(axis=0)
        return total

    @property
    def bubble_ns(self) -> I64:
        """Pipeline bubble of each rank over the whole step."""
        return self.group_ns(BUBBLE)

    @property
    def exposed_comm_ns(self) -> I64:
        """Exposed communication of each rank, data-parallel traffic apart."""
        return self.group_ns(EXPOSED)

    def seconds_by_rank(self) -> dict[str, list[float]]:
        """For reports: part name to seconds of each rank, in the order of `GROUPS`."""
        return {str(p): (row / 1e9).tolist() for p, row in zip(self.parts, self.ns, strict=True)}


def attribute(timeline: Timeline, blame: Blame | None = None) -> Attribution:
    """Attribute every moment of [0, makespan] of every rank's compute stream.

    Args:
        timeline: what ran when.
        blame: `find_blame(timeline)`, if already at hand.
    """
    program = timeline.program
    blame = blame or find_blame(timeline)
    codes = part_codes(program)
    busy = np.flatnonzero((program.stream == stream_id(program)) & (program.kind != Kind.SYNC))
    rows, first = stream_rows(program, busy)
    begun, ended = timeline.start_ns[rows], timeline.end_ns[rows]
    before = np.zeros_like(ended)
    before[1:] = np.where(first[1:], 0, ended[:-1])
    gap = np.flatnonzero(begun > before)

    book = _Book(program.n_ranks, codes)
    _book_busy(book, timeline, rows)
    in_gap = _book_gaps(book, timeline, blame, rows[gap], before[gap])
    _book_tails(book, timeline, rows, first)

    own = np.isin(program.action[rows], (Action.F, Action.I, Action.W))
    bubble = np.zeros(len(rows), np.int64)
    bubble[gap] = in_gap
    span, inside = _span(program, rows[own], begun[own], ended[own], np.cumsum(bubble), own)
    parts, ns = book.close()
    return Attribution(timeline.makespan_ns, parts, ns, inside, span)


class _Book:
    """Sums of integer nanoseconds by part and rank while an attribution is computed."""

    def __init__(self, n_ranks: int, codes: PartCodes):
        self.n_ranks = n_ranks
        self.codes = codes
        self.ns = np.zeros(len(codes.parts) * n_ranks, np.int64)

    def add(self, code: I64, rank: I64, ns: I64) -> None:
        # Float sums of integers are exact below 2**53 ns (104 days); bincount knows no integers.
        sums = np.bincount(code * self.n_ranks + rank, weights=ns, minlength=len(self.ns))
        self.ns += sums.astype(np.int64)

    def close(self) -> tuple[tuple[Part, ...], I64]:
        """Parts that hold time, sorted for reports, and their sums."""
        ns = self.ns.reshape(-1, self.n_ranks)
        always = (self.codes.bubble, self.codes.launch_gap)
        used = [i for i in range(len(ns)) if i in always or ns[i].any()]
        parts = self.codes.parts
        used.sort(key=lambda i: (GROUPS.index(parts[i].group), _detail_order(parts[i])))
        return tuple(parts[i] for i in used), ns[used]


def _detail_order(part: Part) -> tuple[int, str]:
    """Actions in training order (F, I, W), everything else by name."""
    names = [a.name for a in Action]
    head = part.detail.split(".", maxsplit=1)[0]
    if part.group == DATA_PARALLEL:
        return names.index(head.upper()), ""
    return (names.index(head) if part.group == COMPUTING else 0), part.detail


def _book_busy(book: _Book, timeline: Timeline, rows: I64) -> None:
    program, codes = timeline.program, book.codes
    duration = timeline.end_ns[rows] - timeline.start_ns[rows]
    fixed = np.rint(timeline.priced.fixed_ns[rows]).astype(np.int64)
    launch = np.where(program.kind[rows] == Kind.COMPUTE, np.clip(fixed, 0, duration), 0)
    rank = program.rank[rows].astype(np.int64)
    book.add(codes.code[rows], rank, duration - launch)
    book.add(np.full(len(rows), codes.launch_gap), rank, launch)


def _book_gaps(book: _Book, timeline: Timeline, blame: Blame, rows: I64, low: I64) -> I64:
    """Book the idle time from `low` to the start of each row; returns the bubble in each gap.

    All gaps walk back together, one cause a turn; `until` is how far each is still unbooked.
    """
    program, codes = timeline.program, book.codes
    start_ns, end_ns = timeline.start_ns, timeline.end_ns
    compute = stream_id(program)
    collective = (program.kind != Kind.COMPUTE) & ~is_data_parallel(program)
    bubble = np.zeros(len(rows), np.int64)

    def add(code: I64, ns: I64) -> None:
        book.add(code, owner, ns)
        bubble[gap] += np.where(code == codes.bubble, ns, 0)

    gap = np.arange(len(rows))
    until, at = start_ns[rows], rows
    waiting = np.full(len(rows), codes.bubble)
    while len(gap):
        owner = program.rank[rows[gap]].astype(np.int64)
        waiting = _waiting_for(program, codes, blame, collective, at, waiting)
        at = blame.cause[at]
        known = at >= 0
        own_other = (program.rank[at] == owner) & (program.stream[at] != compute)
        through = known & ((program.kind[at] != Kind.COMPUTE) | own_other)
        to = np.where(through, np.clip(end_ns[at], low, until), low)
        since = np.where(through, np.clip(start_ns[at], low, to), low)
        add(waiting, until - to)
        add(np.where(program.kind[at] == Kind.SYNC, waiting, codes.code[at]), to - since)
        until = since
        go = through & (until > low)
        gap, at, until, low, waiting = gap[go], at[go], until[go], low[go], waiting[go]
    return bubble


def _waiting_for(
    program: Program, codes: PartCodes, blame: Blame, collective: Bool, at: I64, waiting: I64
) -> I64:
    """What the time before task `at` counts as, unless a transfer is found to have run then."""
    is_p2p = codes.code[at] == _p2p_code(codes)
    peer = blame.peer_wait[at] & collective[at] & ~is_p2p
    waiting = np.where(is_p2p, codes.bubble, waiting)
    return np.where(peer, codes.code[at], waiting)


def _p2p_code(codes: PartCodes) -> int:
    part = Part(EXPOSED, P2P)
    return codes.parts.index(part) if part in codes.parts else -1


def _book_tails(book: _Book, timeline: Timeline, rows: I64, first: Bool) -> None:
    """Book the time of each rank after its last task: data-parallel tasks, else bubble."""
    program, codes, makespan = timeline.program, book.codes, timeline.makespan_ns
    low = np.zeros(program.n_ranks, np.int64)
    last = np.append(first[1:], True)[: len(rows)]
    low[program.rank[rows[last]]] = timeline.end_ns[rows[last]]
    tail = is_data_parallel(program) & (program.kind != Kind.SYNC)
    tail &= timeline.end_ns > low[program.rank]
    dp = np.flatnonzero(tail)
    dp = dp[np.lexsort((dp, timeline.start_ns[dp], program.rank[dp]))]
    rank = program.rank[dp].astype(np.int64)
    # One running maximum serves all ranks if each rank's clock starts after the one before it.
    offset = rank * (makespan + 1)
    reach = np.maximum.accumulate(timeline.end_ns[dp] + offset) - offset
    covered = low[rank]
    same = np.flatnonzero(rank[1:] == rank[:-1]) + 1
    covered[same] = np.maximum(covered[same], reach[same - 1])
    ns = np.maximum(timeline.end_ns[dp] - np.maximum(timeline.start_ns[dp], covered), 0)
    book.add(codes.code[dp], rank, ns)
    ranks = np.arange(program.n_ranks)
    idle = makespan - low - np.bincount(rank, weights=ns, minlength=len(ranks)).astype(np.int64)
    book.add(np.full(len(ranks), codes.bubble), ranks, idle)


def _span(
    program: Program, rows: I64, begun: I64, ended: I64, bubble_sum: I64, own: Bool
) -> tuple[I64, I64]:
    """Span of each rank's F, I and W tasks, and the bubble inside it."""
    span, inside = np.zeros((2, program.n_ranks), np.int64)
    if len(rows):
        rank, bubble_sum = program.rank[rows], bubble_sum[own]
        head = np.flatnonzero(np.append(True, rank[1:] != rank[:-1]))
        tail = np.append(head[1:], len(rows)) - 1
        span[rank[head]] = ended[tail] - begun[head]
        inside[rank[head]] = bubble_sum[tail] - bubble_sum[head]
    return span, inside
