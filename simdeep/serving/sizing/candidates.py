"""The units to choose from: every combination of the allowed values that rules and memory allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from simdeep.serving.deployment import GIB, Role, Unit, unit_of
from simdeep.serving.memory import memory_of
from simdeep.spec.model import MoeFfn
from simdeep.spec.serve_checks import check_serving
from simdeep.spec.serve_schema import Deployment, Mtp, UnitFields
from simdeep.spec.validate import Reporter, Source
from simdeep.spec.yamlio import Document

if TYPE_CHECKING:
    from simdeep.spec.model import Model
    from simdeep.spec.serve import ServeScenario

DENSE_TP = (1, 2, 4, 8)
MOE_TP = (1, 4)


@dataclass(frozen=True, eq=False)
class Design:
    """One kind of unit that may be chosen, of one scenario (one GPU type).

    `kv_tokens` is what a rank holds, `rows` the most it decodes at the mean context.
    """

    scenario: ServeScenario
    role: Role
    fields: UnitFields
    unit: Unit
    kv_tokens: int
    rows: float

    @property
    def gpus(self) -> int:
        """GPUs of a unit."""
        return self.unit.gpus


@dataclass
class Miss:
    """A design that cannot meet the goal, and by what it misses (1: by nothing)."""

    reason: str
    role: str
    by: float
    text: str


@dataclass
class Tally:
    """What became of the designs."""

    combinations: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    misses: list[Miss] = field(default_factory=list)

    def drop(self, reason: str, miss: Miss | None = None) -> None:
        """Count a design out."""
        self.dropped[reason] += 1
        if miss is not None:
            self.misses.append(miss)


def designs(
    scenario: ServeScenario, longest: int, row_context: float, tally: Tally
) -> tuple[Design, ...]:
    """Every unit that rules and memory allow.

    Args:
        scenario: model, cluster, allowed values and what is not searched.
        longest: tokens of the longest request, which a rank's KV cache must hold.
        row_context: mean KV tokens of a decoding sequence.
        tally: counts what is dropped.
    """
    found = []
    for role in roles_of(scenario):
        for fields in dict.fromkeys(_combinations(scenario, role)):
            tally.combinations += 1
            if _breaks_rules(scenario, role, fields):
                tally.drop("rules")
                continue
            unit = unit_of(scenario, role, fields)
            design = _that_fits(scenario, role, fields, unit, longest, row_context, tally)
            if design is not None:
                found.append(design)
    return tuple(found)


def roles_of(scenario: ServeScenario) -> tuple[Role, ...]:
    """Roles of the ways of serving to try."""
    roles: list[Role] = []
    for way in scenario.fields.size.serving:
        roles += ["mixed"] if way == "mixed" else ["prefill", "decode"]
    return tuple(dict.fromkeys(roles))


def _template(scenario: ServeScenario, role: Role) -> UnitFields:
    """The scenario's unit of a role, or what its other units say that does not go with a role."""
    units = scenario.units
    if role in units:
        return units[role]
    other = units.get("decode") or units.get("mixed") or units["prefill"]
    plain = {name: getattr(other, name) for name in ("weights", "kv", "dispatch", "reserved_gib")}
    # Servers capture mixed batches in pieces, and those that only decode whole.
    graphs = True if role == "mixed" else None
    return UnitFields(**plain, comm_sms=other.comm_sms, mtp=other.mtp, cuda_graphs=graphs)


