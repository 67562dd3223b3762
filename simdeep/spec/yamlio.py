"""YAML 1.2 files read safely, with the line of every key.

Values are plain Python (dict, list, str, int, float, bool, None) by YAML 1.2's core schema: `yes`
and `no` are strings and `010` is ten. Duplicate keys, anchors, aliases, tags, NaN and infinities
are refused, and so are files too large or nested too deep to be written by hand. Every problem of
a file that parses is reported at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml import events as ev
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from simdeep.errors import InputError, Problem

MAX_BYTES = 256 << 10
MAX_DEPTH = 24
MAX_NODES = 20_000
MAX_PROBLEMS = 50

_WRITE_OUT = "anchors and aliases are refused; write the value out"

KeyPath = tuple[str | int, ...]

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCT = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Document:
    """A file as plain data, with the line (from 1) of every key and list item."""

    data: Any
    path: Path
    lines: Mapping[KeyPath, int] = field(repr=False)

    def line_of(self, keypath: KeyPath | str) -> int:
        """Line of a key path (a tuple, or dotted text), or of its nearest existing parent."""
        path = split_key(keypath) if isinstance(keypath, str) else tuple(keypath)
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def place(self, keypath: KeyPath | str) -> str:
        """`file:line` of a key path."""
        return f"{self.path}:{self.line_of(keypath)}"


@lru_cache(maxsize=4096)
def split_key(dotted: str) -> KeyPath:
    """`layout.stages.3` as a key path; parts of digits are list positions."""
    return tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))


def join_key(keypath: KeyPath) -> str:
    """A key path as text: `layout.stages.3`."""
    return ".".join(str(part) for part in keypath)


def load_document(path: str | Path) -> Document:
    """Read one YAML 1.2 file; anything wrong with it is an `InputError`."""
    path = Path(path)
    text = read_text(path)
    data, lines, problems = _parse(text, str(path))
    if not problems and data is None:
        problems = (Problem(str(path), "", "the file is empty; it must hold keys and values"),)
    if problems:
        raise InputError(problems)
    return Document(data, path, lines)


def parse_value(text: str, place: str, key: str = "") -> Any:
    """The value of a flag such as `--set key=value`, read by the rules of files."""
    data, _, problems = _parse(text, "")
    if problems:
        raise InputError(Problem(place, key, p.message) for p in problems)
    return data


def read_text(path: Path) -> str:
    """The text of a regular UTF-8 file of at most `MAX_BYTES`; else an `InputError`."""

    def refuse(message: str) -> InputError:
        return InputError([Problem(str(path), "", message)])

    try:
        if path.is_dir():
            raise refuse("is a directory; name a file in it")
        if not path.exists():
            raise refuse("no such file")
        if not path.is_file():
            raise refuse("is not a regular file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise refuse(f"cannot be read: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES >> 10} KiB, the most a file may have")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(f"is not UTF-8 text (byte {error.start}); is it a binary file?") from None
    if "\0" in text:
        raise refuse(f"holds a NUL byte (byte {text.index(chr(0))}); is it a binary file?")
    return text


def _parse(text: str, name: str) -> tuple[Any, Mapping[KeyPath, int], tuple[Problem, ...]]:
    data, lines, problems = _parse_once(text, name)
    return deepcopy(data), lines, problems  # readers change what they are given


@lru_cache(maxsize=256)
def _parse_once(text: str, name: str) -> tuple[Any, Mapping[KeyPath, int], tuple[Problem, ...]]:
    """Parsing takes 10 ms a file, and a sweep reads the same files for every point."""
    builder = _Builder(name)
    try:
        # The pure Python parser is YAML 1.2; ruamel's C one is 1.1 and is not always there.
        data = builder.document(YAML(typ="safe", pure=True).parse(text))
    except _StopError:
        data = None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        builder.add(line, (), f"not valid YAML: {error.problem or error.context}")
        data = None
    except YAMLError as error:
        builder.add(1, (), f"not valid YAML: {str(error).splitlines()[0]}")
        data = None
    return data, builder.lines, tuple(builder.problems)


class _StopError(Exception):
    """Reading on is useless or dangerous; the reason is among the problems."""


class _Builder:
    """Builds plain data from parser events, collecting lines and problems on the way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes = 0
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []

    def add(self, line: int, path: KeyPath, message: str) -> None:
        place = f"{self.name}:{line}" if self.name else ""
        self.problems.append(Problem(place, join_key(path), message))
        if len(self.problems) >= MAX_PROBLEMS:
            self.problems.append(Problem(place, "", "too many problems; reading stopped here"))
            raise _StopError

    def document(self, events: Iterator[Any]) -> Any:
        data: Any = None
        documents = 0
        for event in events:
            if isinstance(event, ev.DocumentStartEvent):
                documents += 1
                line = event.start_mark.line + 1
                if documents > 1:
                    self.add(line, (), "a second document; a file holds one")
                    raise _StopError
                if event.version is not None and tuple(event.version) != (1, 2):
                    self.add(line - 1, (), "a %YAML directive other than 1.2; files are YAML 1.2")
            elif isinstance(event, ev.NodeEvent):
                data = self.node(event, events, ())
        return data

    def node(self, event: Any, events: Iterator[Any], path: KeyPath) -> Any:
        line = event.start_mark.line + 1
        self.lines.setdefault(path, line)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.add(line, (), f"holds more than {MAX_NODES} values, the most a file may have")
            raise _StopError
        if event.anchor is not None:
            word = "alias *" if isinstance(event, ev.AliasEvent) else "anchor &"
            self.add(line, path, f"{word}{str(event.anchor)[:60]}: {_WRITE_OUT}")
        if isinstance(event, ev.AliasEvent):
            return None
        if event.tag is not None and event.tag != "!":
            self.add(
                line, path, f"tag {str(event.tag)[:60]}: tags are refused; write a plain value"
            )
        if isinstance(event, ev.ScalarEvent):
            return self.scalar(event, line, path)
        if len(path) >= MAX_DEPTH:
            self.add(line, path[:3], f"nested deeper than {MAX_DEPTH} levels")
            raise _StopError
        if isinstance(event, ev.SequenceStartEvent):
            return self.sequence(events, path)
        return self.mapping(events, path)

    def sequence(self, events: Iterator[Any], path: KeyPath) -> list[Any]:
        items: list[Any] = []
        for event in events:
            if isinstance(event, ev.SequenceEndEvent):
                break
            items.append(self.node(event, events, (*path, len(items))))
        return items

    def mapping(self, events: Iterator[Any], path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in events:
            if isinstance(event, ev.MappingEndEvent):
                break
            line = event.start_mark.line + 1
            if not isinstance(event, ev.ScalarEvent):
                self.add(line, path, "a key must be plain text")
                raise _StopError
            key = str(event.value)
            child = (*path, key)
            first = self.lines.get(child)
            if event.anchor is not None:
                self.add(line, child, f"anchor &{str(event.anchor)[:60]}: {_WRITE_OUT}")
            if key in found:
                self.add(line, child, f"the key is given twice, first on line {first}")
            else:
                self.lines[child] = line
            value = self.node(next(events), events, child)
            found.setdefault(key, value)
        return found

    def scalar(self, event: Any, line: int, path: KeyPath) -> Any:
        text = str(event.value)
        if not text.isascii() and _SURROGATE.search(text):
            self.add(line, path, "holds half of a character (a lone UTF-16 surrogate)")
        if not event.implicit[0]:  # quoted or block text is text
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        try:
            if _INT.fullmatch(text):
                return int(text)
            if _OCT.fullmatch(text):
                return int(text[2:], 8)
            if _HEX.fullmatch(text):
                return int(text[2:], 16)
        except ValueError:  # Python's limit on digits
            self.add(line, path, f"an integer of {len(text)} digits is too long")
            return 0
        if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        if _FLOAT.fullmatch(text) or _SPECIAL.fullmatch(text):
            self.add(line, path, f"{text} is not a finite number; every number must be finite")
            return 0.0
        return text
