"""The search space: what the scenario's `plan:` section allows, with defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simdeep.spec.model import MoeFfn
from simdeep.spec.plan_schema import PlanFields

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario

KEYS = (
    "tp",
    "pp",
    "vpp",
    "cp",
    "ep",
    "zero",
    "mbs",
    "schedule",
    "recompute",
    "comm_sms",
    "precision",
    "stages",
)
"""What a plan chooses, in the order of columns; `dp` is what the GPUs leave."""

_LONG = 8192
"""Tokens of a sequence from which context parallelism is worth a look."""
_SPLIT_SMS = (16, 20, 24)
_FORMS = ("selective", "full")


@dataclass(frozen=True)
class Space:
    """Allowed values by key, each a tuple without repeats, and the constraints."""

    values: dict[str, tuple[object, ...]]
    tp_within_node: bool
    headroom_gib: float
    simulations: int
    keep: int

    @property
    def size(self) -> int:
        """Combinations of values on one cluster, legal or not."""
        product = 1
        for values in self.values.values():
            product *= len(values)
        return product


def space_of(scenario: Scenario) -> Space:
    """The space of a training scenario, with a default for every key its `plan:` leaves out."""
    given = plan_fields(scenario)
    values: dict[str, tuple[object, ...]] = {}
    for key in KEYS:
        found = getattr(given, key)
        values[key] = tuple(dict.fromkeys(_default(key, scenario) if found is None else found))
    return Space(values, given.tp_within_node, given.headroom_gib, given.simulations, given.keep)


def plan_fields(scenario: Scenario) -> PlanFields:
    """The scenario's `plan:` section, or an empty one."""
    return getattr(scenario.fields, "plan", None) or PlanFields()


def _default(key: str, scenario: Scenario) -> tuple[object, ...]:
    model, train, topology = scenario.model, scenario.train, scenario.topology
    experts = max((x.ffn.experts for x in model.layers if isinstance(x.ffn, MoeFfn)), default=1)
    match key:
        case "tp":
            return _powers(topology.gpus_per_node)
        case "pp":
            return _powers(min(model.n_layers, topology.gpus))
        case "vpp":
            return 1, 2, 4
        case "cp":
            return _powers(16) if train.seq_len > _LONG else (1,)
        case "ep":
            return _powers(experts)
        case "recompute":
            ways = ((), train.recompute, *((name,) for name in _FORMS))
            return tuple(ways)
        case "comm_sms":
            return (train.comm_sms, *_SPLIT_SMS) if experts > 1 else (train.comm_sms,)
        case _:
            return (train.precision,)


def _powers(most: int) -> tuple[int, ...]:
    return tuple(2**i for i in range(most.bit_length()) if 2**i <= most)
