"""Which GPUs hold their peers up, by how much, and who waits for whom.

Peers are the ranks that do the same work for other data: all of one pipeline rank. A straggler's
compute takes longer than its peers' median, or its bytes take longer on its ports, and its peers
lose time to it in two ways:

* They wait for its compute. An idle gap of a compute stream is followed back through the transfers
  and meetings that filled it to the compute that ended last; if that was on a peer, the peer was
  waited for. Waiting for other pipeline ranks is the schedule's, not a straggler's.
* Its slow ports hold a collective up, which goes at the pace of its slowest member: by as much as
  that member's bytes take longer than the next one's, for each other member.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simdeep.analysis.blame import Blame, find_blame, stream_id, stream_rows
from simdeep.engine.timeline import Timeline
from simdeep.program.columns import I64, Kind, Priced

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Straggler:
    """One rank: seconds it computed, how slow it is next to its peers, and waiting.

    `slower_s` is its compute less the median of its peers; `links_slower_s` the same of the time of
    all bytes on a port, for the port where it is largest. `caused_s` is what its peers together
    waited for its compute, `held_s` how much longer their collectives took for its ports, hidden
    behind compute or not. `waited_s` is what it waited itself for the compute of peers, most of it
    (`most_s`) for rank `most_for` (-1: for none).
    """

    rank: int
    compute_s: float
    slower_s: float
    links_slower_s: float
    caused_s: float
    held_s: float
    waited_s: float
    most_for: int
    most_s: float

    @property
    def why(self) -> str:
        """What is slow about it: `compute`, `links`, or `nothing` if its peers are no faster."""
        if max(self.slower_s, self.links_slower_s) <= 0:
            return "nothing"
        return "compute" if self.slower_s >= self.links_slower_s else "links"


@dataclass(frozen=True, eq=False)
class Stragglers:
    """Compute and waiting of every rank, in nanoseconds (arrays over ranks).

    Attributes:
        peers: ranks that do the same work; rank r's peers are those with the same r // peers.
        compute_ns: time its compute ran, stretched by what ran beside it.
        slower_ns: `compute_ns` less the median of the rank's peers.
        links_slower_ns: time that all bytes through a port of the rank take, less the median of its
            peers, for the port where that is most; how much hides behind compute is not asked.
        caused_ns: what peers waited for this rank's compute, summed over them.
        held_ns: what its ports added to the collectives of others, summed over them.
        waited_ns: what the rank waited for the compute of peers.
        most_for, most_ns: the rank it waited for longest (-1: none), and how long.
    """

    peers: int
    compute_ns: I64
    slower_ns: I64
    links_slower_ns: I64
    caused_ns: I64
    held_ns: I64
    waited_ns: I64
    most_for: I64
    most_ns: I64

    @property
    def lost_ns(self) -> I64:
        """What others lost to each rank (`caused_ns` and `held_ns`), above its peers' median."""
        lost = self.caused_ns + self.held_ns
        return lost - _median_of_peers(lost, self.peers)

    def slowest(self, n: int = 10) -> tuple[Straggler, ...]:
        """The ranks that others lost most to, worst first (equal ones by number)."""
        order = np.argsort(-self.lost_ns, kind="stable")[:n]
        return tuple(self._of(rank) for rank in order.tolist())

    def _of(self, rank: int) -> Straggler:
        seconds = {
            name: float(getattr(self, f"{name}_ns")[rank]) / 1e9
            for name in ("compute", "slower", "links_slower", "caused", "held", "waited", "most")
        }
        return Straggler(
            rank=rank,
            most_for=int(self.most_for[rank]),
            **{f"{name}_s": value for name, value in seconds.items()},
        )


