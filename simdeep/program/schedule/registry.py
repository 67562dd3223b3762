"""The schedules by name: what each needs, how it is built, what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simdeep.errors import InputError, Problem
from simdeep.program.schedule import closed
from simdeep.program.schedule.closed import ClosedForm
from simdeep.program.schedule.dualpipe import build_dualpipe
from simdeep.program.schedule.onef1b import build_1f1b
from simdeep.program.schedule.pair import build_pair
from simdeep.program.schedule.table import Table
from simdeep.program.schedule.zb1p import build_zb1p


@dataclass(frozen=True, slots=True)
class Size:
    """What a table is built for: ranks, micro-batches, stages a rank."""

    pp: int
    microbatches: int
    vpp: int = 1


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule on a size. `key` is the field it is about; `allowed` says what would do instead."""

    key: str
    rule: str
    holds: Callable[[Size], bool]
    allowed: Callable[[Size], str]

    def problem(self, name: str, size: Size) -> Problem | None:
        """What to tell the user, or None if the rule holds."""
        if self.holds(size):
            return None
        value = getattr(size, self.key)
        text = f"{name} needs {self.rule}; {self.key} is {value}, allowed: {self.allowed(size)}"
        return Problem("", self.key, text)


@dataclass(frozen=True, slots=True)
class Schedule:
    """One entry of the registry. `make` is called with a size that meets `constraints`."""

    name: str
    aliases: tuple[str, ...]
    title: str
    source: str
    make: Callable[[Size], Table]
    constraints: tuple[Constraint, ...]
    closed: ClosedForm | None

    def problems(self, size: Size) -> tuple[Problem, ...]:
        """Every constraint that the size breaks."""
        found = (constraint.problem(self.name, size) for constraint in self.constraints)
        return tuple(problem for problem in found if problem)

    def build(self, size: Size) -> Table:
        """The table; raises InputError with every constraint broken."""
        problems = self.problems(size)
        if problems:
            raise InputError(problems)
        return self.make(size)


def _even_around(number: int) -> str:
    return f"{number + 1}" if number < 2 else f"{number - 1} or {number + 1}"


_SOME_RANKS = Constraint("pp", "at least 1 rank", lambda s: s.pp >= 1, lambda s: "1 or more")
_SOME_MICROBATCHES = Constraint(
    "microbatches", "at least 1 micro-batch", lambda s: s.microbatches >= 1, lambda s: "1 or more"
)
_ONE_STAGE = Constraint(
    "vpp", "one stage a rank and direction", lambda s: s.vpp == 1, lambda s: "1"
)
_PLAIN = (_SOME_RANKS, _SOME_MICROBATCHES, _ONE_STAGE)

_DUALPIPE = (
    Constraint(
        "pp",
        "an even number of ranks",
        lambda s: s.pp >= 2 and s.pp % 2 == 0,
        lambda s: "2 or more, even" if s.pp < 1 else _even_around(s.pp),
    ),
    Constraint(
        "microbatches",
        "an even number of micro-batches, half for each direction",
        lambda s: s.microbatches % 2 == 0,
        lambda s: _even_around(max(s.microbatches, 2 * s.pp + 1)),
    ),
    Constraint(
        "microbatches",
        "at least 2 micro-batches for each rank",
        lambda s: s.microbatches >= 2 * s.pp,
        lambda s: f"{2 * s.pp} or more, even",
    ),
    _ONE_STAGE,
)

_PAIR = (
    Constraint("pp", "exactly 1 rank", lambda s: s.pp == 1, lambda s: "1"),
    Constraint(
        "microbatches", "exactly 2 micro-batches", lambda s: s.microbatches == 2, lambda s: "2"
    ),
    _ONE_STAGE,
)

SCHEDULES: tuple[Schedule, ...] = (
    Schedule(
        name="1f1b",
        aliases=("schedule1f1b", "pipedream-flush"),
        title="1F1B: one forward, one backward",
        source="arXiv 2104.04473, section 2.2.1",
        make=lambda size: build_1f1b(size.pp, size.microbatches),
        constraints=_PLAIN,
        closed=closed.ONE_F_ONE_B,
    ),
    Schedule(
        name="zb1p",
        aliases=("zb-h1", "zbh1"),
        title="ZB1P (ZB-H1): weight gradients fill the cool-down, memory of 1F1B",
        source="arXiv 2401.10241, section 2.3",
        make=lambda size: build_zb1p(size.pp, size.microbatches),
        constraints=_PLAIN,
        closed=closed.ZB1P,
    ),
    Schedule(
        name="dualpipe",
        aliases=("dual-pipe",),
        title="DualPipe: from both ends, forwards overlapped with backwards",
        source="arXiv 2412.19437, section 3.2.1; github.com/deepseek-ai/DualPipe",
        make=lambda size: build_dualpipe(size.pp, size.microbatches),
        constraints=_DUALPIPE,
        closed=closed.DUALPIPE,
    ),
    Schedule(
        name="pair",
        aliases=("fb-pair",),
        title="one overlapped forward and backward on one rank",
        source="github.com/deepseek-ai/profile-data",
        make=lambda size: build_pair(),
        constraints=_PAIR,
        closed=None,
    ),
)

_BY_NAME = {alias: entry for entry in SCHEDULES for alias in (entry.name, *entry.aliases)}


def schedule_names() -> tuple[str, ...]:
    """The canonical names."""
    return tuple(entry.name for entry in SCHEDULES)


def find_schedule(name: str) -> Schedule:
    """The entry of a name or alias, in any case; raises InputError with the nearest name."""
    entry = _BY_NAME.get(name.strip().lower().replace("_", "-"))
    if entry:
        return entry
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), _BY_NAME, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    message = f"no schedule {name!r}{hint} (there are {', '.join(schedule_names())})"
    raise InputError([Problem("", "schedule", message)])


def schedule_problems(name: str, pp: int, microbatches: int, vpp: int = 1) -> tuple[Problem, ...]:
    """What keeps a schedule from being built at a size; empty if nothing does."""
    return find_schedule(name).problems(Size(pp, microbatches, vpp))


def build_table(name: str, pp: int, microbatches: int, vpp: int = 1) -> Table:
    """The table of a schedule by name; raises InputError with everything that forbids it."""
    return find_schedule(name).build(Size(pp, microbatches, vpp))
