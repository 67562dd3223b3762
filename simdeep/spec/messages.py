"""Declared fields of a section, looked up by key path, and errors about them in simdeep's words."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from simdeep.spec.resources import nearest
from simdeep.spec.yamlio import KeyPath

UNKNOWN_KEY = "unknown key"
"""How every message about a key that does not exist begins."""


def aliases(info: FieldInfo) -> list[str]:
    """Other names the key may be written by."""
    extra = info.json_schema_extra
    names = extra.get("aliases", []) if isinstance(extra, dict) else []
    return [str(name) for name in names] if isinstance(names, list) else []


def section_of(info: FieldInfo | None) -> type[BaseModel] | None:
    """The model of a field that is a section of its own (or may be left empty)."""
    kind = info.annotation if info is not None else None
    for choice in get_args(kind) or (kind,):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice
    return None


@cache
def spellings(fields: type[BaseModel]) -> dict[str, str]:
    """Every accepted spelling of a section's keys, and the key it means."""
    found = {name: name for name in fields.model_fields}
    for name, info in fields.model_fields.items():
        found |= dict.fromkeys(aliases(info), name)
    return found


def declaration(path: KeyPath, fields: type[BaseModel]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The section a key belongs to, and its declaration if it has one."""
    section = fields
    for part in path[:-1]:
        section = section_of(section.model_fields.get(str(part))) or section
    return section, section.model_fields.get(str(path[-1])) if path else None


def _show(value: Any) -> str:
    """A value as the file would have it, cut to a readable length."""
    if value is None:
        return "empty"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
_YAML_1_1 = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def explain(detail: ErrorDetails, path: KeyPath, fields: type[BaseModel]) -> str:
    """One of pydantic's errors in simdeep's words: value, rule, nearest valid."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    section, info = declaration(path, fields)
    meaning = f" ({info.description})" if info is not None and info.description else ""
    if kind == "extra_forbidden":
        return _explain_unknown(str(path[-1]), section, fields)
    if kind == "missing":
        return f"is missing{meaning}"
    if kind == "literal_error":
        valid = [
            text.strip("' ") for text in str(context["expected"]).replace(" or ", ",").split(",")
        ]
        near = nearest(str(value), valid)
        hint = f"; did you mean {near}?" if near else ""
        return f"is {_show(value)}; must be one of {', '.join(valid)}{hint}"
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"is {_show(value)}; must be {words} {context[bound]:g}{meaning}"
    if kind == "value_error":
        return str(context["error"])
    if kind.startswith("bool"):
        word = _YAML_1_1.get(str(value).lower())
        hint = f"; in YAML 1.2 {value} is text, write {word}" if word else ""
        return f"is {_show(value)}; must be true or false{hint}"
    if kind.startswith("int"):
        return f"is {_show(value)}; must be a whole number{_unquote(value)}{meaning}"
    if kind.startswith(("float", "finite")):
        return f"is {_show(value)}; must be a number{_unquote(value)}{meaning}"
    if kind.startswith("string"):
        return f"is {_show(value)}; must be text{meaning}"
    if kind.startswith("model"):
        return f"is {_show(value)}; must be a section of keys{meaning}"
    return f"is {_show(value)}: {detail['msg']}"


def _unquote(value: Any) -> str:
    text = str(value).strip()
    digits = isinstance(value, str) and text.lstrip("+-").replace(".", "", 1).isdecimal()
    return f", write {text} without quotes" if digits else ""


def _explain_unknown(name: str, section: type[BaseModel], fields: type[BaseModel]) -> str:
    valid = spellings(section)
    near = nearest(name, tuple(valid))
    if near is not None:
        return f"{UNKNOWN_KEY}; did you mean {near}?"
    homes = {"": fields} | {key: section_of(info) for key, info in fields.model_fields.items()}
    for home, other in homes.items():
        if other is not None and other is not section and name in spellings(other):
            return f"{UNKNOWN_KEY} here; did you mean {'.'.join(filter(None, (home, name)))}?"
    return f"{UNKNOWN_KEY}; valid keys: {', '.join(section.model_fields)}"
