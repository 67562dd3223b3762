"""The schedules by name: what each needs, how it is built, what is known of it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from simdeep.errors import InputError, Problem
from simdeep.program.schedule import closed_forms
from simdeep.program.schedule.closed import ClosedForm, Size
from simdeep.program.schedule.dualpipe import build_dualpipe
from simdeep.program.schedule.dualpipev import build_dualpipev
from simdeep.program.schedule.gpipe import build_gpipe
from simdeep.program.schedule.interleaved import build_interleaved
from simdeep.program.schedule.interleaved_overlap import build_interleaved_overlap
from simdeep.program.schedule.interleaved_zb import build_interleaved_zb
from simdeep.program.schedule.onef1b import build_1f1b
from simdeep.program.schedule.pair import build_pair
from simdeep.program.schedule.table import Table
from simdeep.program.schedule.v_schedules import build_v_half, build_v_min
from simdeep.program.schedule.zb1p import build_zb1p
from simdeep.program.schedule.zb_h2 import build_zb_h2
from simdeep.program.schedule.zbv import build_zbv
from simdeep.spec.schedules import SCHEDULE_RULES, ScheduleRule, canonical_schedule


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
    default_vpp: int = 1

    def problems(self, size: Size) -> tuple[Problem, ...]:
        """Every constraint that the size breaks."""
        found = (constraint.problem(self.name, size) for constraint in self.constraints)
        return tuple(problem for problem in found if problem)

    def vpp_or_own(self, vpp: int) -> int:
        """`vpp` if the schedule can have as many stages a rank, else its own number."""
        size = Size(1, 1, vpp)
        takes = all(c.holds(size) for c in self.constraints if c.key == "vpp")
        return vpp if takes else self.default_vpp

    def build(self, size: Size) -> Table:
        """The table; raises InputError with every constraint broken."""
        problems = self.problems(size)
        if problems:
            raise InputError(problems)
        with _no_collection():
            return self.make(size)


@contextmanager
def _no_collection() -> Iterator[None]:
    """A table is a hundred thousand tuples without a cycle: looking for one doubles its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _even_around(number: int) -> str:
    return f"{number + 1}" if number < 2 else f"{number - 1} or {number + 1}"


def _constraints(rule: ScheduleRule) -> tuple[Constraint, ...]:
    """What a rule asks, piece by piece, with what would be allowed."""
    each, even = rule.microbatches_per_rank, ", even" if rule.even_microbatches else ""
    found = [
        Constraint("pp", "at least 1 rank", lambda s: s.pp >= 1, lambda s: "1 or more"),
        Constraint(
            "microbatches",
            "at least 1 micro-batch",
            lambda s: s.microbatches >= 1,
            lambda s: "1 or more",
        ),
    ]
    if rule.even_pp:
        found[0] = Constraint(
            "pp",
            "an even number of ranks",
            lambda s: s.pp >= 2 and s.pp % 2 == 0,
            lambda s: "2 or more, even" if s.pp < 1 else _even_around(s.pp),
        )
    if each:
        found[1] = Constraint(
            "microbatches",
            f"at least {each} micro-batches for each rank",
            lambda s: s.microbatches >= max(each * s.pp, 1),
            lambda s: f"{each * s.pp} or more{even}",
        )
    if even:
        found.insert(
            1,
            Constraint(
                "microbatches",
                "an even number of micro-batches, half for each direction",
                lambda s: s.microbatches % 2 == 0,
                lambda s: _even_around(max(s.microbatches, 2 * s.pp + 1)),
            ),
        )
    found.append(
        Constraint("vpp", rule.vpp_words, lambda s: rule.takes_vpp(s.vpp), lambda s: rule.vpp_text)
    )
    return tuple(found)


def _entry(
    name: str, title: str, source: str, make: Callable[[Size], Table], closed: ClosedForm
) -> Schedule:
    rule = SCHEDULE_RULES[name]
    return Schedule(
        name, rule.aliases, title, source, make, _constraints(rule), closed, rule.default_vpp
    )


_PAIR = Schedule(
    name="pair",
    aliases=("fb-pair",),
    title="one overlapped forward and backward on one rank",
    source="github.com/deepseek-ai/profile-data",
    make=lambda size: build_pair(),
    constraints=(
        Constraint("pp", "exactly 1 rank", lambda s: s.pp == 1, lambda s: "1"),
        Constraint(
            "microbatches", "exactly 2 micro-batches", lambda s: s.microbatches == 2, lambda s: "2"
        ),
        Constraint("vpp", "one stage", lambda s: s.vpp == 1, lambda s: "1"),
    ),
    closed=None,
)

