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
    EXPOSED,
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
from simdeep.analysis.booking import Book, IdlePieces, PieceBook
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
    rows, first = _busy_rows(timeline)
    begun, ended = timeline.start_ns[rows], timeline.end_ns[rows]
    gap, before = _gaps(timeline, rows, first)

    book = Book(program.n_ranks, codes)
    _book_busy(book, timeline, rows)
    in_gap = _book_gaps(book, timeline, blame, rows[gap], before)
    _book_tails(book, timeline, rows, first)

    own = np.isin(program.action[rows], (Action.F, Action.I, Action.W))
    bubble = np.zeros(len(rows), np.int64)
    bubble[gap] = in_gap
    span, inside = _span(program, rows[own], begun[own], ended[own], np.cumsum(bubble), own)
    parts, ns = book.close()
    return Attribution(timeline.makespan_ns, parts, ns, inside, span)


def idle_pieces(timeline: Timeline, blame: Blame | None = None) -> IdlePieces:
    """Every idle moment of every compute stream, with the part `attribute` books it under.

    Args:
        timeline: what ran when.
        blame: `find_blame(timeline)`, if already at hand.
    """
    rows, first = _busy_rows(timeline)
    book = PieceBook(timeline.program.n_ranks, part_codes(timeline.program))
    gap, before = _gaps(timeline, rows, first)
    _book_gaps(book, timeline, blame or find_blame(timeline), rows[gap], before)
    _book_tails(book, timeline, rows, first)
    return book.pieces()


def _busy_rows(timeline: Timeline) -> tuple[I64, Bool]:
    """Tasks with work of the compute streams by rank, and where a new rank begins."""
    program = timeline.program
    busy = np.flatnonzero((program.stream == stream_id(program)) & (program.kind != Kind.SYNC))
    return stream_rows(program, busy)


def _gaps(timeline: Timeline, rows: I64, first: Bool) -> tuple[I64, I64]:
    """Which of the rows follow an idle time, and when that began."""
    before = np.zeros(len(rows), np.int64)
    before[1:] = np.where(first[1:], 0, timeline.end_ns[rows][:-1])
    gap = np.flatnonzero(timeline.start_ns[rows] > before)
    return gap, before[gap]


def _book_busy(book: Book, timeline: Timeline, rows: I64) -> None:
    program, codes = timeline.program, book.codes
    duration = timeline.end_ns[rows] - timeline.start_ns[rows]
    fixed = np.rint(timeline.priced.fixed_ns[rows]).astype(np.int64)
    launch = np.where(program.kind[rows] == Kind.COMPUTE, np.clip(fixed, 0, duration), 0)
    rank = program.rank[rows].astype(np.int64)
    book.add(codes.code[rows], rank, duration - launch)
    book.add(np.full(len(rows), codes.launch_gap), rank, launch)


def _book_gaps(book: Book, timeline: Timeline, blame: Blame, rows: I64, low: I64) -> I64:
    """Book the idle time from `low` to the start of each row; returns the bubble in each gap.

    All gaps walk back together, one cause a turn; `until` is how far each is still unbooked.
    """
    program, codes = timeline.program, book.codes
    start_ns, end_ns = timeline.start_ns, timeline.end_ns
    compute = stream_id(program)
    collective = (program.kind != Kind.COMPUTE) & ~is_data_parallel(program)
    bubble = np.zeros(len(rows), np.int64)

    def add(code: I64, begun: I64, ended: I64) -> None:
        book.interval(code, owner, begun, ended)
        bubble[gap] += np.where(code == codes.bubble, ended - begun, 0)

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
        add(waiting, to, until)
        add(np.where(program.kind[at] == Kind.SYNC, waiting, codes.code[at]), since, to)
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


def _book_tails(book: Book, timeline: Timeline, rows: I64, first: Bool) -> None:
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
    begun = np.maximum(timeline.start_ns[dp], covered)
    book.interval(codes.code[dp], rank, begun, np.maximum(timeline.end_ns[dp], begun))
    book.interval(np.full(len(dp), codes.bubble), rank, covered, begun)
    last = np.append(rank[1:] != rank[:-1], True)[: len(rank)]
    low[rank[last]] = np.maximum(reach[last], low[rank[last]])
    ranks = np.arange(program.n_ranks)
    end = np.full(len(ranks), makespan)
    book.interval(np.full(len(ranks), codes.bubble), ranks, low, end)


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
