"""The keys of the files a user writes as Markdown, made from the same schemas that check them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from simdeep.spec.schema import SCHEMAS

Schema = dict[str, Any]


def reference(kind: str) -> str:
    """Markdown of one kind of file: a table for each kind of scenario, a row for each key.

    Keys of sections are written with dots, as `--set` takes them. Other names of a key stand with
    it.

    Args:
        kind: a key of `SCHEMAS`.
    """
    schema = SCHEMAS[kind]()
    definitions = schema.get("$defs", {})
    lines = [f"## {schema['title']}", ""]
    for title, found in _alternatives(schema, definitions):
        if title:
            lines += [f"### kind: {title}", ""]
        if about := found.get("description"):
            lines += [_line(about), ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in _rows(found, definitions, "")]
        lines.append("")
    return "\n".join(lines)


def _alternatives(schema: Schema, definitions: Schema) -> Iterator[tuple[str, Schema]]:
    mapping = schema.get("discriminator", {}).get("mapping")
    if mapping is None:
        yield "", schema
        return
    for name, target in mapping.items():
        yield name, definitions[target.rsplit("/", 1)[1]]


def _rows(schema: Schema, definitions: Schema, prefix: str) -> Iterator[tuple[str, ...]]:
    properties = schema.get("properties", {})
    same: dict[str, list[str]] = {}
    for name, declared in properties.items():
        if declared.get("title", "").startswith("Same as "):
            same.setdefault(declared["title"].removeprefix("Same as "), []).append(name)
    aliases = {alias for names in same.values() for alias in names}
    required = set(schema.get("required", ()))
    for name, declared in properties.items():
        if name in aliases:
            continue
        key = f"`{prefix}{name}`"
        key += "".join(f", `{prefix}{alias}`" for alias in same.get(name, ()))
        section = _section(declared, definitions)
        default = "required" if name in required else _default(declared)
        meaning = _line(declared.get("description", section.get("description", "")))
        if section and not prefix.count(".") > 1:
            yield key, "section", default if default == "required" else "", meaning
            yield from _rows(section, definitions, f"{prefix}{name}.")
        else:
            yield key, _type(declared, definitions), default, meaning


def _section(declared: Schema, definitions: Schema) -> Schema:
    """The object that a key holds, if that is all it may hold (or nothing)."""
    options = [o for o in declared.get("anyOf", [declared]) if o.get("type") != "null"]
    options += declared.get("allOf", [])
    found = [definitions[o["$ref"].rsplit("/", 1)[1]] for o in options if "$ref" in o]
    if len(found) == 1 and len([o for o in options if o != {}]) == 1 and "properties" in found[0]:
        section: Schema = found[0]
        return section
    return {}


def _type(declared: Schema, definitions: Schema) -> str:
    if "$ref" in declared:
        return _type(definitions[declared["$ref"].rsplit("/", 1)[1]], definitions)
    if "enum" in declared:
        return _cell(" or ".join(f"`{value}`" for value in declared["enum"]))
    if "const" in declared:
        return f"`{declared['const']}`"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in declared:
            kinds = [_type(o, definitions) for o in declared[key] if o.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    kind = declared.get("type", "any")
    if kind == "array":
        return f"list of {_type(declared.get('items', {}), definitions)}"
    words = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}
    return words.get(kind, "mapping" if kind == "object" else str(kind)) + _limits(declared)


def _limits(declared: Schema) -> str:
    low = declared.get("minimum", declared.get("exclusiveMinimum"))
    if low is None:
        return ""
    sign = ">=" if "minimum" in declared else ">"
    return f" {sign} {low:g}"


def _default(declared: Schema) -> str:
    if "default" not in declared or declared["default"] is None:
        return ""
    return _cell(f"`{json.dumps(declared['default'])}`")


def _line(text: str) -> str:
    return _cell(" ".join(text.split()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
