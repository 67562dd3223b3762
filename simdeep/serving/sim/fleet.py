"""What a request simulation is run on: units, requests, events of the timetable.

Plain numbers, no scenario: seconds come from `Grid`s, everything else is counts, tokens, bytes and
integer nanoseconds. Units of a fleet are numbered kind by kind in the order of `Fleet.kinds`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from simdeep.errors import SimdeepError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

NEVER = 2**62
"""A time (ns) that never comes."""


class Role(IntEnum):
    """What units of a kind do."""

    PREFILL = 0
    DECODE = 1
    MIXED = 2


class State(IntEnum):
    """Where a request is.

    `LOADING`: cached prefix on its way; `HELD`: prompt done, no row yet; `MOVING`: its KV crosses
    the network; `FETCHED`: its KV comes back from host memory.
    """

    AWAY = 0
    BACKLOG = 1
    LOADING = 2
    WAITING = 3
    PREFILLING = 4
    HELD = 5
    MOVING = 6
    ROW = 7
    SWAPPED = 8
    FETCHED = 9
    DONE = 10


class Event(IntEnum):
    """Kinds of events in the order in which those of one instant happen (then by number)."""

    FAIL = 3
    REPAIR = 4
    SCALE = 5
    ITERATION = 6
    MOVED = 7
    READY = 8
    ARRIVAL = 9
    START = 10


@dataclass(frozen=True, eq=False)
class Grid:
    """Seconds of a unit's iteration, [stale, prefill tokens, decode rows, context].

    Axes ascend. Between points seconds are multilinear; below an axis its first point counts, above
    it the last two go on in a line. `stale` is how far experts' popularity has moved (logits) since
    their placement. The slowest DP rank decides: its own numbers go in.
    """

    prefill_tokens: F64
    decode_rows: F64
    context: F64
    seconds: F64
    stale: F64 = field(default_factory=lambda: np.zeros(1))

    def __post_init__(self) -> None:
        shape = tuple(len(axis) for axis in self.axes)
        if self.seconds.shape != shape:
            raise SimdeepError(f"seconds have shape {self.seconds.shape}, their axes {shape}")
        if not (np.isfinite(self.seconds).all() and (self.seconds >= 0).all()):
            raise SimdeepError("seconds of an iteration must be finite and not negative")

    @property
    def axes(self) -> tuple[F64, F64, F64, F64]:
        """The axes in the order of `seconds`."""
        return self.stale, self.prefill_tokens, self.decode_rows, self.context

    @classmethod
    def linear(cls, base: float, per_token: float, per_row: float, per_context: float) -> Grid:
        """`base + per_token * prefill tokens + per_row * rows + per_context * context` seconds."""
        ends = np.array([0.0, 1e6])
        token, row, context = np.meshgrid(ends, ends, ends, indexing="ij")
        seconds = base + per_token * token + per_row * row + per_context * context
        return cls(ends, ends, ends, seconds[None])


@dataclass(frozen=True, eq=False)
class UnitKind:
    """Units that are all alike.

    A rank here is a DP rank: attention and KV cache of its own, all-to-all with the unit's others.

    Attributes:
        role: what they do.
        units: how many.
        nodes: nodes of a unit (ranks are spread over them in order).
        ranks: DP ranks of a unit.
        kv_tokens: tokens of KV cache a rank holds.
        max_rows: most sequences a rank decodes (0 in prefill units).
        chunk_tokens: most new tokens a rank processes in an iteration (0 in decode units); in mixed
            units decoding rows count too.
        equal_context: attending to so many KV tokens takes a prompt token as long as all else of
            it; chunks are then cut, and ranks balanced, by work (0: by tokens).
        max_prompts: most prompts a rank begins in an iteration (0: any number).
        grid: seconds of an iteration.
        node_bytes_per_s: network bandwidth of a node, one direction.
        rank_bytes_per_s: most that one KV transfer gets (the NICs of its rank).
        ram_bytes_per_s: prefix cache in host memory, read by one unit.
        ssd_bytes_per_s: prefix cache on disk, read by one unit.
        swap_bytes_per_s: between a rank's GPUs and host memory.
        draft_tokens: tokens drafted in a decode iteration (MTP).
        acceptance: chance that a drafted token is accepted, given those before it were.
        gpus: GPUs of a unit.
        first_on: units that serve at time zero (None: all).
    """

    role: Role
    units: int
    nodes: int
    ranks: int
    kv_tokens: int
    max_rows: int
    chunk_tokens: int
    grid: Grid
    equal_context: float = 0.0
    max_prompts: int = 0
    node_bytes_per_s: float = 400e9
    rank_bytes_per_s: float = 50e9
    ram_bytes_per_s: float = 100e9
    ssd_bytes_per_s: float = 20e9
    swap_bytes_per_s: float = 25e9
    draft_tokens: int = 0
    acceptance: float = 0.0
    gpus: int = 8
    first_on: int | None = None


@dataclass(frozen=True)
class Cache:
    """The prefix cache: shared by the deployment, least recently used goes first.

    What falls out of `ram_tokens` goes to `ssd_tokens`, what falls out of that is gone. With
    `by_prefix` false every request brings its own `cached_tokens`, read from `tier`.
    """

    by_prefix: bool = False
    ram_tokens: int = 0
    ssd_tokens: int = NEVER
    block_tokens: int = 64
    latency_ns: int = 0
    tier: int = 1  # 0 RAM, 1 SSD


@dataclass(frozen=True)
class Timed:
    """An entry of the timetable: a unit fails, is repaired, or is switched on (`on`) or off."""

    at_ns: int
    event: Event
    unit: int
    on: bool = False


@dataclass(frozen=True, eq=False)
class Fleet:
    """A deployment as the simulation sees it.

    Attributes:
        kinds: prefill and decode units, or mixed ones.
        kv_bytes: bytes of KV cache a token.
        move_latency_ns: before the first byte of a KV transfer.
        swap: a row that finds the KV cache full goes to host memory (else its prompt is redone).
        by_rows: decode balances rows (else KV tokens) over units and ranks.
        watermark: share of a rank's KV cache that admission leaves free for rows to grow into.
        cache: prefix cache.
        rebalance_ns: between placements of experts.
        phase_ns: time since the last placement when the simulation begins.
        drift: how far popularity moves in that time (logits).
        pause_ns: a unit stands still at each placement.
        timed: timetable, by time.
        sample_ns: between samples of the state.
        measure_ns: from when to when the gaps between tokens are counted.
        end_ns: the simulation stops here, or when all requests are done.
        seed: of acceptance draws.
    """

    kinds: tuple[UnitKind, ...]
    kv_bytes: float = 70272.0
    move_latency_ns: int = 0
    swap: bool = False
    by_rows: bool = False
    watermark: float = 0.0
    cache: Cache = Cache()
    rebalance_ns: int = NEVER
    phase_ns: int = 0
    drift: float = 0.0
    pause_ns: int = 0
    timed: tuple[Timed, ...] = ()
    sample_ns: int = 1_000_000_000
    measure_ns: tuple[int, int] = (0, NEVER)
    end_ns: int = NEVER
    seed: int = 0

    @property
    def n_units(self) -> int:
        """Units of all kinds."""
        return sum(kind.units for kind in self.kinds)

    def kind_of(self) -> I64:
        """Index of each unit's kind."""
        return np.repeat(np.arange(len(self.kinds)), [kind.units for kind in self.kinds])


