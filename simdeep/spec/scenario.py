"""The scenario: what the user wrote, checked and resolved into model, topology and layout."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import simdeep
from simdeep.errors import InputError, Problem
from simdeep.spec.changes import BASE, Changes, changed_key, split_named
from simdeep.spec.fault_schema import Fault, Reliability
from simdeep.spec.faults import read_faults, with_faults, without_faults
from simdeep.spec.layout import Layout, StageSpec, auto_stages, stages_from_counts
from simdeep.spec.model import Model, load_model, model_catalogue
from simdeep.spec.resolver import Resolver
from simdeep.spec.resources import ResourceKind, catalogue, file_digest, find_resource, nearest
from simdeep.spec.scenario_checks import check_scenario, derive_dp
from simdeep.spec.scenario_schema import (
    SCENARIO_KINDS,
    Goal,
    Jitter,
    PairScenario,
    Price,
    Routing,
    Simulate,
    Train,
    TrainScenario,
)
from simdeep.spec.serve import ServeScenario, resolve_serving
from simdeep.spec.serve_schema import ServeFields
from simdeep.spec.skew import default_skew
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


@dataclass(frozen=True, eq=False)
class Scenario:
    """Everything one simulation needs to know, with all defaults filled in.

    `layers` are the decoder layers of an `fb-pair` (empty for `train`, whose layers lie in
    `layout.stages`). A pair's `train` has the options of its chunks, and one micro-batch a rank.
    `topology` has the `faults` as overrides. `reliability` is None where nobody asks for effective
    training time. `calibration` and `routing_file` are files, or None for the GPU's own and for
    none.
    """

    name: str
    kind: Literal["train", "fb-pair"]
    model: Model
    topology: Topology
    layout: Layout
    layers: tuple[int, ...]
    train: Train
    routing: Routing
    jitter: Jitter
    simulate: Simulate
    price: Price
    goal: Goal
    faults: tuple[Fault, ...]
    reliability: Reliability | None
    calibration: Path | None
    routing_file: Path | None
    fields: TrainScenario | PairScenario

    @property
    def microbatches(self) -> int:
        """Micro-batches of one step and data parallel rank."""
        return self.train.gbs // (self.layout.dp * self.train.mbs)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a global batch."""
        return self.train.gbs * self.train.seq_len

    @property
    def usd_per_gpu_hour(self) -> float:
        """US dollars for a GPU-hour: the scenario's, else the topology's."""
        price = self.price.usd_per_gpu_hour
        return self.topology.usd_per_gpu_hour if price is None else price

    def resolved(self) -> dict[str, Any]:
        """The scenario as a scenario file would say it with every default written out.

        Plain JSON types in a fixed order; reading it back gives the same scenario.
        """
        plain: dict[str, Any] = self.fields.model_dump(mode="json")
        first = ["kind", "model", "topology", "layout", "layers", "train"]
        order = [key for key in first if key in plain] + [key for key in plain if key not in first]
        return {key: plain[key] for key in order}

    def with_seed(self, seed: int) -> Scenario:
        """The same scenario under another seed of every random draw."""
        simulate = self.simulate.model_copy(update={"seed": seed})
        fields = self.fields.model_copy(update={"simulate": simulate})
        return dataclasses.replace(self, simulate=simulate, fields=fields)

    def without_faults(self) -> Scenario:
        """The same scenario on a cluster in which nothing of `faults` is wrong."""
        fields = self.fields.model_copy(update={"faults": ()})
        topology = without_faults(self.topology, self.faults)
        return dataclasses.replace(self, faults=(), topology=topology, fields=fields)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the result: resolved values, file contents, version."""
        content = {
            "version": simdeep.__version__,
            "scenario": self._without_paths(),
            "model": _model_digest(self.model),
            "topology": self.topology.digest,
            "calibration": [file_digest(path) for path in self._calibration_files()],
            "routing": file_digest(self.routing_file) if self.routing_file else None,
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _without_paths(self) -> dict[str, Any]:
        """The resolved values without names of files, whose content counts instead."""
        plain = self.resolved()
        routing = plain["routing"] | {"file": None}
        plain |= {"model": None, "topology": None, "calibration": None, "routing": routing}
        return plain | {"sweep": None}  # what else is asked does not decide this answer

    def _calibration_files(self) -> list[Path]:
        """What may price this scenario: its own calibration, the GPU's, or any that is shipped."""
        if self.calibration is not None:
            return [self.calibration]
        shipped = catalogue("calibration")
        name = self.topology.gpu.calibration
        return [shipped[name]] if name in shipped else list(shipped.values())


