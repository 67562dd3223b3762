"""A model, topology or GPU taken from a file with some of its values changed by the scenario.

A scenario names a file (`topology: h800-2048`), or gives `base` and what differs:
`topology: {base: h800-2048, nic: {bandwidth: 25 GB/s}}`. `--set topology.nic.bandwidth=25GB/s` and
a sweep over that key write the second form. A section is merged key by key, a list is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag, WithJsonSchema

from simdeep.errors import Problem
from simdeep.spec.yamlio import KeyPath, join_key, split_key

BASE = "base"
SOURCE = "changed by the scenario"

Changes: TypeAlias = Mapping[KeyPath, Any]
"""Values by key path in the changed file."""

NO_CHANGES: Changes = {}

Named: TypeAlias = Annotated[
    Annotated[str, Tag("name")] | Annotated[dict[str, Any], Tag("changed")],
    Discriminator(lambda value: "changed" if isinstance(value, dict) else "name"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "required": [BASE], "properties": {BASE: {"type": "string"}}},
            ]
        }
    ),
]
"""A file by name or path, or `base` and the values that differ from it."""


def split_named(named: str | Mapping[str, Any]) -> tuple[str | None, dict[KeyPath, Any]]:
    """The base (None if it is missing or no text) and the changed values."""
    if isinstance(named, str):
        return named, {}
    base = named.get(BASE)
    inside = {key: value for key, value in named.items() if key != BASE}
    return base if isinstance(base, str) else None, dict(_leaves(inside, ()))


def _leaves(values: Mapping[str, Any], at: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in values.items():
        if key == BASE:
            yield at, value
        elif isinstance(value, dict):
            yield from _leaves(value, (*at, key))
        else:
            yield (*at, key), value


def described(name: str, changes: Changes) -> str:
    """A name that says what is changed: `h800-2048 (nic.bandwidth 25 GB/s)`."""
    if not changes:
        return name
    return f"{name} ({', '.join(f'{join_key(path)} {value}' for path, value in changes.items())})"


def within(changes: Changes, key: str) -> dict[KeyPath, Any]:
    """The changes inside a section, by their paths in it; the section itself is not among them."""
    return {path[1:]: value for path, value in changes.items() if path[0] == key and path[1:]}


def changed_key(problem: Problem, changes: Changes) -> KeyPath | None:
    """The change a problem of the changed file is about, if any."""
    path = split_key(problem.key) if problem.key else ()
    for length in range(len(path), 0, -1):
        if path[:length] in changes:
            return path[:length]
    return None


def inside_section(problem: Problem, section: str, changes: Changes) -> Problem:
    """A problem of a changed value, by its path in what holds the section."""
    if changed_key(problem, changes) is None:
        return problem
    return replace(problem, key=f"{section}.{problem.key}")
