"""What is measured on single processes, and nothing else, before a pipeline is predicted."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from simdeep.program.schedule.actions import Kind

Part = tuple[int, int, int]
"""A rank (the core that stands for it: cores are not always alike), a stage, and of how many."""

Turnwise = Mapping[str, tuple[tuple[float, ...], ...]]
"""Seconds by what was timed: turn by turn, sample by sample."""


RESTED = " rested"
"""After the kind of an action that follows a wait: `F rested`. A core that has slept is slow at
first: it wakes up, and its caches have gone cold."""

REST_S = 5e-3
"""How long a core sleeps before an action is timed as rested."""

WAITED_S = 1e-3
"""From which wait on an action counts as rested."""

END = ("scale", "optimizer")
"""What ends a step: torch's division of gradients by the number of micro-batches, and AdamW."""


@dataclass(frozen=True)
class StageCosts:
    """A stage on one process.

    `samples` are seconds of F, B (both gradients at once), I, W, of F, B and I after a rest
    (`RESTED`), of `scale` and of `optimizer` (`END`), while other single processes computed the
    same beside it, one on each core that a run would use. `disturbed` says of each turn how much
    other work interfered (above 1: more than is let pass), `pace_s` how long the fixed piece of
    work took (see `calm`). `saved_bytes` is what one F keeps for its backward, `parameter_bytes`
    its weights.
    """

    samples: Turnwise
    disturbed: tuple[float, ...]
    pace_s: tuple[float, ...]
    saved_bytes: int
    parameter_bytes: int

    def of_turns(self, turns: Sequence[int]) -> StageCosts:
        """What these turns alone say."""
        return replace(
            self,
            samples={what: tuple(times[i] for i in turns) for what, times in self.samples.items()},
            disturbed=tuple(self.disturbed[i] for i in turns),
            pace_s=tuple(self.pace_s[i] for i in turns),
        )

    def all_s(self, what: str) -> list[float]:
        """The samples of all turns."""
        return list(itertools.chain.from_iterable(self.samples[what]))

    def median_s(self, what: str) -> float:
        """Median of the samples."""
        return statistics.median(self.all_s(what))

    def spread(self, what: str) -> float:
        """Standard deviation of the samples over their mean."""
        samples = self.all_s(what)
        return statistics.stdev(samples) / statistics.mean(samples) if len(samples) > 1 else 0.0


@dataclass(frozen=True)
class RuntimeCosts:
    """What a runtime takes beside computing, from a step of one rank on one process.

    `between_s` passes between two actions; `inside_s` is what an action of each kind takes longer
    in the runtime than by itself (emulated: what of its wait the stand-in computes); `before_s` and
    `after_s` come once a step.
    """

    between_s: float
    inside_s: Mapping[Kind, float]
    before_s: float
    after_s: float


def mean_costs(costs: Sequence[RuntimeCosts]) -> RuntimeCosts:
    """What several processes found of one runtime."""
    return RuntimeCosts(
        between_s=statistics.fmean(one.between_s for one in costs),
        inside_s={k: statistics.fmean(one.inside_s[k] for one in costs) for k in costs[0].inside_s},
        before_s=statistics.fmean(one.before_s for one in costs),
        after_s=statistics.fmean(one.after_s for one in costs),
    )


@dataclass(frozen=True)
class MessageCosts:
    """Seconds of a message of `size` bytes between two stages.

    `send_s` and `recv_s` of a core's time go into opening its ends. From when both are open it
    takes one of `passing_s` until its receiver is awake; in that time the threads that move it take
    `sender_s` and `receiver_s` of their cores' time.
    """

    size: int
    send_s: float = 0.0
    recv_s: float = 0.0
    passing_s: tuple[float, ...] = (0.0,)
    sender_s: float = 0.0
    receiver_s: float = 0.0


class CopyCosts(NamedTuple):
    """Seconds that a rank takes to add up its stages' gradients with the rank that has copies.

    `busy_s` of its core's time, and `idle_s` beside them.
    """

    busy_s: float
    idle_s: float


@dataclass(frozen=True)
class Overheads:
    """What pipelines of so many ranks spend beside computing.

    `messages` are by whether torch opens their ends or simdeep's runtime does. `copies` are by
    rank, none where no stage is held twice. `late_s` is how much longer a wait
    lasts than it was asked to (0 where computing is real); `shared_cores` all ranks have together
    (0: one each).
    """

    runtimes: Mapping[str, RuntimeCosts]
    messages: Mapping[bool, MessageCosts]
    copies: Mapping[int, CopyCosts]
    late_s: float
    shared_cores: int


@dataclass(frozen=True)
class Calibration:
    """Everything a prediction is made of; `at_once` single processes computed beside each other."""

    stages: Mapping[Part, StageCosts]
    overheads: Overheads
    at_once: int

    def of_turns(self, turns: Sequence[int]) -> Calibration:
        """With stages as these turns alone say."""
        stages = {part: costs.of_turns(turns) for part, costs in self.stages.items()}
        return replace(self, stages=stages)
