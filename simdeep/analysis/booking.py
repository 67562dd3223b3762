"""The books that an attribution is kept in: sums by part and rank, or the intervals themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdeep.analysis.blame import COMPUTING, DATA_PARALLEL, GROUPS, Part, PartCodes
from simdeep.program.columns import I64, Action


@dataclass(frozen=True, eq=False)
class IdlePieces:
    """Idle intervals of the ranks' compute streams by what they are booked under.

    Arrays of one length, by rank and start; `parts[code]` is the part. With the compute stream's
    own tasks they cover [0, makespan) of every rank once.
    """

    parts: tuple[Part, ...]
    code: I64
    rank: I64
    start_ns: I64
    end_ns: I64


class Book:
    """Sums of integer nanoseconds by part and rank while an attribution is computed."""

    def __init__(self, n_ranks: int, codes: PartCodes):
        self.n_ranks = n_ranks
        self.codes = codes
        self.ns = np.zeros(len(codes.parts) * n_ranks, np.int64)

    def interval(self, code: I64, rank: I64, start_ns: I64, end_ns: I64) -> None:
        """Book intervals, none of negative length."""
        self.add(code, rank, end_ns - start_ns)

    def add(self, code: I64, rank: I64, ns: I64) -> None:
        """Book lengths of time."""
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


class PieceBook(Book):
    """A book that keeps the intervals, not their sums."""

    def __init__(self, n_ranks: int, codes: PartCodes):
        super().__init__(n_ranks, codes)
        self._kept: list[tuple[I64, I64, I64, I64]] = []

    def interval(self, code: I64, rank: I64, start_ns: I64, end_ns: I64) -> None:
        """Keep the intervals that have a length."""
        there = end_ns > start_ns
        self._kept.append((code[there], rank[there], start_ns[there], end_ns[there]))

    def pieces(self) -> IdlePieces:
        """Every interval that was booked."""
        code, rank, start, end = (np.concatenate(c) for c in zip(*self._kept, strict=True))
        order = np.lexsort((start, rank))
        return IdlePieces(self.codes.parts, code[order], rank[order], start[order], end[order])


def _detail_order(part: Part) -> tuple[int, str]:
    """Actions in training order (F, I, W), everything else by name."""
    names = [a.name for a in Action]
    head = part.detail.split(".", maxsplit=1)[0]
    if part.group == DATA_PARALLEL:
        return names.index(head.upper()), ""
    return (names.index(head) if part.group == COMPUTING else 0), part.detail