def find_stragglers(timeline: Timeline, peers: int, blame: Blame | None = None) -> Stragglers:
    """Measure every rank of an unfolded timeline.

    Args:
        timeline: what ran when.
        peers: ranks of one pipeline rank, which are numbered one after the other.
        blame: `find_blame(timeline)`, if already at hand.
    """
    program = timeline.program
    blame = blame or find_blame(timeline)
    n_ranks = program.n_ranks
    busy = np.flatnonzero((program.stream == stream_id(program)) & (program.kind == Kind.COMPUTE))
    rows, first = stream_rows(program, busy)
    begun, ended = timeline.start_ns[rows], timeline.end_ns[rows]
    compute = _sums(program.rank[rows], ended - begun, n_ranks)

    before = np.zeros_like(ended)
    before[1:] = np.where(first[1:], 0, ended[:-1])
    gap = np.flatnonzero(begun > before)
    culprit, waited = _waits(timeline, blame, rows[gap], before[gap])
    own = program.rank[rows[gap]].astype(np.int64)
    others = (culprit >= 0) & (culprit != own) & (culprit // peers == own // peers)
    own, culprit, waited = own[others], culprit[others], waited[others]

    most_for, most_ns = _longest(own, culprit, waited, n_ranks)
    return Stragglers(
        peers=peers,
        compute_ns=compute,
        slower_ns=compute - _median_of_peers(compute, peers),
        links_slower_ns=_slowest_port(timeline.priced, peers),
        caused_ns=_sums(culprit, waited, n_ranks),
        held_ns=_held_up(timeline.priced),
        waited_ns=_sums(own, waited, n_ranks),
        most_for=most_for,
        most_ns=most_ns,
    )


def _waits(timeline: Timeline, blame: Blame, rows: I64, low: I64) -> tuple[I64, I64]:
    """For each row that started late: the rank whose compute it waited for (-1), and how long.

    Time since `low` counts while no transfer of the chain of causes ran. All gaps walk back
    together, one cause a turn.
    """
    program = timeline.program
    start_ns, end_ns = timeline.start_ns, timeline.end_ns
    culprit = np.full(len(rows), -1, np.int64)
    waited = start_ns[rows] - low
    until, at, gap = start_ns[rows].copy(), rows.copy(), np.arange(len(rows))
    while len(gap):
        at = blame.cause[at]
        known = at >= 0
        gap, at, low, until = gap[known], at[known], low[known], until[known]
        computes = program.kind[at] == Kind.COMPUTE
        culprit[gap[computes]] = program.rank[at[computes]]
        to = np.clip(end_ns[at], low, until)
        since = np.clip(start_ns[at], low, to)
        waited[gap] -= np.where(computes, 0, to - since)
        go = ~computes & (since > low)
        # What moved all through the gap is nobody's fault.
        gap, at, low, until = gap[go], at[go], low[go], since[go]
    return culprit, waited


def _slowest_port(priced: Priced, peers: int) -> I64:
    """For each rank how much longer bytes take on a port than its peers' median, at most."""
    used = priced.port >= 0
    ns = np.bincount(priced.port[used], weights=priced.port_ns[used], minlength=priced.n_ports)
    # Ports of a rank are numbered one after the other: [pipeline ranks, peers, ports].
    by_port = ns.reshape(priced.program.n_ranks // peers, peers, -1)
    slower: F64 = (by_port - np.median(by_port, axis=1, keepdims=True)).max(axis=2, initial=0.0)
    return np.rint(slower).astype(np.int64).ravel()


def _held_up(priced: Priced) -> I64:
    """For each rank what its ports added to collectives: over the next slowest member's time."""
    program = priced.program
    moves = np.flatnonzero((program.group >= 0) & (program.kind == Kind.TRANSFER))
    held = np.zeros(program.n_ranks, np.int64)
    if not len(moves):
        return held
    group, port_ns = program.group[moves], priced.port_ns[moves]
    port = port_ns.argmax(axis=1)
    own = np.take_along_axis(port_ns, port[:, None], axis=1)[:, 0]
    slowest, second = np.zeros((2, int(group.max()) + 1))
    np.maximum.at(slowest, group, own)
    leads = own == slowest[group]
    np.maximum.at(second, group[~leads], own[~leads])
    leaders, members = (np.bincount(g, minlength=len(slowest)) for g in (group[leads], group))
    alone = leads & (leaders[group] == 1) & (own > 0)
    row, of = moves[alone], group[alone]
    # Ports of a rank are numbered one after the other; a dead NIC's traffic is its carrier's.
    owner = priced.port[row, port[alone]] // (priced.n_ports // program.n_ranks)
    longer = (slowest[of] - second[of]) * (members[of] - 1)
    return held + _sums(owner, np.rint(longer).astype(np.int64), program.n_ranks)


def _sums(rank: npt.NDArray[np.signedinteger], ns: I64, n_ranks: int) -> I64:
    # Float sums of integers are exact below 2**53 ns (104 days); bincount knows no integers.
    return np.bincount(rank, weights=ns, minlength=n_ranks).astype(np.int64)


def _longest(own: I64, culprit: I64, waited: I64, n_ranks: int) -> tuple[I64, I64]:
    """For each rank the one it waited for longest in all, and how long."""
    pairs, index = np.unique(own * n_ranks + culprit, return_inverse=True)
    total = _sums(index, waited, len(pairs))
    # The last assignment to a rank stays: that of its largest total, of equal ones the lowest rank.
    order = np.lexsort((-pairs, total))
    most_for, most_ns = np.full(n_ranks, -1, np.int64), np.zeros(n_ranks, np.int64)
    most_for[pairs[order] // n_ranks] = pairs[order] % n_ranks
    most_ns[pairs[order] // n_ranks] = total[order]
    return most_for, most_ns


def _median_of_peers(ns: I64, peers: int) -> I64:
    median = np.median(ns.reshape(-1, peers), axis=1)
    return np.repeat(np.rint(median).astype(np.int64), peers)
