"""Component times as a file: written, read, and refused where they do not hold.

The format is described in docs/hooks.md.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simdeep.errors import InputError, Problem
from simdeep.spec.yamlio import load_document
from simdeep.validate.hooks.device import Device
from simdeep.validate.hooks.measurement import Component, Measurement, Spread

FORMAT = "simdeep-components"
VERSION = 1
_TIMES = ("F", "I", "W", "B")


def to_plain(measured: Measurement) -> dict[str, Any]:
    """A measurement as plain data with units in the names; its routing goes elsewhere."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "device": asdict(measured.device),
        "model": measured.model,
        "dtype": measured.dtype,
        "batch": [list(shape) for shape in measured.batch],
        "repeats": measured.repeats,
        "parameter_bytes": measured.parameter_bytes,
        "saved_bytes": measured.saved_bytes,
        "elsewhere_bytes": measured.elsewhere_bytes,
        "whole": {"F_us": _times(measured.whole_f), "B_us": _times(measured.whole_b)},
        "components": [_plain(part) for part in measured.components],
    }


def write_measurement(path: Path, measured: Measurement) -> None:
    """Write the component times as YAML."""
    from ruamel.yaml import YAML

    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 4096
    yaml.dump(to_plain(measured), stream)
    head = "# Component times measured by `simdeep measure`: median and quartiles.\n"
    path.write_text(head + stream.getvalue(), encoding="utf-8", newline="\n")


def read_measurement(path: str | Path, here: Device | None = None) -> Measurement:
    """Read component times.

    Args:
        path: of a file that `write_measurement` made.
        here: the device that they must have been measured on, with the same software.

    Raises:
        InputError: no such file, another format, or another device or version than `here`.
    """
    document = load_document(path)
    data = document.data if isinstance(document.data, dict) else {}
    if data.get("format") != FORMAT or data.get("version") != VERSION:
        found = f"{data.get('format')!r} version {data.get('version')!r}"
        message = f"is {found}; must be {FORMAT!r} version {VERSION}"
        raise InputError([Problem(document.place(()), "format", message)])
    try:
        measured = _measurement(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"missing key {error}" if isinstance(error, KeyError) else str(error)
        message = f"not a file of component times: {what}"
        raise InputError([Problem(str(path), "", message)]) from None
    if here is not None and (other := measured.device.differences(here)):
        message = f"measured on {'; '.join(other)} as here; measure again"
        raise InputError([Problem(document.place(("device",)), "device", message)])
    return measured


def _times(spread: Spread) -> dict[str, float]:
    pairs = (("median", spread.median_s), ("low", spread.low_s), ("high", spread.high_s))
    return {name: round(seconds * 1e6, 3) for name, seconds in pairs}


def _plain(part: Component) -> dict[str, Any]:
    times = zip(_TIMES, (part.f, part.i, part.w, part.b), strict=True)
    return {
        "layer": part.layer,
        "name": part.name,
        "calls": part.calls,
        "rows": part.rows,
        "parameter_bytes": part.parameter_bytes,
        "saved_bytes": part.saved_bytes,
        **{f"{letter}_us": _times(spread) for letter, spread in times},
    }


def _measurement(data: Mapping[str, Any]) -> Measurement:
    whole = data["whole"]
    return Measurement(
        model=str(data["model"]),
        device=Device(**data["device"]),
        dtype=str(data["dtype"]),
        batch=tuple(tuple(map(int, shape)) for shape in data["batch"]),
        repeats=int(data["repeats"]),
        whole_f=_spread(whole["F_us"]),
        whole_b=_spread(whole["B_us"]),
        components=tuple(_component(entry) for entry in data["components"]),
        elsewhere_bytes=int(data["elsewhere_bytes"]),
        parameter_bytes=int(data["parameter_bytes"]),
    )


def _component(entry: Mapping[str, Any]) -> Component:
    f, i, w, b = (_spread(entry[f"{letter}_us"]) for letter in _TIMES)
    return Component(
        layer=entry["layer"],
        name=str(entry["name"]),
        calls=int(entry["calls"]),
        rows=int(entry["rows"]),
        f=f,
        i=i,
        w=w,
        b=b,
        saved_bytes=int(entry["saved_bytes"]),
        parameter_bytes=int(entry["parameter_bytes"]),
    )


def _spread(entry: Mapping[str, float]) -> Spread:
    return Spread(*(float(entry[name]) * 1e-6 for name in ("median", "low", "high")))
