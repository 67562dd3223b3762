"""A lower bound on any order's goal: no order of this placement within memory can be shorter.

Relaxed are the orders of different ranks against each other. Kept are: what each micro-batch passes
through, that a rank does one thing at a time, and that memory lets only so many micro-batches of a
chunk be on their way. Every argument takes a chunk's forwards and input gradients in order of
micro-batches, which costs nothing (see `flat`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from simdeep.program.schedule.actions import KINDS
from simdeep.program.search.flat import F64, Flat, flatten
from simdeep.program.search.problem import Task


@dataclass(frozen=True, slots=True)
class Bound:
    """The largest of the bounds, which one it is, and all by name, in the unit of the costs."""

    value: float
    reason: str
    parts: dict[str, float]


def lower_bound(task: Task) -> Bound:
    """The bound of a task."""
    flat = flatten(task)
    least_f = _least_forward(task, flat)
    parts = {}
    work = _work(flat, least_f)
    if task.goal == "rank_span":
        parts["work of the busiest rank"] = float(work.max())
        parts["one micro-batch there and back"] = float(round_trip(flat).max())
    else:
        free = _Heads(flat, least_f, limited=False)
        limited = _Heads(flat, least_f, limited=True)
        parts["path of one micro-batch"] = free.path
        parts["fill, work and drain of a rank"] = free.ranks
        parts["memory of a rank"] = max(limited.path, limited.ranks)
    value = max(parts.values())
    close = value * (1 - 1e-12)
    reason = next(name for name, part in parts.items() if part >= close)
    return Bound(value, reason, parts)


def _least_forward(task: Task, flat: Flat) -> F64:
    """What a forward adds to its rank's work at least: in a block, the block less the backward."""
    chunks = len(flat.rank)
    pair = flat.took[4 * chunks :].reshape(chunks, chunks)
    i, w = flat.took[chunks : 2 * chunks], flat.took[2 * chunks : 3 * chunks]
    added = np.where(flat.block, pair - (i + w)[None, :], inf).min(axis=1)
    least: F64 = np.clip(np.minimum(flat.took[:chunks], added), 0.0, None)
    return least


def _work(flat: Flat, least_f: F64) -> F64:
    chunks = len(flat.rank)
    each = least_f + flat.took[chunks : 2 * chunks] + flat.took[2 * chunks : 3 * chunks]
    return np.bincount(flat.rank, each * flat.microbatches, flat.n_ranks).astype(np.float64)


def remainders(task: Task, flat: Flat) -> tuple[F64, F64, F64]:
    """What branch and bound needs: least work of a forward, and remainders after F and after I."""
    least_f = _least_forward(task, flat)
    paths = _Heads(flat, least_f, limited=True)
    return least_f, paths.tail_f, paths.tail_i


def round_trip(flat: Flat) -> F64:
    """From a chunk's forward to the end of its input gradient, of one micro-batch alone."""
    chunks = len(flat.rank)
    trip = np.zeros(chunks)
    for c in range(chunks - 1, -1, -1):
        trip[c] = flat.took[c] + flat.took[chunks + c]
        if flat.after[c] >= 0:
            trip[c] += trip[c + 1] + flat.wait_f[c + 1] + flat.wait_i[c]
    return trip