KINDS: dict[str, type[TrainScenario] | type[PairScenario] | type[ServeFields]] = {
    **SCENARIO_KINDS,
    "serve": ServeFields,
}
"""Fields of a scenario by its kind."""


class Files:
    """Models and topologies read once: many scenarios see the same files, whatever happens."""

    def __init__(self) -> None:
        self._read: dict[str, Any] = {}

    def load(self, load: Callable[..., T], name: str, base: Path | None, changes: Changes) -> T:
        """What `load(name, base, changes)` gave, or raised, the first time."""
        key = repr((load.__name__, name, base, changes))
        if key not in self._read:
            try:
                self._read[key] = load(name, base, changes)
            except InputError as error:
                self._read[key] = error
        found: T | InputError = self._read[key]
        if isinstance(found, InputError):
            raise InputError(found.problems)
        return found


def load_training(
    path_or_name: str | Path,
    overrides: Mapping[str, str] | None = None,
    files: Files | None = None,
) -> Scenario:
    """`load_scenario` for who works on training steps: a serving scenario is an `InputError`."""
    loaded = load_scenario(path_or_name, overrides, files)
    if isinstance(loaded, ServeScenario):
        message = "is serve; a training scenario is needed: kind train or fb-pair"
        raise InputError([Problem(str(path_or_name), "kind", message)])
    return loaded


def load_scenario(
    path_or_name: str | Path,
    overrides: Mapping[str, str] | None = None,
    files: Files | None = None,
) -> Scenario | ServeScenario:
    """Read a scenario file, by path or shipped name, with values changed as by `--set key=value`.

    A `ServeScenario` for `kind: serve`. `files` keeps models and topologies from one call to the
    next. Raises `InputError` with every problem of the file and of the overrides.
    """
    path = find_resource("scenarios", path_or_name)
    document = load_document(path)
    if not isinstance(document.data, dict):
        raise InputError(
            [Problem(document.place(()), "", "must be keys and values, as 'kind: train'")]
        )
    data: dict[str, Any] = document.data
    overrides = overrides or {}
    source = Source(document)
    report = Reporter(source)
    kind = _kind(data, overrides)
    fields_type = KINDS[kind if kind in KINDS else "train"]
    problems = use_canonical_names(data, source, fields_type)
    problems += apply_overrides(data, source, overrides, fields_type)
    for problem in problems:
        report.add_problem(problem)
    if kind not in KINDS:
        _report_kind(kind, report)
        data["kind"] = "train"
    if kind == "serve":
        return resolve_serving(path, check_fields(ServeFields, data, report), report)
    read_faults(data, report)
    fields = check_fields(SCENARIO_KINDS[data["kind"]], data, report)
    return _Resolver(path, fields, report, files or Files()).scenario()


def _kind(data: Mapping[str, Any], overrides: Mapping[str, str]) -> Any:
    kind = overrides.get("kind", data.get("kind"))
    return kind if isinstance(kind, str) else str(kind)


def _report_kind(kind: str, report: Reporter) -> None:
    valid = tuple(KINDS)
    near = nearest(kind, valid)
    hint = f"; did you mean {near}?" if near else ""
    given = "is missing" if kind == "None" else f"is {kind!r}"
    report.add(("kind",), f"{given}; must be one of {', '.join(valid)}{hint}")