def _combinations(scenario: ServeScenario, role: Role) -> Iterator[UnitFields]:
    space, model = scenario.fields.size, scenario.model
    base = _template(scenario, role)
    if role in scenario.units:
        yield base.model_copy(update={"units": 1})
    experts = _experts(model)
    degrees = space.tp or (DENSE_TP if experts is None else MOE_TP)
    own_tp = (base.tp,) if role in scenario.units else ()
    own_gpus = (base.tp * base.dp,) if role in scenario.units else ()
    for gpus, tp in product(
        dict.fromkeys((*space.unit_gpus, *own_gpus)), dict.fromkeys((*degrees, *own_tp))
    ):
        # Replicas of a dense model have nothing to do with each other: they are units.
        if gpus % tp or (experts is None and gpus != tp):
            continue
        shape = {"tp": tp, "dp": gpus // tp, "units": 1, "sp": tp > 1 and experts is not None}
        for part in _parts(scenario, role, base, gpus):
            yield base.model_copy(update=shape | part)


def _parts(
    scenario: ServeScenario, role: Role, base: UnitFields, gpus: int
) -> Iterator[dict[str, object]]:
    """The other choices of a unit of `gpus` GPUs."""
    space, experts = scenario.fields.size, _experts(scenario.model)
    placements: list[dict[str, object]] = [{"ep": None, "redundant": 0}]
    if experts is not None:
        placements = []
        for ep in dict.fromkeys((gpus, *(ep for ep in space.ep if ep < gpus and gpus % ep == 0))):
            # Of mixed units the largest number alone, for the search to stay short.
            asked = space.redundant[-1:] if role == "mixed" else space.redundant
            for more in dict.fromkeys(-(-(experts + n) // ep) * ep - experts for n in asked):
                placements.append({"ep": ep, "redundant": more, "shared": "replicated"})
    # Low-latency buffers and cut batches are of units that decode.
    decodes = role != "prefill"
    rows = space.max_rows if decodes else (base.max_rows,)
    drafts = space.mtp_tokens if decodes and scenario.model.mtp_layers else (0,)
    halves = (
        space.microbatches if role == "decode" and experts is not None and gpus > 1 else (None,)
    )
    chunks = space.chunk_tokens if role == "mixed" else (base.chunk_tokens,)
    for placed, most, draft, half, chunk in product(placements, rows, drafts, halves, chunks):
        mtp = Mtp(tokens=draft, acceptance=base.mtp.acceptance)
        yield placed | {
            "max_rows": most,
            "mtp": mtp,
            "microbatches": half,
            "chunk_tokens": chunk,
        }


def _experts(model: Model) -> int | None:
    return next((x.ffn.experts for x in model.layers if isinstance(x.ffn, MoeFfn)), None)


def _breaks_rules(scenario: ServeScenario, role: Role, fields: UnitFields) -> bool:
    report = Reporter(Source(Document({}, Path(scenario.name), {})))
    alone = scenario.fields.model_copy(
        update={
            "deployment": Deployment().model_copy(update={role: fields}),
            "traffic": None,
            "autoscale": None,
        }
    )
    alone = alone.model_copy(update={"window": alone.window.model_copy(update={"day": False})})
    check_serving(alone, scenario.model, scenario.topology, None, report)
    return bool(report.problems)


def _that_fits(
    scenario: ServeScenario,
    role: Role,
    fields: UnitFields,
    unit: Unit,
    longest: int,
    row_context: float,
    tally: Tally,
) -> Design | None:
    memory = memory_of(unit)
    name = f"{describe(unit)} on {scenario.topology.gpu.name}"
    if not memory.fits:
        text = (
            f"{name}: weights, buffers and activations take {memory.used / GIB:.1f} GiB a GPU of "
            f"{memory.capacity / GIB:.1f} GiB"
        )
        tally.drop("memory", Miss("memory", role, memory.used / memory.capacity, text))
        return None
    if longest + 1 + unit.mtp_tokens > memory.kv_capacity_tokens:
        text = (
            f"{name}: a rank's KV cache holds {memory.kv_capacity_tokens:,} tokens, the longest "
            f"request has {longest:,}"
        )
        tally.drop("kv", Miss("kv", role, longest / memory.kv_capacity_tokens, text))
        return None
    rows = min(float(memory.max_rows), memory.kv_capacity_tokens / max(row_context, 1.0))
    return Design(scenario, role, fields, unit, memory.kv_capacity_tokens, rows)


def describe(unit: Unit) -> str:
    """A unit in a few words."""
    words: list[str] = [f"{unit.role} TP{unit.tp}"] if unit.tp > 1 or unit.dp == 1 else [unit.role]
    if unit.dp > 1:
        words.append(f"DP{unit.dp}")
    if unit.moe is not None:
        words.append(f"EP{unit.ep}")
        if unit.redundant:
            words.append(f"+{unit.redundant}")
    if unit.role != "prefill":
        words.append(f"<={unit.max_rows} rows" if unit.max_rows else "rows as fit")
    if unit.role == "mixed":
        words.append(f"chunk {unit.chunk_tokens}")
    if unit.mtp_tokens:
        words.append(f"MTP{unit.mtp_tokens}")
    if unit.moe is not None and unit.ep > 1 and unit.role == "decode":
        words.append(f"{unit.microbatches} micro-batch{'es' if unit.microbatches > 1 else ''}")
    return " ".join(words)
