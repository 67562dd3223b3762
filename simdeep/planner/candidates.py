"""All candidates as columns, and what the rules of layouts and schedules leave of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simdeep.planner.cuts import auto_stages_of
from simdeep.planner.space import KEYS, Space
from simdeep.spec.model import Gqa, MoeFfn
from simdeep.spec.schedules import SCHEDULE_RULES, ScheduleRule

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

NUMBERS = ("tp", "pp", "vpp", "cp", "ep", "zero", "mbs", "comm_sms")
"""Keys whose column holds the value itself; the others' hold its index in the space."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Columns of one length: keys of the space, `cluster`, `dp` and `microbatches`.

    `refused` counts combinations by the first rule that forbids them; `space` is theirs too.
    """

    columns: dict[str, I64]
    space: Space
    refused: dict[str, int]

    @property
    def n(self) -> int:
        """Number of candidates."""
        return len(self.columns["tp"])

    def __getitem__(self, key: str) -> I64:
        return self.columns[key]

    def value(self, key: str, row: int) -> Any:
        """The value of a key in a row as a scenario would say it."""
        found = int(self.columns[key][row])
        return found if key not in KEYS or key in NUMBERS else self.space.values[key][found]

    def rows(self, which: I64) -> Candidates:
        """Some of them."""
        return Candidates({k: v[which] for k, v in self.columns.items()}, self.space, {})


def enumerate_candidates(scenarios: Sequence[Scenario], space: Space) -> Candidates:
    """Every legal candidate on every cluster; `scenarios` differ in their topology alone."""
    parts, refused = [], dict[str, int]()
    for cluster, scenario in enumerate(scenarios):
        columns = _layouts(scenario, space, refused)
        columns["cluster"] = np.full(len(columns["tp"]), cluster)
        parts.append(columns)
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Candidates(joined, space, refused)


def _layouts(scenario: Scenario, space: Space, refused: dict[str, int]) -> dict[str, I64]:
    """Legal combinations on one cluster: degrees first, then schedules, then the rest."""
    counted = dict.fromkeys(KEYS, 1) | {key: len(values) for key, values in space.values.items()}
    open_keys = set(KEYS)

    def cross(columns: dict[str, I64], *keys: str) -> dict[str, I64]:
        for key in keys:
            values = _numbers(space, key)
            n = len(next(iter(columns.values()))) if columns else 1
            columns = {k: np.repeat(v, len(values)) for k, v in columns.items()}
            columns[key] = np.tile(values, n)
            open_keys.discard(key)
        return columns

    def keep(columns: dict[str, I64], rules: dict[str, Bool]) -> dict[str, I64]:
        still = int(np.prod([counted[key] for key in open_keys], dtype=np.int64))
        legal = np.ones(len(next(iter(columns.values()))), bool)
        for rule, broken in rules.items():
            first = int((broken & legal).sum())
            if first:
                refused[rule] = refused.get(rule, 0) + first * still
            legal &= ~broken
        return {k: v[legal] for k, v in columns.items()}

    columns = cross({}, "tp", "pp", "cp")
    columns = keep(columns, _degree_rules(scenario, space, columns))
    columns["dp"] = scenario.topology.gpus // (columns["tp"] * columns["pp"] * columns["cp"])
    columns = cross(columns, "ep", "zero", "mbs")
    columns = keep(columns, _group_rules(scenario, columns))
    columns["microbatches"] = scenario.train.gbs // (columns["dp"] * columns["mbs"])
    columns = cross(columns, "schedule", "vpp", "stages")
    columns = keep(columns, _schedule_rules(scenario, space, columns))
    return cross(columns, "recompute", "comm_sms", "precision")


def _numbers(space: Space, key: str) -> I64:
    values = space.values[key]
    return np.array(values if key in NUMBERS else range(len(values)), np.int64)


def _degree_rules(scenario: Scenario, space: Space, c: dict[str, I64]) -> dict[str, Bool]:
    model, seq = scenario.model, scenario.train.seq_len
    used = c["tp"] * c["pp"] * c["cp"]
    rules = {
        "tp*cp*pp divides the GPUs": scenario.topology.gpus % used != 0,
        "tp divides the attention heads": model.n_heads % c["tp"] != 0,
        "cp*tp divides the sequence": seq % (c["cp"] * c["tp"]) != 0,
        "a layer for each stage": c["pp"] > model.n_layers,
    }
    if isinstance(model.attention, Gqa):
        kv = model.attention.kv_heads
        rules["tp fits the key-value heads"] = (kv % c["tp"] != 0) & (c["tp"] % kv != 0)
    if space.tp_within_node:
        rules["tp stays within a node"] = c["tp"] > scenario.topology.gpus_per_node
    return rules


def _group_rules(scenario: Scenario, c: dict[str, I64]) -> dict[str, Bool]:
    per_node = scenario.topology.gpus_per_node
    experts = {x.ffn.experts for x in scenario.model.layers if isinstance(x.ffn, MoeFfn)}
    rules = {"ep divides dp*cp*tp": (c["dp"] * c["cp"] * c["tp"]) % c["ep"] != 0}
    if experts:
        split = np.any([count % c["ep"] != 0 for count in experts], axis=0)
        rules["ep divides the experts"] = split
        rules["ep groups fill nodes"] = (per_node % c["ep"] != 0) & (c["ep"] % per_node != 0)
    else:
        rules["no experts, so ep is 1"] = c["ep"] != 1
    batch = c["dp"] * c["mbs"]
    rules["dp*mbs divides the global batch"] = scenario.train.gbs % batch != 0
    return rules


def _schedule_rules(scenario: Scenario, space: Space, c: dict[str, I64]) -> dict[str, Bool]:
    names = [str(name) for name in space.values["schedule"]]
    rules = [SCHEDULE_RULES.get(name, ScheduleRule(vpp=(1, None))) for name in names]

    def of(values: Sequence[int]) -> I64:
        return np.array(values, np.int64)[c["schedule"]]

    layers = scenario.model.n_layers
    stages, m = c["pp"] * c["vpp"], c["microbatches"]
    listed_ones = [v if isinstance(v, tuple) else () for v in space.values["stages"]]
    sizes = np.array([len(v) for v in listed_ones])
    listed = sizes[c["stages"]]
    sums = np.array([sum(v) if v else layers for v in listed_ones])
    return {
        "vpp fits the schedule": (c["vpp"] < of([r.vpp[0] for r in rules]))
        | (c["vpp"] > of([r.vpp[1] or 1 << 20 for r in rules])),
        "a layer for each stage": (stages > layers) & (listed == 0),
        "stages listed for pp*vpp": (listed > 0) & (listed != stages),
        "stages hold all layers": sums[c["stages"]] != layers,
        "listed stages are those of auto": _like_auto(scenario, space)[c["stages"]],
        "the schedule pairs ranks": of([r.even_pp for r in rules]).astype(bool) & (c["pp"] % 2 > 0),
        "micro-batches to fill the schedule": m
        < np.maximum(of([r.microbatches_per_rank for r in rules]) * c["pp"], 1),
        "an even number of micro-batches": of([r.even_microbatches for r in rules]).astype(bool)
        & (m % 2 > 0),
    }


def _like_auto(scenario: Scenario, space: Space) -> Bool:
    """Which of the space's partitions `auto`, also there, finds by itself."""
    values = space.values["stages"]
    found = np.zeros(len(values), bool)
    layers = scenario.model.n_layers
    for at, counts in enumerate(values):
        if "auto" in values and isinstance(counts, tuple) and 0 < len(counts) <= layers:
            stages = auto_stages_of(scenario, len(counts), 1)
            found[at] = counts == tuple(len(stage.layers) for stage in stages)
    return found
