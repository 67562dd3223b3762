"""JSON files read strictly, with the line of every key.

The standard library's parser decides what the values are; a second, linear pass over the same text
finds where each key stands and refuses what the parser lets through: duplicate keys, NaN and
infinities.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from simdeep.errors import InputError, Problem
from simdeep.spec.yamlio import MAX_DEPTH, Document, KeyPath, join_key, read_text

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|\n|NaN|-?Infinity|-?[0-9][0-9.eE+-]*', re.DOTALL)


def load_json(path: str | Path) -> Document:
    """Read one JSON file; anything wrong with it is an `InputError`."""
    path = Path(path)
    text = read_text(path)
    if not text.strip():
        raise InputError([Problem(str(path), "", "the file is empty; it must hold a JSON object")])
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}"
        raise InputError([Problem(place, "", f"not valid JSON: {error.msg}")]) from None
    except RecursionError:
        message = f"nested deeper than {MAX_DEPTH} levels"
        raise InputError([Problem(str(path), "", message)]) from None
    except ValueError:  # an integer of more digits than Python converts
        raise InputError([Problem(str(path), "", "holds a number of too many digits")]) from None
    scan = _Scan(str(path))
    scan.text(text)
    if scan.problems:
        raise InputError(scan.problems)
    return Document(data, path, scan.lines)


@dataclass
class _Level:
    """An object or array that the scan is inside of."""

    is_object: bool
    keys: set[str] = field(default_factory=set)
    at: str | int = 0


class _Scan:
    """Walks the tokens of valid JSON, keeping the path, the line and the problems."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = 1
        self.lines: dict[KeyPath, int] = {(): 1}
        self.problems: list[Problem] = []
        self.levels: list[_Level] = []

    def text(self, text: str) -> None:
        pending = None  # the last string: a key if a colon follows
        for match in _TOKEN.finditer(text):
            token = match.group()
            if token == "\n":
                self.line += 1
                continue
            if token == ":" and pending is not None:
                self.key(json.loads(pending))
            elif token in "{[":
                self.levels.append(_Level(token == "{"))
                if len(self.levels) == MAX_DEPTH + 1:
                    self.add(f"nested deeper than {MAX_DEPTH} levels")
            elif token in "}]":
                self.levels.pop()
            elif token == ",":
                level = self.levels[-1]
                level.at = level.at if isinstance(level.at, str) else level.at + 1
            elif token[0] != '"' and not _is_finite(token):
                self.add(f"{token}, must be a finite number")
            pending = token if token[0] == '"' else None

    def key(self, key: str) -> None:
        level = self.levels[-1]
        level.at = key
        if key in level.keys:
            self.add(f"duplicate key; first on line {self.lines[self.path()]}")
            return
        level.keys.add(key)
        self.lines[self.path()] = self.line

    def path(self) -> KeyPath:
        return tuple(level.at for level in self.levels)

    def add(self, message: str) -> None:
        key = join_key(self.path()[:MAX_DEPTH])
        self.problems.append(Problem(f"{self.name}:{self.line}", key, message))


def _is_finite(token: str) -> bool:
    return not token.endswith(("NaN", "Infinity")) and math.isfinite(float(token))