class _Heads:
    """Earliest starts and least remainders of every action, and what they say of the whole.

    Computed by longest paths: through the stages, along a chunk's micro-batches, and, if `limited`,
    from the end of the gradient that makes room to the forward that needs it.
    """

    def __init__(self, flat: Flat, least_f: F64, *, limited: bool):
        self.flat, self.least_f = flat, least_f
        chunks = len(flat.rank)
        self.f, self.i, self.w = (flat.took[k * chunks : (k + 1) * chunks] for k in range(3))
        self.room_i, self.room_w = self._room(limited)
        self.heads()
        self.tails()
        self.path = float(
            max((self.head_f + self.f[:, None] + self.tail_f).max(), self._with_weights().max())
        )
        self.ranks = max(self._one_rank(rank) for rank in range(flat.n_ranks))

    def _room(self, limited: bool) -> tuple[list[int], list[int]]:
        """How many micro-batches of a chunk alone may lack their I, and their W, at once."""
        flat, most = self.flat, self.flat.microbatches
        if not limited:
            return [most] * len(flat.rank), [most] * len(flat.rank)
        rooms: tuple[list[int], list[int]] = ([], [])
        for c, rank in enumerate(flat.rank.tolist()):
            both, late = flat.after_f[c], min(flat.after_f[c], flat.after_i[c])
            limit = flat.limit[rank]
            rooms[0].append(most if both * most <= limit else int(limit / both))
            # The last forward has all its bytes, the others that lack their W at least `late`.
            rooms[1].append(
                most if both + late * (most - 1) <= limit else 1 + int((limit - both) / late)
            )
        return rooms

    def heads(self) -> None:
        """`head_f`, `head_i` [chunk][how many-th]: when they can start at the earliest."""
        flat, n = self.flat, self.flat.microbatches
        chunks = len(flat.rank)
        head_f, head_i = np.zeros((chunks, n)), np.zeros((chunks, n))
        f, i, w, least = (x.tolist() for x in (self.f, self.i, self.w, self.least_f))
        wait_f, wait_i = flat.wait_f.tolist(), flat.wait_i.tolist()
        for k in range(n):
            for c in range(chunks):
                at = head_f[c - 1, k] + f[c - 1] + wait_f[c] if flat.before[c] >= 0 else 0.0
                if k:
                    at = max(at, head_f[c, k - 1] + least[c])
                back = k - self.room_i[c]
                if back >= 0:
                    # Its rank did k forwards and back + 1 input gradients before this one.
                    own = head_f[c, 0] + k * least[c] + (back + 1) * i[c]
                    at = max(at, own, head_i[c, back] + i[c])
                back = k - self.room_w[c]
                if back >= 0:
                    own = head_f[c, 0] + k * least[c] + (back + 1) * (i[c] + w[c])
                    at = max(at, own, head_i[c, back] + i[c] + w[c])
                head_f[c, k] = at
            for c in range(chunks - 1, -1, -1):
                if flat.after[c] >= 0:
                    at = head_i[c + 1, k] + i[c + 1] + wait_i[c]
                else:
                    at = head_f[c, k] + f[c]
                if k:
                    at = max(at, head_i[c, k - 1] + i[c])
                # Before its k-th I a rank did k + 1 forwards and k input gradients of the chunk.
                at = max(at, head_f[c, 0] + (k + 1) * least[c] + k * i[c])
                head_i[c, k] = at
        self.head_f, self.head_i = head_f, head_i

    def tails(self) -> None:
        """`tail_f`, `tail_i`: what at least follows from their end to the end of all."""
        flat, n = self.flat, self.flat.microbatches
        chunks = len(flat.rank)
        tail_f, tail_i = np.zeros((chunks, n)), np.zeros((chunks, n))
        f, i, w, least = (x.tolist() for x in (self.f, self.i, self.w, self.least_f))
        wait_f, wait_i = flat.wait_f.tolist(), flat.wait_i.tolist()
        for k in range(n - 1, -1, -1):
            for c in range(chunks):
                after = w[c]
                if flat.before[c] >= 0:
                    after = max(after, wait_i[c - 1] + i[c - 1] + tail_i[c - 1, k])
                if k < n - 1:
                    after = max(after, i[c] + tail_i[c, k + 1])
                # Its rank still has this chunk's later input gradients and weight gradients.
                after = max(after, (n - 1 - k) * (i[c] + w[c]) + w[c])
                for back, extra in ((k + self.room_i[c], 0.0), (k + self.room_w[c], w[c])):
                    if back < n:
                        after = max(after, extra + f[c] + tail_f[c, back])
                tail_i[c, k] = after
            for c in range(chunks - 1, -1, -1):
                if flat.after[c] >= 0:
                    after = wait_f[c + 1] + f[c + 1] + tail_f[c + 1, k]
                else:
                    after = i[c] + tail_i[c, k]
                if k < n - 1:
                    after = max(after, least[c] + tail_f[c, k + 1])
                tail_f[c, k] = after
        self.tail_f, self.tail_i = tail_f, tail_i

    def _with_weights(self) -> F64:
        ends: F64 = self.head_i + self.i[:, None] + self.tail_i
        return ends

    def _one_rank(self, rank: int) -> float:
        """The rank does one thing at a time: over all sets of actions that start no earlier than
        some time and leave no less than some remainder, start + work + remainder."""
        flat, n = self.flat, self.flat.microbatches
        mine = flat.held[flat.held_ptr[rank] : flat.held_ptr[rank + 1]]
        head = np.concatenate(
            [
                self.head_f[mine].ravel(),
                self.head_i[mine].ravel(),
                (self.head_i[mine] + self.i[mine, None]).ravel(),
            ]
        )
        tail = np.concatenate(
            [self.tail_f[mine].ravel(), self.tail_i[mine].ravel(), np.zeros(len(mine) * n)]
        )
        took = np.concatenate([np.repeat(x[mine], n) for x in (self.least_f, self.i, self.w)])
        order = np.argsort(-head, kind="stable")
        head, tail, took = head[order], tail[order], took[order]
        best = 0.0
        for floor in _floors(tail):
            kept = tail >= floor
            if kept.any():
                best = max(best, float((head[kept] + np.cumsum(took[kept])).max()) + floor)
        return best


_FLOORS = 48


def _floors(tail: F64) -> list[float]:
    """Remainders to try: all different ones, or an even choice of many."""
    values = np.unique(tail)
    if len(values) > _FLOORS:
        values = values[np.linspace(0, len(values) - 1, _FLOORS).round().astype(int)]
    found: list[float] = values.tolist()
    return found


assert KINDS[:3] == ("F", "I", "W")
