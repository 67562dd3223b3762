"""Loads of one rank as recorded from a real run, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from simdeep.errors import InputError, Problem
from simdeep.program.routing.balanced import balanced_loads
from simdeep.program.routing.gate import GateSpec
from simdeep.program.routing.loads import Loads
from simdeep.spec.resources import find_resource
from simdeep.spec.yamlio import Document, load_document

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")
TRACE = "h800-trace-loads"
"""The shipped record: rank 0 of DeepSeek's published H800 training trace."""

_SETTING = ("experts", "topk", "ep", "gpus_per_node", "tokens_per_rank")
_KEYS = ("source", "setting", *DIRECTIONS)
_LISTS = ("unique", "rows")


@dataclass(frozen=True)
class Record:
    """What a rank received in each layer: distinct tokens and padded rows, by direction.

    `unique` and `rows` are keyed by direction; all four tuples have one entry a layer, in the order
    of the file. `setting` says what was run.
    """

    path: Path
    source: str
    setting: dict[str, int]
    unique: dict[Direction, tuple[int, ...]]
    rows: dict[Direction, tuple[int, ...]]

    @property
    def layers(self) -> int:
        """Number of layers recorded."""
        return len(self.unique["forward"])


def load_record(name_or_path: str | Path = TRACE) -> Record:
    """Read a record, shipped or the user's; every problem of it in one `InputError`."""
    doc = load_document(find_resource("routing", name_or_path))
    problems = _problems(doc)
    if problems:
        raise InputError(problems)
    data = doc.data
    return Record(
        doc.path,
        str(data["source"]),
        {key: data["setting"][key] for key in _SETTING},
        {d: tuple(data[d]["unique"]) for d in DIRECTIONS},
        {d: tuple(data[d]["rows"]) for d in DIRECTIONS},
    )


def recorded_loads(
    record: Record,
    gate: GateSpec,
    ep: int,
    gpus_per_node: int,
    tokens_per_rank: int,
    direction: Direction,
) -> Loads:
    """Loads [layers, 1] of the recorded rank: one draw a layer, in the order of the record.

    Received tokens and rows are the record's. Copies that the record does not tell of are the
    expected ones of `balanced_loads`; copies received over NVLink grow with the tokens received.
    """
    asked = {
        "experts": gate.experts,
        "topk": gate.topk,
        "ep": ep,
        "gpus_per_node": gpus_per_node,
        "tokens_per_rank": tokens_per_rank,
    }
    wrong = [k for k in _SETTING if asked[k] != record.setting[k]]
    if wrong:
        raise InputError(
            Problem(
                str(record.path),
                f"setting.{key}",
                f"recorded with {record.setting[key]}, the scenario has {asked[key]}; take another "
                "record or routing kind gate",
            )
            for key in wrong
        )
    mean = balanced_loads(gate, ep, gpus_per_node, tokens_per_rank, record.layers)
    unique = np.array(record.unique[direction], dtype=np.float64)[:, None]
    return Loads(
        tokens=mean.tokens[:, :1],
        rows=np.array(record.rows[direction], dtype=np.float64)[:, None],
        unique=unique,
        ib_out_copies=mean.ib_out_copies[:, :1],
        ib_in_copies=mean.ib_in_copies[:, :1],
        nvl_out_copies=mean.nvl_out_copies[:, :1],
        nvl_in_copies=mean.nvl_in_copies[:, :1] * unique / mean.unique[:, :1],
        nodes_per_token=mean.nodes_per_token,
        gpus_per_token=mean.gpus_per_token,
        expert_tokens=None,
    )


def _problems(doc: Document) -> list[Problem]:
    """Everything wrong with the record's keys and values."""
    found: list[Problem] = []

    def refuse(key: str, message: str) -> None:
        found.append(Problem(doc.place(key), key, message))

    def section(key: str, wanted: tuple[str, ...], inside: object) -> dict[str, object]:
        if not isinstance(inside, dict):
            refuse(key, f"must hold the keys {', '.join(wanted)}")
            return {}
        for name in inside:
            if name not in wanted:
                refuse(f"{key}.{name}".lstrip("."), f"unknown key; valid: {', '.join(wanted)}")
        for name in wanted:
            if name not in inside:
                refuse(f"{key}.{name}".lstrip("."), "is missing")
        return inside

    top = section("", _KEYS, doc.data)
    if "source" in top and not isinstance(top["source"], str):
        refuse("source", f"is {top['source']!r}; must be text that says where the loads are from")
    if "setting" in top:
        for key, value in section("setting", _SETTING, top["setting"]).items():
            if not _whole(value):
                refuse(f"setting.{key}", f"is {value!r}; must be a whole number from 1")
    lengths: dict[str, int] = {}
    for direction in DIRECTIONS:
        if direction not in top:
            continue
        lists = section(direction, _LISTS, top[direction])
        for name in _LISTS:
            values = lists.get(name)
            if name not in lists:
                continue
            if not isinstance(values, list) or not values or not all(map(_whole, values)):
                refuse(f"{direction}.{name}", "must be a list of whole numbers from 1, one a layer")
                continue
            lengths[f"{direction}.{name}"] = len(values)
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key} has {n}" for key, n in lengths.items())
        refuse("forward", f"lists must have one entry a layer each; {shown}")
    return found


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
