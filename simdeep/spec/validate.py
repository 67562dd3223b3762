"""Checks a document against declared fields and says every problem with its place.

Used in two steps: fields by themselves (`check_fields`), then rules between fields (`Reporter`),
which keeps quiet about rules that rest on a value already reported.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from simdeep.errors import InputError, Problem
from simdeep.spec.messages import declaration, explain, section_of, spellings
from simdeep.spec.resources import nearest
from simdeep.spec.yamlio import Document, KeyPath, join_key, parse_value, split_key

M = TypeVar("M", bound=BaseModel)

BASED: frozenset[KeyPath] = frozenset({("model",), ("topology",), ("topology", "gpu")})
"""Keys of a scenario that name a file, whose values can be changed by keys inside."""


class Source:
    """Where each value came from: a line of the file, or a `--set` flag."""

    def __init__(self, document: Document):
        self.document = document
        self.overrides: dict[KeyPath, str] = {}
        self._written: dict[KeyPath, KeyPath] = {}

    def rename(self, written: KeyPath, canonical: KeyPath) -> None:
        """Note that a key is spelled otherwise in the file."""
        self._written[canonical] = written

    def override(self, path: KeyPath) -> str | None:
        """The flag that set a value or a part of what holds it, or None."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return self.overrides[path[:length]]
        return None

    def place(self, path: KeyPath) -> str:
        """`file:line` or `--set key=value` of a key path, or of its nearest parent."""
        flag = self.override(path)
        written = self._written.get(path, path)
        if flag is None and written not in self.document.lines:
            inside = (f for p, f in self.overrides.items() if path and p[: len(path)] == path)
            flag = next(inside, None)
        return flag or self.document.place(written)

    def line(self, path: KeyPath) -> int:
        """Line for sorting; flags come first."""
        written = self._written.get(path, path)
        return 0 if self.override(path) else self.document.line_of(written)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem of a key path, by the name it is written with."""
        return Problem(self.place(path), join_key(self._written.get(path, path)), message)


def apply_overrides(
    data: dict[str, Any], source: Source, overrides: Mapping[str, str], fields: type[BaseModel]
) -> list[Problem]:
    """Set values of `--set key=value` in `data`, in place; returns what could not be set."""
    problems = []
    # A file is named before its values are changed, whatever the order of the flags.
    for key, text in sorted(overrides.items(), key=lambda item: split_key(item[0]) not in BASED):
        flag = f"--set {key}={text}"
        path = _canonical(split_key(key.strip()), fields)
        if not all(str(part).strip() for part in path):
            problems.append(Problem(flag, "", "a key is names joined by dots, as in layout.pp"))
            continue
        try:
            value = parse_value(text, flag, join_key(path))
        except InputError as error:
            problems += error.problems
            continue
        message = set_value(data, path, value)
        if message is None:
            source.overrides[path] = flag
        else:
            problems.append(Problem(flag, join_key(path), message))
    return problems


def set_value(data: dict[str, Any], path: KeyPath, value: Any) -> str | None:
    """Set one value; returns why it cannot be. A named file becomes the `base` of its changes."""
    node: Any = data
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(node, list):
            if not isinstance(part, int) or part >= len(node):
                return f"{join_key(path[:depth])} is a list of {len(node)}; give 0..{len(node) - 1}"
        elif isinstance(node, dict):
            part = str(part)
            if not last and node.get(part) is None:
                node[part] = {}
            if not last and isinstance(node[part], str) and path[: depth + 1] in BASED:
                node[part] = {"base": node[part]}
        else:
            return f"{join_key(path[:depth])} is {node!r}, which has no keys inside"
        if last:
            node[part] = value
        else:
            node = node[part]
    return None


def _canonical(path: KeyPath, fields: type[BaseModel] | None) -> KeyPath:
    parts: list[str | int] = []
    for part in path:
        name = part if fields is None else spellings(fields).get(str(part), part)
        parts.append(name)
        fields = section_of(fields.model_fields.get(str(name))) if fields is not None else None
    return tuple(parts)


def use_canonical_names(
    data: dict[str, Any], source: Source, fields: type[BaseModel], at: KeyPath = ()
) -> list[Problem]:
    """Rename keys written by another accepted name, in place; a key given by two is a problem."""
    problems = []
    names = spellings(fields)
    for key in list(data):
        name = names.get(key, key)
        if name != key and name in data:
            problems.append(source.problem((*at, key), f"the same key as {name}; give one of them"))
            del data[key]
        elif name != key:
            data[name] = data.pop(key)
            source.rename((*at, key), (*at, name))
        section = section_of(fields.model_fields.get(name))
        if section is not None and isinstance(data.get(name), dict):
            problems += use_canonical_names(data[name], source, section, (*at, name))
    return problems


class Reporter:
    """Collects problems; remembers which keys are wrong, to say nothing that follows from it."""

    def __init__(self, source: Source):
        self.source = source
        self.tainted: set[KeyPath] = set()
        self._found: list[tuple[int, int, Problem]] = []

    def add(self, path: KeyPath, message: str) -> None:
        """A problem of a key."""
        self._append(path, self.source.problem(path, message))

    def add_problem(self, problem: Problem, at: KeyPath = ()) -> None:
        """A problem found elsewhere, for the key `at`; one without a place gets that of its key."""
        path = at or (split_key(problem.key) if problem.key else ())
        located = self.source.problem(path, problem.message) if not problem.place else problem
        self._append(path, located)

    def _append(self, path: KeyPath, problem: Problem) -> None:
        if all(problem != other for _, _, other in self._found):
            self._found.append((self.source.line(path), len(self._found), problem))
        self.tainted.add(path)

    def rule(self, keys: str, message: str, broken: bool) -> bool:
        """Report a broken rule between keys (dotted, separated by blanks); True when it holds.

        The problem is the first key's, but a flag that set one of the keys is named as its place.
        Nothing is said, and the rule counts as broken, when one of the keys is wrong by itself.
        """
        paths = [split_key(key) for key in keys.split()]
        if self.tainted and any(p[:n] in self.tainted for p in paths for n in range(len(p) + 1)):
            return False
        if broken:
            flagged = (path for path in paths if self.source.override(path))
            culprit = next(flagged, paths[0])
            problem = replace(
                self.source.problem(paths[0], message), place=self.source.place(culprit)
            )
            self._found.append((self.source.line(culprit), len(self._found), problem))
        return not broken

    @property
    def problems(self) -> list[Problem]:
        """All problems in the order of the file, those of flags first."""
        return [problem for _, _, problem in sorted(self._found, key=lambda f: f[:2])]


def check_fields(fields: type[M], data: dict[str, Any], report: Reporter) -> M:
    """Validate `data`; wrong values are reported, and defaults or examples stand in for them."""
    data = copy.deepcopy(data)
    for _ in range(8):  # repairing a section can bring out problems inside it
        try:
            return fields.model_validate(data)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                path = _known_path(detail["loc"], fields)
                report.add(path, explain(detail, path, fields))
                if detail["type"] == "extra_forbidden":
                    report.tainted |= _meant(path, fields)
                _repair(data, path, fields)
    raise InputError(report.problems)


def _meant(path: KeyPath, fields: type[BaseModel]) -> set[KeyPath]:
    """The key that a misspelled one stands for, if any: its default must not be judged."""
    names = spellings(declaration(path, fields)[0])
    near = nearest(str(path[-1]), tuple(names))
    return set() if near is None else {(*path[:-1], names[near])}


def _known_path(loc: Sequence[int | str], fields: type[BaseModel]) -> KeyPath:
    """The part of an error's location that names keys: sections, then one key."""
    path: list[str | int] = []
    section: type[BaseModel] | None = fields
    for part in loc:
        path.append(part)
        section = section_of(section.model_fields.get(str(part))) if section is not None else None
        if section is None:
            break
    return tuple(path)


def _repair(data: dict[str, Any], path: KeyPath, fields: type[BaseModel]) -> None:
    _, info = declaration(path, fields)
    node: Any = data
    for part in path[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    if not path or not isinstance(node, dict):
        return
    node.pop(path[-1], None)
    if info is not None and info.is_required():
        node[path[-1]] = copy.deepcopy((info.examples or [None])[0])