SCHEDULES: tuple[Schedule, ...] = (
    _entry(
        "gpipe",
        "GPipe: all forwards, then all backwards",
        "arXiv 1811.06965, section 2.3",
        lambda size: build_gpipe(size.pp, size.microbatches),
        closed_forms.GPIPE,
    ),
    _entry(
        "1f1b",
        "1F1B: one forward, one backward",
        "arXiv 2104.04473, section 2.2.1",
        lambda size: build_1f1b(size.pp, size.microbatches),
        closed_forms.ONE_F_ONE_B,
    ),
    _entry(
        "interleaved-1f1b",
        "Interleaved 1F1B: several stages a rank",
        "arXiv 2104.04473, section 2.2.2; Megatron-LM, torch 2.13",
        lambda size: build_interleaved(size.pp, size.microbatches, size.vpp),
        closed_forms.INTERLEAVED,
    ),
    _entry(
        "interleaved-1f1b-overlap",
        "Overlapped interleaved 1F1B: all-to-all hidden behind the other chunk",
        "Megatron-LM, combined_1f1b.py",
        lambda size: build_interleaved_overlap(size.pp, size.microbatches, size.vpp),
        closed_forms.INTERLEAVED_OVERLAP,
    ),
    _entry(
        "zb1p",
        "ZB1P (ZB-H1): weight gradients fill the cool-down, memory of 1F1B",
        "arXiv 2401.10241, section 2.3",
        lambda size: build_zb1p(size.pp, size.microbatches),
        closed_forms.ZB1P,
    ),
    _entry(
        "zb-h2",
        "ZB-H2: no bubble between a rank's start and end, twice the memory of 1F1B",
        "arXiv 2401.10241, section 2.3",
        lambda size: build_zb_h2(size.pp, size.microbatches),
        closed_forms.ZB_H2,
    ),
    _entry(
        "interleaved-zb",
        "Interleaved zero bubble: ZB1P on several stages a rank",
        "torch 2.13, ScheduleInterleavedZeroBubble",
        lambda size: build_interleaved_zb(size.pp, size.microbatches, size.vpp),
        closed_forms.INTERLEAVED_ZB,
    ),
    _entry(
        "zb-v",
        "ZB-V: two stages a rank in a V, no bubble, memory of 1F1B",
        "arXiv 2401.10241, section 6; torch 2.13",
        lambda size: build_zbv(size.pp, size.microbatches),
        closed_forms.ZB_V,
    ),
    _entry(
        "v-half",
        "V-Half: two stages a rank in a V, half the memory of 1F1B",
        "arXiv 2405.15362, section 3",
        lambda size: build_v_half(size.pp, size.microbatches),
        closed_forms.V_HALF,
    ),
    _entry(
        "v-min",
        "V-Min: two stages a rank in a V, a third of the memory of 1F1B",
        "arXiv 2405.15362, section 3",
        lambda size: build_v_min(size.pp, size.microbatches),
        closed_forms.V_MIN,
    ),
    _entry(
        "dualpipe",
        "DualPipe: from both ends, forwards overlapped with backwards",
        "arXiv 2412.19437, section 3.2.1; github.com/deepseek-ai/DualPipe",
        lambda size: build_dualpipe(size.pp, size.microbatches),
        closed_forms.DUALPIPE,
    ),
    _entry(
        "dualpipev",
        "DualPipeV: DualPipe folded in the middle, one copy of the parameters",
        "github.com/deepseek-ai/DualPipe, dualpipev.py; torch 2.13",
        lambda size: build_dualpipev(size.pp, size.microbatches),
        closed_forms.DUALPIPEV,
    ),
    _PAIR,
)

_BY_NAME = {entry.name: entry for entry in SCHEDULES}


def schedule_names() -> tuple[str, ...]:
    """The canonical names."""
    return tuple(entry.name for entry in SCHEDULES)


def find_schedule(name: str) -> Schedule:
    """The entry of a name or alias, torch's class names too, in any case.

    Raises:
        InputError: if there is none; it names the nearest.
    """
    pair = name.strip().lower().replace("_", "-") in (_PAIR.name, *_PAIR.aliases)
    canonical = _PAIR.name if pair else canonical_schedule(name)
    if canonical:
        return _BY_NAME[canonical]
    from difflib import get_close_matches

    known = [text for entry in SCHEDULES for text in (entry.name, *entry.aliases)]
    near = get_close_matches(name.lower(), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    message = f"no schedule {name!r}{hint} (there are {', '.join(schedule_names())})"
    raise InputError([Problem("", "schedule", message)])


def schedule_problems(name: str, pp: int, microbatches: int, vpp: int = 1) -> tuple[Problem, ...]:
    """What keeps a schedule from being built at a size; empty if nothing does."""
    return find_schedule(name).problems(Size(pp, microbatches, vpp))


def build_table(name: str, pp: int, microbatches: int, vpp: int = 1) -> Table:
    """The table of a schedule by name; raises InputError with everything that forbids it."""
    return find_schedule(name).build(Size(pp, microbatches, vpp))
