"""JSON Schemas of the files a user writes, made from the declarations the readers use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from simdeep.spec.hardware import GpuFile
from simdeep.spec.scenario_schema import AllToAllScenario, PairScenario, TrainScenario
from simdeep.spec.serve_schema import ServeFields
from simdeep.spec.topology import TopologyFile

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"


def scenario_schema() -> dict[str, Any]:
    """Schema of `scenarios/*.yaml`, one alternative for each kind."""
    either = Annotated[
        TrainScenario | PairScenario | AllToAllScenario | ServeFields, Field(discriminator="kind")
    ]
    return _finish("simdeep scenario", TypeAdapter(either).json_schema())


def topology_schema() -> dict[str, Any]:
    """Schema of `topologies/*.yaml`."""
    return _finish("simdeep topology", TopologyFile.model_json_schema())


def gpu_schema() -> dict[str, Any]:
    """Schema of a GPU file."""
    return _finish("simdeep GPU", GpuFile.model_json_schema())


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "scenario": scenario_schema,
    "topology": topology_schema,
    "gpu": gpu_schema,
}
"""Schemas by the kind of file they describe."""


def _finish(title: str, schema: dict[str, Any]) -> dict[str, Any]:
    for part in (schema, *schema.get("$defs", {}).values()):
        _spell_out_aliases(part.get("properties", {}))
    return {"$schema": JSON_SCHEMA} | schema | {"title": title}


def _spell_out_aliases(properties: dict[str, Any]) -> None:
    """Keys with several names become several properties, since a schema has no other way."""
    for name, declared in list(properties.items()):
        for alias in declared.pop("aliases", []):
            properties[alias] = declared | {"title": f"Same as {name}"}
