"""The serving scenario: what the user wrote, checked and resolved into model and topology."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import simdeep
from simdeep.errors import InputError
from simdeep.spec.jsonio import load_json
from simdeep.spec.model import Model, find_config, load_model, model_catalogue
from simdeep.spec.resolver import Resolver
from simdeep.spec.resources import catalogue, file_digest
from simdeep.spec.scenario_schema import Price
from simdeep.spec.serve_checks import ROLES, check_serving
from simdeep.spec.serve_schema import (
    Autoscale,
    Deployment,
    IterationPoint,
    NodeFailures,
    PrefixCache,
    Rebalance,
    ServeFields,
    ServeRouting,
    ServeSimulate,
    Slo,
    Traffic,
    UnitFields,
    Window,
)
from simdeep.spec.skew import default_skew
from simdeep.spec.topology import Topology, load_topology
from simdeep.spec.validate import Reporter

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ServeScenario:
    """Everything a serving simulation needs to know, with all defaults filled in.

    `max_context` is the longest sequence (tokens) that model and traffic allow. `trace_file` is
    the traffic's trace, or None. `fields` are the resolved keys as the file would have them.
    """

    name: str
    model: Model
    topology: Topology
    max_context: int
    trace_file: Path | None
    fields: ServeFields
    kind: str = "serve"

    @property
    def deployment(self) -> Deployment:
        """The units that serve."""
        return self.fields.deployment

    @property
    def units(self) -> dict[str, UnitFields]:
        """Fields of each kind of unit by its role: prefill, decode, mixed."""
        given = {role: getattr(self.deployment, role) for role in ROLES}
        return {role: fields for role, fields in given.items() if fields is not None}

    @property
    def traffic(self) -> Traffic | None:
        """What arrives; None: one iteration of each unit is looked at."""
        return self.fields.traffic

    @property
    def iteration(self) -> IterationPoint:
        """The iteration to look at without traffic."""
        return self.fields.iteration

    @property
    def slo(self) -> Slo:
        """What users are promised, times in seconds."""
        return self.fields.slo

    @property
    def routing(self) -> ServeRouting:
        """Expert routing, its skew filled in."""
        return self.fields.routing

    @property
    def prefix_cache(self) -> PrefixCache:
        """Where cached prefixes come from."""
        return self.fields.prefix_cache

    @property
    def rebalance(self) -> Rebalance:
        """Drift and placement of experts."""
        return self.fields.rebalance

    @property
    def failures(self) -> NodeFailures | None:
        """Failing GPUs, or None."""
        return self.fields.failures

    @property
    def autoscale(self) -> Autoscale | None:
        """Units by the time of day, or None."""
        return self.fields.autoscale

    @property
    def window(self) -> Window:
        """How much of the traffic is simulated."""
        return self.fields.window

    @property
    def simulate(self) -> ServeSimulate:
        """Seed, engine and bounds."""
        return self.fields.simulate

    @property
    def price(self) -> Price:
        """Money."""
        return self.fields.price

    @property
    def usd_per_gpu_hour(self) -> float:
        """US dollars for a GPU-hour: the scenario's, else the topology's."""
        price = self.price.usd_per_gpu_hour
        return self.topology.usd_per_gpu_hour if price is None else price

    def resolved(self) -> dict[str, Any]:
        """The scenario as its file would say it with every default written out (plain JSON)."""
        plain: dict[str, Any] = self.fields.model_dump(mode="json")
        return plain

    def with_seed(self, seed: int) -> ServeScenario:
        """The same scenario under another seed of every random draw."""
        simulate = self.simulate.model_copy(update={"seed": seed})
        return dataclasses.replace(
            self, fields=self.fields.model_copy(update={"simulate": simulate})
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the result: resolved values, files' contents, version."""
        plain = self.resolved() | {"model": None, "topology": None}
        trace = self.trace_file.read_bytes() if self.trace_file else b""
        content = {
            "version": simdeep.__version__,
            "scenario": plain,
            "model": dataclasses.asdict(self.model),
            "topology": self.topology.to_dict(),
            "trace": hashlib.sha256(trace).hexdigest(),
            "kernels": [file_digest(path) for path in _kernel_files(self.topology)],
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def resolve_serving(path: Path, fields: ServeFields, report: Reporter) -> ServeScenario:
    """The scenario that checked fields of `path` mean; raises `InputError` with every problem."""
    return _Resolver(path, fields, report).scenario()


class _Resolver(Resolver):
    """Reads what the fields name and checks it together."""

    def __init__(self, path: Path, fields: ServeFields, report: Reporter):
        super().__init__(path, report)
        self.fields = fields

    def scenario(self) -> ServeScenario:
        fields = self.fields
        model = self.read("model", fields.model, load_model)
        topology = self.read("topology", fields.topology, load_topology)
        longest = None if model is None else self._context()
        trace = None
        if fields.traffic is not None and fields.traffic.file is not None:
            trace = self.read("traffic.file", fields.traffic.file, _trace_file)
        check_serving(fields, model, topology, longest, self.report)
        if self.report.problems or model is None or topology is None:
            raise InputError(self.report.problems)
        asked = fields.traffic.max_context if fields.traffic is not None else None
        return ServeScenario(
            name=self.path.stem,
            model=model,
            topology=topology,
            max_context=min(asked or longest or 1 << 24, longest or 1 << 24),
            trace_file=trace,
            fields=self._resolved(topology),
        )

    def _resolved(self, topology: Topology) -> ServeFields:
        fields = self.fields
        price = fields.price.usd_per_gpu_hour
        routing = fields.routing
        if routing.skew is None:
            routing = routing.model_copy(update={"skew": default_skew().value})
        return fields.model_copy(
            update={
                "model": self.name("model", fields.model, model_catalogue()),
                "topology": self.name("topology", fields.topology, catalogue("topologies")),
                "price": Price(
                    usd_per_gpu_hour=topology.usd_per_gpu_hour if price is None else price
                ),
                "routing": routing,
            }
        )

    def _context(self) -> int | None:
        return context_length(self.fields.model, self.base("model"))


def context_length(name_or_path: str, base: Path | None = None) -> int | None:
    """Longest sequence (tokens) a model was made for, from its `config.json`; None if unsaid."""
    data = load_json(find_config(name_or_path, base)).data
    for key in ("max_position_embeddings", "n_positions"):
        value = data.get(key)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _trace_file(name: str, base: Path | None) -> Path:
    path = Path(name) if base is None else base / name
    if not path.is_file():
        raise InputError(f"{name}: no such file")
    return path


def _kernel_files(topology: Topology) -> list[Path]:
    """Measurements that price an iteration: the GPU's own calibration, and the shipped kernels."""
    data = Path(simdeep.__file__).parent / "data"
    found = [data / "serving" / "kernels.yaml", data / "alltoall" / "deepep.yaml"]
    own = topology.gpu.calibration
    found += [catalogue("calibration")[own]] if own in catalogue("calibration") else []
    return [path for path in found if path.is_file()]
