"""What expert routing makes of an iteration: the busiest GPU's rows, and copies over every port.

Each draw has its own popularity of experts. Replicas are placed by EPLB for that popularity; where
it has moved since (`stale`), tokens are drawn from the one it moved to. The slowest GPU decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simdeep.cost.moe import PairTraffic, PortLinks, dispatch_combine, from_dispatches
from simdeep.program.placement import Placement, by_slot, eplb_slots
from simdeep.program.placement.room import Room
from simdeep.program.routing.counts import Counts
from simdeep.program.routing.dispatches import from_counts
from simdeep.program.routing.draws import as_popularity, gate_tokens
from simdeep.program.routing.kernels import I16, I32
from simdeep.program.routing.popularity import Popularity, parse_popularity
from simdeep.serving.deployment import Unit
from simdeep.spec.model import MoeFfn

if TYPE_CHECKING:
    from simdeep.cost.moe import HopCopies

F64 = npt.NDArray[np.float64]

SAMPLE = 16_384
"""Tokens routed for a draw, over all ranks; counts of more or fewer follow from their shares."""

_COPIES = ("sent", "landed", "forwarded", "received")
_PORTS = ("ib_out", "ib_in", "nvl_out", "nvl_in")

_GRID = np.array([1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0])
"""Tokens of a GPU at which low-latency transfers are simulated; between them it is a line."""


@dataclass(frozen=True, slots=True)
class Known(Popularity):
    """A popularity that is given, not drawn: logs of the experts' odds."""

    logs: tuple[float, ...] = ()

    def odds(self, experts: int, rng: np.random.Generator) -> F64:
        """The given odds."""
        odds: F64 = np.exp(np.array(self.logs))
        return odds


@dataclass(frozen=True, eq=False)
class Draw:
    """One routing draw: where experts are and what share of the tokens each gets."""

    placement: Placement
    share: F64
    """[experts] of all (token, expert) pairs."""
    experts: I16
    """[tokens, topk] of the sample."""
    source: I32
    """[tokens] rank of each."""


@dataclass(frozen=True, slots=True, eq=False)
class Ports:
    """A low-latency transfer: seconds of each port [4, draws], of the last GPU, and fixed."""

    port_s: F64
    moving_s: F64
    fixed_s: float


@dataclass(frozen=True, slots=True)
class Routing:
    """What decides where tokens go, the GPUs apart: key of what units have in common."""

    moe: MoeFfn
    skew: float | str
    stale: float
    draws: int
    seed: int


def draws_of(unit: Unit) -> tuple[Draw, ...]:
    """The routing draws of a unit, placed by EPLB."""
    return _draws(_alike(unit))


@lru_cache(maxsize=4096)
def _alike(unit: Unit) -> Unit:
    """The unit with everything that routing does not hang on left at its default."""
    return Unit(
        role="decode",
        model=unit.model,
        topology=unit.topology,
        dp=unit.ep,
        ep=unit.ep,
        redundant=unit.redundant,
        shared=unit.shared,
        dispatch=unit.dispatch,
        skew=unit.skew,
        stale=unit.stale,
        draws=unit.draws,
        seed=unit.seed,
    )


@lru_cache(maxsize=64)
def _draws(unit: Unit) -> tuple[Draw, ...]:
    routing = Routing(_moe(unit), unit.skew, unit.stale, unit.draws, unit.seed)
    return tuple(_placed(unit, *routed) for routed in _routed(routing))


@lru_cache(maxsize=8)
def _routed(routing: Routing) -> tuple[tuple[F64, I16], ...]:
    """For each draw the experts' shares that EPLB knew, and the experts of the sample's tokens."""
    popularity = as_popularity(
        parse_popularity(routing.skew) if isinstance(routing.skew, str) else routing.skew
    )
    moe, found = routing.moe, []
    for number in range(routing.draws):
        rng = np.random.default_rng((routing.seed, 0x5E7, number))
        placed = np.log(popularity.odds(moe.experts, rng))
        now = placed + routing.stale * rng.standard_normal(moe.experts)
        # What EPLB knew are the loads of earlier tokens, not of those it serves.
        before, served = (
            gate_tokens(
                moe,
                1,
                SAMPLE,
                Known(popularity.kind, popularity.value, tuple(logs.tolist())),
                seed,
                number,
            )[0]
            for logs, seed in ((placed, routing.seed + 1), (now, routing.seed))
        )
        found.append((_shares(before, moe.experts), served))
    return tuple(found)


