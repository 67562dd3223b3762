"""The pipeline schedules by name, and what each asks of ranks, stages and micro-batches.

Scenario files, the checks on them and the registry of tables (`program.schedule`) read the same
entries.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """What a pipeline schedule asks of a layout.

    Attributes:
        aliases: other names, besides torch's class name with or without `Schedule`.
        vpp: least and most stages on a rank (None: any number).
        even_pp: ranks come in pairs.
        even_microbatches: half of them for each of two directions.
        microbatches_per_rank: micro-batches needed for each rank; 0: one is enough in all.
        parameter_copies: ranks that hold the same stage.
    """

    aliases: tuple[str, ...] = ()
    vpp: tuple[int, int | None] = (1, 1)
    even_pp: bool = False
    even_microbatches: bool = False
    microbatches_per_rank: int = 0
    parameter_copies: int = 1

    @property
    def default_vpp(self) -> int:
        """Stages on a rank if nothing is said."""
        return self.vpp[0]

    def takes_vpp(self, vpp: int) -> bool:
        """Whether a rank may hold as many stages."""
        least, most = self.vpp
        return vpp >= least and (most is None or vpp <= most)

    @property
    def vpp_words(self) -> str:
        """Stages on a rank in words."""
        if self.vpp == (1, 1):
            return "one stage a rank" + (" and direction" if self.parameter_copies > 1 else "")
        return "two stages a rank, in a V" if self.vpp == (2, 2) else "several stages a rank"

    @property
    def vpp_text(self) -> str:
        """The numbers of stages on a rank that are allowed."""
        least, most = self.vpp
        return str(least) if least == most else f"{least} or more"


_LOOPED = (2, None)
_V = (2, 2)

SCHEDULE_RULES: dict[str, ScheduleRule] = {
    "gpipe": ScheduleRule(),
    "1f1b": ScheduleRule(("pipedream-flush",)),
    "interleaved-1f1b": ScheduleRule(("1f1b-interleaved", "1f1b-i", "vpp"), _LOOPED),
    "interleaved-1f1b-overlap": ScheduleRule(("1f1b-overlap",), _LOOPED),
    "zb1p": ScheduleRule(("zb-h1",)),
    "zb-h2": ScheduleRule(),
    "interleaved-zb": ScheduleRule(("interleaved-zero-bubble", "interleaved-zb1p"), _LOOPED),
    "zb-v": ScheduleRule(("zbv-zero-bubble", "v-zb"), _V),
    "v-half": ScheduleRule((), _V),
    "v-min": ScheduleRule((), _V),
    # Both directions must fill the pipeline: dualpipe.py asserts num_chunks >= num_ranks * 2.
    "dualpipe": ScheduleRule(
        even_pp=True, even_microbatches=True, microbatches_per_rank=2, parameter_copies=2
    ),
    "dualpipev": ScheduleRule(("dualpipe-v",), _V, microbatches_per_rank=2),
}
"""Rules by canonical name, in the order in which schedules are listed and compared."""


def _key(name: str) -> str:
    """Case, `-`, `_` and torch's `Schedule` in front do not matter."""
    return name.strip().lower().replace("-", "").replace("_", "").removeprefix("schedule")


_BY_KEY = {
    _key(text): name for name, rule in SCHEDULE_RULES.items() for text in (name, *rule.aliases)
}


def canonical_schedule(name: str) -> str | None:
    """The canonical name of a schedule, for any way of writing it; None if there is none."""
    return _BY_KEY.get(_key(name))
