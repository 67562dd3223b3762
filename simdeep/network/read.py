"""A setting from a scenario file (`kind: alltoall`, or the all-to-all of a training scenario)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from simdeep.errors import InputError, Problem
from simdeep.network.setting import PLACEMENTS, Setting, moe_of, parse_routing
from simdeep.program.routing import Popularity, default_skew, parse_popularity
from simdeep.spec.model import Model, load_model
from simdeep.spec.resources import find_resource
from simdeep.spec.scenario import Scenario, load_training
from simdeep.spec.scenario_schema import AllToAllFields, AllToAllScenario, Routing
from simdeep.spec.topology import Topology, load_topology
from simdeep.spec.validate import (
    Reporter,
    Source,
    apply_overrides,
    check_fields,
    use_canonical_names,
)
from simdeep.spec.yamlio import load_document

T = TypeVar("T")

MODEL, TOPOLOGY = "deepseek-v3", "h800-2048"
"""Whose experts and which cluster, where neither scenario nor flag says."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says; None is what it does not say."""

    model: str | None = None
    topology: str | None = None
    ep: int | None = None
    tokens: int | None = None
    routing: str | None = None
    max_nodes: int | None = None
    comm_sms: int | None = None
    mode: str | None = None
    placement: str | None = None
    redundant: int | None = None
    ecmp: str | None = None
    node_stride: int | None = None
    draws: int | None = None
    seed: int | None = None


def read_setting(
    scenario: str | Path | None = None,
    overrides: Mapping[str, str] | None = None,
    flags: Flags | None = None,
) -> Setting:
    """The setting of a scenario, by path or shipped name, or of the defaults; flags come on top.

    Raises `InputError` with every problem of the file, or of the flags.
    """
    flags = flags or Flags()
    if scenario is None:
        if overrides:
            raise InputError([Problem("--set", "", "changes a scenario; name one")])
        model = _read(load_model, "model", flags.model or MODEL)
        topology = _read(load_topology, "topology", flags.topology or TOPOLOGY)
        return _setting(model, topology, AllToAllFields(), None, flags)
    path = find_resource("scenarios", scenario)
    data = load_document(path).data
    written = data.get("kind") if isinstance(data, dict) else None
    if (overrides or {}).get("kind", written) == "alltoall":
        return _of_fields(_read_fields(path, overrides or {}), path.parent, flags)
    return _of_training(load_training(path, overrides), flags)


def _read_fields(path: Path, overrides: Mapping[str, str]) -> AllToAllScenario:
    document = load_document(path)
    data: dict[str, Any] = document.data
    source = Source(document)
    report: Reporter = Reporter(source)
    for problem in (
        *use_canonical_names(data, source, AllToAllScenario),
        *apply_overrides(data, source, overrides, AllToAllScenario),
    ):
        report.add_problem(problem)
    fields = check_fields(AllToAllScenario, data, report)
    report.rule(
        "routing.file routing.kind",
        "is missing; routing kind recorded needs a file",
        fields.routing.kind == "recorded" and fields.routing.file is None,
    )
    if report.problems:
        raise InputError(report.problems)
    return fields


def _of_fields(fields: AllToAllScenario, base: Path, flags: Flags) -> Setting:
    """Names in a file are relative to it, in flags to the working directory."""
    model = _choose(load_model, "model", flags.model, fields.model, base)
    topology = _choose(load_topology, "topology", flags.topology, fields.topology, base)
    routing = _routing(fields.routing, base) if flags.routing is None else None
    return _setting(model, topology, fields.alltoall, routing, flags, base)


def _of_training(scenario: Scenario, flags: Flags) -> Setting:
    """The dispatch and combine of one layer and micro-batch of a training step or pair."""
    train, layout = scenario.train, scenario.layout
    options = AllToAllFields(
        ep=layout.ep,
        tokens=max(1, train.mbs * train.seq_len // (layout.cp * layout.tp)),
        comm_sms=train.comm_sms or AllToAllFields().comm_sms,
        # As in the step itself: other formats than DeepSeek's dispatch in 16 bits.
        dtype="fp8" if train.precision == "fp8" else "bf16",
        seed=scenario.simulate.seed,
    )
    model = _choose(load_model, "model", flags.model, scenario.model)
    topology = _choose(load_topology, "topology", flags.topology, scenario.topology)
    moe_of(model)
    given = scenario.routing.model_copy(
        update={"file": None if scenario.routing_file is None else str(scenario.routing_file)}
    )
    routing = _routing(given, None) if flags.routing is None else None
    return _setting(model, topology, options, routing, flags)


def _setting(
    model: Model,
    topology: Topology,
    options: AllToAllFields,
    routing: Popularity | Path | None,
    flags: Flags,
    base: Path | None = None,
) -> Setting:
    names = AllToAllFields.model_fields
    given = {n: getattr(flags, n) for n in names if getattr(flags, n, None) is not None}
    chosen = options.model_copy(update=given)
    return Setting(
        model=model.name,
        hidden=model.hidden,
        moe=moe_of(model),
        topology=topology,
        ep=chosen.ep,
        tokens=chosen.tokens,
        routing=parse_routing(flags.routing or "uniform") if routing is None else routing,
        max_nodes=chosen.max_nodes,
        mode=chosen.mode,
        comm_sms=chosen.comm_sms,
        placement=_placement(chosen.placement, base if flags.placement is None else None),
        redundant=chosen.redundant,
        ecmp=chosen.ecmp,
        node_stride=chosen.node_stride,
        dtype=chosen.dtype,
        draws=chosen.draws,
        seed=chosen.seed,
    )


def _routing(routing: Routing, base: Path | None) -> Popularity | Path:
    if routing.kind == "recorded":
        assert routing.file is not None
        return parse_routing(routing.file, base)
    if routing.kind == "balanced":
        return parse_popularity("uniform")
    return parse_popularity(default_skew().value if routing.skew is None else routing.skew)


def _choose(
    load: Callable[..., T], key: str, flag: str | None, given: str | T, base: Path | None = None
) -> T:
    """What a flag names, else what the scenario does, read or to be read."""
    if flag is not None:
        return _read(load, key, flag)
    return _read(load, key, given, base) if isinstance(given, str) else given


def _read(load: Callable[..., T], key: str, name: str, base: Path | None = None) -> T:
    try:
        return load(name, base)
    except InputError as error:
        raise InputError(
            p if p.place or p.key else Problem("", key, p.message) for p in error.problems
        ) from None


def _placement(text: str, base: Path | None) -> str | Path:
    if text in PLACEMENTS:
        return text
    path = Path(text) if base is None else base / text
    if path.is_file():
        return path
    message = f"{text!r} is no file; must be {', '.join(PLACEMENTS)} or a file of experts by rank"
    raise InputError([Problem("", "placement", message)])