def _shares(experts: I16, number: int) -> F64:
    counts: F64 = np.bincount(experts.ravel(), minlength=number).astype(np.float64)
    shares: F64 = counts / counts.sum()
    return shares


def _placed(unit: Unit, before: F64, experts: I16) -> Draw:
    """A draw on the unit's GPUs, each of which sends as many of the sample's tokens."""
    moe = _moe(unit)
    per_node = min(unit.topology.gpus_per_node, unit.ep)
    if unit.shared_replicas:
        placement = _beside_shared(before, unit, per_node)
    else:
        room = Room(unit.ep, per_node, unit.slots_per_gpu, max(1, moe.n_groups))
        where = eplb_slots(before, room).astype(np.int32)
        placement = by_slot(where, moe.experts, per_node)
    tokens = max(1, SAMPLE // unit.ep)
    source = np.repeat(np.arange(unit.ep, dtype=np.int32), tokens)[: len(experts)]
    return Draw(placement, _shares(experts, moe.experts), experts[: len(source)], source)


def _beside_shared(load: F64, unit: Unit, per_node: int) -> Placement:
    """Experts and shared ones over all slots: the shared one is the expert with the largest load.

    It is placed as one more expert, every replica of which has the same share of all tokens.
    """
    moe = _moe(unit)
    routed = moe.experts + unit.redundant
    replica_room = Room(routed, 1, 1)
    order = eplb_slots(load, replica_room, hierarchical=False).ravel()
    slots = np.full(unit.slots_per_gpu * unit.ep, moe.experts)
    # Spread evenly, so that nodes have equally many shared replicas.
    at = np.linspace(0, len(slots) - 1, routed).round().astype(np.int64)
    slots[at] = order
    return by_slot(
        slots.reshape(unit.ep, unit.slots_per_gpu).astype(np.int32), moe.experts + 1, per_node
    )


def slot_tokens(unit: Unit, tokens: float) -> F64:
    """Rows of each GPU [draws, ranks] when every GPU sends `tokens`, with the noise of so many."""
    return _slot_tokens(_alike(unit), tokens)


@lru_cache(maxsize=256)
def _slot_tokens(unit: Unit, tokens: float) -> F64:
    moe = _moe(unit)
    total = tokens * unit.ep
    found = np.zeros((unit.draws, unit.ep))
    for i, draw in enumerate(draws_of(unit)):
        rng = np.random.default_rng((unit.seed, 0x10AD, i))
        mean = total * moe.topk * draw.share
        # A token picks an expert or not: binomial, its spread from one set of normals for all
        # sizes, so that more tokens never come out as fewer rows.
        noise = rng.standard_normal(moe.experts)
        counts = np.maximum(mean + noise * np.sqrt(mean * np.clip(1 - mean / total, 0, 1)), 0.0)
        counts *= total * moe.topk / counts.sum()
        if unit.shared_replicas:
            counts = np.append(counts, total)
        share = np.repeat(counts / draw.placement.replicas, draw.placement.replicas)
        found[i] = np.bincount(draw.placement.slot_rank, weights=share, minlength=unit.ep)
    return found


def expert_rows(unit: Unit, tokens: float, peers: int) -> F64:
    """Rows of experts [draws * peers] when every GPU sends `tokens`.

    They are those of as many GPUs, drawn anew for each draw, of the busiest one for one peer.
    """
    moe = _moe(unit)
    sent = tokens * (moe.topk + (1 if unit.shared_replicas else 0))
    if unit.ideal_network:
        return np.full(unit.draws * peers, sent)
    rows = slot_tokens(unit, tokens)
    if peers == 1:
        return np.asarray(rows.max(axis=1))
    return rows[np.arange(unit.draws)[:, None], _chosen(_alike(unit), peers)].ravel()


@lru_cache(maxsize=32)
def _chosen(unit: Unit, peers: int) -> npt.NDArray[np.int64]:
    """The simulated GPUs of each draw [draws, peers]."""
    rng = np.random.default_rng((unit.seed, 0xBEE2))
    return np.stack([rng.permutation(unit.ep)[:peers] for _ in range(unit.draws)])


@lru_cache(maxsize=32)
def _low_latency_grid(unit: Unit, direction: str) -> tuple[F64, F64, float]:
    """Ports [grid, 4, draws], moving time [grid, draws] and fixed time over tokens of a GPU."""
    links = links_of(unit)
    ports, moving, fixed = [], [], 0.0
    for tokens in _GRID:
        rows = slot_tokens(unit, float(tokens))
        pairs = np.repeat(rows[:, None, :] / unit.ep, unit.ep, axis=1)
        traffic = PairTraffic(min(unit.topology.gpus_per_node, unit.ep), pairs)
        found = dispatch_combine(
            traffic,
            links,
            "combine" if direction == "combine" else "dispatch",
            mode="low-latency",
            hidden=unit.model.hidden,
            dtype=unit.dispatch,
        )
        quick = float((found.alone_s - found.port_s.max(axis=0)).min())
        fixed = quick
        ports.append(found.port_s.max(axis=2))
        moving.append(found.finish_s.max(axis=1) - quick)
    return np.stack(ports), np.stack(moving), fixed


def low_latency(unit: Unit, tokens: float, direction: str) -> Ports:
    """A low-latency transfer when every GPU sends `tokens`."""
    if unit.ideal_network:
        return _ideal(unit, tokens, direction)
    ports, moving, fixed = _low_latency_grid(_alike(unit), direction)
    at = float(np.interp(tokens, _GRID, np.arange(len(_GRID))))
    low = min(int(at), len(_GRID) - 2)
    share = (tokens - _GRID[low]) / (_GRID[low + 1] - _GRID[low])
    share = max(share, 0.0)
    return Ports(
        ports[low] + share * (ports[low + 1] - ports[low]),
        moving[low] + share * (moving[low + 1] - moving[low]),
        fixed,
    )


def _ideal(unit: Unit, tokens: float, direction: str) -> Ports:
    """Payload alone, every copy over the NIC, as arXiv 2505.09343 sec 2.3.2 counts."""
    moe = _moe(unit)
    copies = tokens * (moe.topk + (1 if unit.shared_replicas else 0))
    size = 2.0 if direction == "combine" or unit.dispatch != "fp8" else 1.0
    seconds = copies * unit.model.hidden * size / unit.topology.nic_bw
    ports = np.zeros((4, unit.draws))
    ports[:2] = seconds
    return Ports(ports, np.full(unit.draws, seconds), 0.0)


@lru_cache(maxsize=32)
def _sample_copies(unit: Unit) -> HopCopies:
    """Copies of the sample over each hop of the high-throughput kernels."""
    counts = []
    draws = draws_of(unit)
    for draw in draws:
        count = Counts(draw.placement)
        count.add(draw.experts, draw.source)
        counts.append(count)
    tokens = len(draws[0].source) / unit.ep
    sent = np.full((len(draws), unit.ep), tokens)
    # Each draw has a placement of its own; only its counts by rank and node are used from here.
    each = [from_dispatches(from_counts([c], sent[:1])) for c in counts]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(e, name) for e in each])
        for name in (*_COPIES, *_PORTS, "tokens")
    }
    return replace(each[0], **joined)


def hop_copies(unit: Unit, tokens: float) -> HopCopies:
    """Copies over each hop when every GPU sends `tokens`: the sample's, in proportion."""
    sample = _sample_copies(_alike(unit))
    factor = tokens / float(sample.tokens[0, 0])
    scaled: dict[str, Any] = {
        name: getattr(sample, name) * factor for name in (*_COPIES, *_PORTS, "tokens")
    }
    return replace(sample, **scaled)


def links_of(unit: Unit) -> PortLinks:
    """The ports of a GPU."""
    topology = unit.topology
    return PortLinks(
        topology.nvlink_bw, topology.nic_bw, topology.nvlink_latency_s, topology.nic_latency_s
    )


def _moe(unit: Unit) -> MoeFfn:
    moe = unit.moe
    assert moe is not None
    return moe