@dataclass(frozen=True, eq=False)
class Requests:
    """What arrives, one entry a request, by arrival time.

    Attributes:
        arrival_ns: when.
        input_tokens: prompt, cached part included.
        output_tokens: to generate, at least 1.
        cached_tokens: prompt tokens found in the prefix cache (used if it is not by prefix).
        prefix: number of the prompt's prefix, -1 for none.
        prefix_tokens: tokens of that prefix.
        delivered: tokens generated before the simulation begins: such a request starts as a row.
    """

    arrival_ns: I64
    input_tokens: I32
    output_tokens: I32
    cached_tokens: I32
    prefix: I32
    prefix_tokens: I32
    delivered: I32

    @property
    def n(self) -> int:
        """Number of requests."""
        return len(self.arrival_ns)

    @classmethod
    def of(cls, arrival_ns: Any, input_tokens: Any, output_tokens: Any, **more: Any) -> Requests:
        """Requests without cached prefixes unless given."""
        arrival = np.asarray(arrival_ns, np.int64)
        plain = {name: np.zeros(len(arrival), np.int32) for name in ("cached_tokens", "delivered")}
        plain["prefix"] = np.full(len(arrival), -1, np.int32)
        plain["prefix_tokens"] = np.asarray(input_tokens, np.int32)
        plain |= {name: np.asarray(value, np.int32) for name, value in more.items()}
        return cls(
            arrival,
            np.asarray(input_tokens, np.int32),
            np.asarray(output_tokens, np.int32),
            **plain,
        )
