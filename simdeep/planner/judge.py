"""One candidate simulated in full: its scenario, its step time and its memory."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from simdeep import api
from simdeep.analysis.memory import GIB, memory
from simdeep.cost.memory import static_memory
from simdeep.errors import InputError
from simdeep.planner.candidates import Candidates
from simdeep.planner.cuts import stages_of
from simdeep.program.lower.draws import Key, keep
from simdeep.program.lower.train import lower
from simdeep.program.schedule.registry import build_table
from simdeep.spec.layout import Layout
from simdeep.spec.scenario_schema import Price, TrainScenario

if TYPE_CHECKING:
    from simdeep.program.routing.loads import Loads
    from simdeep.program.schedule.table import Table
    from simdeep.spec.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Choice:
    """What a plan chooses; hashable, in words a scenario understands."""

    cluster: int
    tp: int
    pp: int
    vpp: int
    cp: int
    ep: int
    dp: int
    zero: int
    mbs: int
    schedule: str
    recompute: tuple[str, ...]
    comm_sms: int
    precision: str
    stages: str | tuple[int, ...]
    microbatches: int

    @classmethod
    def of(cls, candidates: Candidates, row: int) -> Choice:
        """The candidate in a row."""
        return cls(**{name: candidates.value(name, row) for name in cls.__dataclass_fields__})

    def overrides(self) -> dict[str, str]:
        """The same as values for `--set`."""
        recompute = f"[{', '.join(self.recompute)}]" if self.recompute else "none"
        stages = self.stages if self.stages == "auto" else list(self.stages)
        layout = {k: getattr(self, k) for k in ("tp", "pp", "vpp", "cp", "ep", "dp", "zero")}
        return {f"layout.{key}": str(value) for key, value in layout.items()} | {
            "layout.sp": str(self.tp > 1).lower(),
            "layout.stages": str(stages),
            "train.mbs": str(self.mbs),
            "train.schedule": self.schedule,
            "train.recompute": recompute,
            "train.comm_sms": str(self.comm_sms),
            "train.precision": self.precision,
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """What the engine says of a candidate: seconds of a step, GiB of the fullest rank."""

    choice: Choice
    step_time_s: float
    memory_peak_gib: float
    capacity_gib: float

    @property
    def headroom_gib(self) -> float:
        """Memory that the fullest rank leaves free."""
        return self.capacity_gib - self.memory_peak_gib


@dataclass(frozen=True, slots=True)
class Refusal:
    """A candidate that the simulator will not run, and why."""

    choice: Choice
    message: str


def scenario_of(base: Scenario, choice: Choice) -> Scenario:
    """The base scenario with a choice in place of its own layout and options."""
    degrees = {k: getattr(choice, k) for k in ("tp", "pp", "vpp", "cp", "ep", "dp", "zero")}
    stages = stages_of(base, choice.pp, choice.vpp, choice.stages)
    layout = Layout(sp=choice.tp > 1, stages=stages, **degrees)
    options: dict[str, Any] = {
        name: getattr(choice, name)
        for name in ("mbs", "schedule", "recompute", "comm_sms", "precision")
    }
    train = base.train.model_copy(update=options)
    fields = base.fields
    assert isinstance(fields, TrainScenario)
    counts = tuple(len(stage.layers) for stage in stages)
    written = fields.layout.model_copy(update={**degrees, "sp": layout.sp, "stages": counts})
    return replace(
        base,
        layout=layout,
        train=train,
        fields=fields.model_copy(update={"layout": written, "train": train, "plan": None}),
    )


@lru_cache(maxsize=512)
def _table(schedule: str, pp: int, microbatches: int, vpp: int) -> Table:
    return build_table(schedule, pp, microbatches, vpp)


def table_of(scenario: Scenario) -> Table:
    """The schedule's table; of named schedules, the latest ones are kept."""
    if scenario.train.schedule == "auto":
        return api.schedule_table(scenario)
    layout = scenario.layout
    return _table(scenario.train.schedule, layout.pp, scenario.microbatches, layout.vpp)


def judge(base: Scenario, choice: Choice) -> Judged:
    """Simulate a choice: the same step time and memory as `simdeep run` gives for it."""
    scenario = scenario_of(base, choice)
    machine = api.machine_of(scenario)
    lowered = lower(scenario, table_of(scenario))
    timeline = api.run_lowered(scenario, lowered, machine)
    static = static_memory(scenario, lowered)
    capacity = machine.gpu.hbm_bytes / GIB
    peak = memory(timeline, static.parts, capacity)
    return Judged(choice, timeline.makespan_ns / 1e9, peak.peak_gib, capacity)


def with_cluster(base: Scenario, topology: Any) -> Scenario:
    """The base scenario on another cluster, at that cluster's price."""
    fields = base.fields.model_copy(
        update={"topology": topology.name, "price": Price(usd_per_gpu_hour=None)}
    )
    return replace(base, topology=topology, price=Price(usd_per_gpu_hour=None), fields=fields)


@lru_cache(maxsize=4)
def _unpacked(packed: bytes) -> tuple[Scenario, ...]:
    """One object for all tasks of a process: what is remembered hangs on identity."""
    found: tuple[Scenario, ...] = pickle.loads(packed)
    return found


def packed(scenarios: tuple[Scenario, ...]) -> bytes:
    """Scenarios as `judge_many` takes them."""
    return pickle.dumps(scenarios)


def judge_many(
    packed: bytes, choices: tuple[Choice, ...], drawn: tuple[tuple[Key, Loads], ...]
) -> list[Judged | Refusal]:
    """Judge choices in a process of their own; `drawn` are routing draws made elsewhere."""
    scenarios = _unpacked(packed)
    for key, loads in drawn:
        keep(key, loads)
    found: list[Judged | Refusal] = []
    for choice in choices:
        try:
            found.append(judge(scenarios[choice.cluster], choice))
        except InputError as error:
            found.append(Refusal(choice, str(error)))
    return found