class _Resolver(Resolver):
    """Turns checked fields into a `Scenario`, reading the files they name."""

    def __init__(
        self, path: Path, fields: TrainScenario | PairScenario, report: Reporter, files: Files
    ):
        super().__init__(path, report)
        self.fields = fields
        self.files = files

    def scenario(self) -> Scenario:
        fields = self.fields
        model = self._load("model", fields.model, load_model)
        topology = self._load("topology", fields.topology, load_topology)
        calibration = self._file("calibration", "calibration", fields.calibration)
        routing_file = self._file("routing", "routing.file", fields.routing.file)
        check_scenario(fields, model, topology, self.report)
        if self.report.problems or model is None or topology is None:
            raise InputError(self.report.problems)
        layout, resolved = self._layout(model, topology)
        node_lost = any(fault.lost for fault in fields.faults)
        return Scenario(
            name=self.path.stem,
            kind=fields.kind,
            model=model,
            topology=with_faults(topology, fields.faults),
            layout=layout,
            layers=self._pair_layers(),
            train=self._train(layout.dp),
            routing=resolved.routing,
            jitter=fields.jitter,
            simulate=fields.simulate,
            price=resolved.price,
            goal=fields.goal,
            faults=fields.faults,
            reliability=fields.reliability or (Reliability() if node_lost else None),
            calibration=calibration,
            routing_file=routing_file,
            fields=resolved,
        )

    def _load(self, key: str, named: str | dict[str, Any], load: Callable[..., T]) -> T | None:
        """The model or topology of a key, with what the scenario changes in it."""
        name, changes = split_named(named)
        if (key,) in self.report.tainted:
            return None
        if name is None:
            self.report.add((key,), f"has no {BASE}; name the file whose values are changed")
            return None
        gpu = changes.get(("gpu",))
        if isinstance(gpu, str):
            changes[("gpu",)] = self.name(f"{key}.gpu", gpu, catalogue("gpus"))
        try:
            return self.files.load(load, name, self.base(key), changes)
        except InputError as error:
            for problem in error.problems:
                path = changed_key(problem, changes)
                if path is None:
                    self.report.add_problem(problem, at=(key,))
                else:  # its place is where the scenario changes it
                    self.report.add((key, *path), problem.message)
            self.report.tainted.add((key,))
        return None

    def _file(self, kind: ResourceKind, key: str, name: str | None) -> Path | None:
        if name is None:
            return None
        return self.read(key, name, lambda text, base: find_resource(kind, text, base))

    def _layout(
        self, model: Model, topology: Topology
    ) -> tuple[Layout, TrainScenario | PairScenario]:
        """The layout, and the fields with what follows from model and topology filled in."""
        fields = self.fields
        dp = derive_dp(fields.layout, topology)
        stages = self._stages(model)
        given = fields.layout
        degrees = {name: getattr(given, name) for name in ("tp", "pp", "vpp", "cp", "ep", "zero")}
        try:
            layout = Layout(dp=dp, sp=given.sp, stages=stages, **degrees)
        except InputError as error:
            for problem in error.problems:
                self.report.add_problem(problem)
            raise InputError(self.report.problems) from None
        counts = tuple(len(stage.layers) for stage in stages) or "auto"
        price = fields.price.usd_per_gpu_hour
        usd = topology.usd_per_gpu_hour if price is None else price
        resolved = fields.model_copy(
            update={
                "model": self._named("model", fields.model, model_catalogue()),
                "topology": self._named("topology", fields.topology, catalogue("topologies")),
                "layout": given.model_copy(update={"dp": dp, "stages": counts}),
                "price": Price(usd_per_gpu_hour=usd),
                "routing": self._routing(),
            }
        )
        return layout, resolved

    def _named(
        self, key: str, named: str | dict[str, Any], shipped: Collection[str]
    ) -> str | dict[str, Any]:
        """A named file, changed or not, so that it means the same anywhere."""
        if isinstance(named, str):
            return self.name(key, named, shipped)
        plain = named | {BASE: self.name(key, named[BASE], shipped)}
        gpu = plain.get("gpu")
        if isinstance(gpu, str):
            plain["gpu"] = self.name(f"{key}.gpu", gpu, catalogue("gpus"))
        elif isinstance(gpu, dict) and isinstance(gpu.get(BASE), str):
            plain["gpu"] = gpu | {BASE: self.name(f"{key}.gpu", gpu[BASE], catalogue("gpus"))}
        return plain

    def _stages(self, model: Model) -> tuple[StageSpec, ...]:
        fields = self.fields
        if isinstance(fields, PairScenario):
            return ()
        layout = fields.layout
        if layout.stages == "auto":
            return auto_stages(
                model, layout.pp, layout.vpp, mtp=fields.train.mtp, seq_len=fields.train.seq_len
            )
        return stages_from_counts(layout.stages, mtp=fields.train.mtp)

    def _routing(self) -> Routing:
        """The routing, with the measured skew where a gate has none of its own."""
        routing = self.fields.routing
        if routing.kind != "gate" or routing.skew is not None:
            return routing
        return routing.model_copy(update={"skew": default_skew().value})

    def _pair_layers(self) -> tuple[int, ...]:
        if not isinstance(self.fields, PairScenario):
            return ()
        layers = self.fields.layers
        return tuple(range(layers.first, layers.first + layers.count))

    def _train(self, dp: int) -> Train:
        """The step's options; a pair is one DualPipe block, one micro-batch a rank."""
        chunk = self.fields.train
        if isinstance(chunk, Train):
            return chunk
        return Train(**chunk.model_dump(), schedule="dualpipe", gbs=dp * chunk.mbs)


@lru_cache(maxsize=256)
def _model_digest(model: Model) -> str:
    text = json.dumps(dataclasses.asdict(model), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
