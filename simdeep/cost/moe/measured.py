"""Published measurements of the kernels, and what the model says of each."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import log
from pathlib import Path
from typing import Literal

import simdeep
from simdeep.cost.moe.constants import DATA, Direction, Kernels
from simdeep.cost.moe.copies import HopCopies, from_dispatches
from simdeep.cost.moe.pairs import PairTraffic, random_pairs
from simdeep.cost.moe.price import PortLinks, dispatch_combine
from simdeep.cost.moe.result import AllToAll
from simdeep.program.routing.draws import gate_dispatches
from simdeep.program.routing.gate import Gate
from simdeep.program.routing.placement import contiguous
from simdeep.spec.hardware import load_gpu
from simdeep.spec.topology import load_topology

SWEEP = Path(simdeep.__file__).parent / "data" / "traces" / "deepep_h100_sm_sweep.csv"
GPUS_PER_NODE, EXPERTS, TOPK, GROUPS = 8, 256, 8, 4

Table = Literal["v1", "first", "low_latency", "first_low_latency", "sweep"]
TABLES: tuple[Table, ...] = ("v1", "sweep", "low_latency", "first", "first_low_latency")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure: `unit` is GBps (logical) of `link`, or us."""

    table: Table
    direction: Direction
    nodes: int
    tokens: int
    sms: int
    link: str
    unit: Literal["GBps", "us"]
    value: float
    notify_us: float = 0.0


@dataclass(frozen=True, slots=True)
class Compared:
    """A row, the model's figure in the same unit, and the model's time in seconds."""

    row: Row
    model: float
    result: AllToAll

    @property
    def error(self) -> float:
        """Model over measurement, less 1."""
        return self.model / self.row.value - 1.0

    @property
    def log_time_ratio(self) -> float:
        """Logarithm of model over measured time."""
        return log(self.model / self.row.value) * (-1.0 if self.row.unit == "GBps" else 1.0)


def measured_rows(table: Table) -> tuple[Row, ...]:
    """Rows of a table: `v1` and `low_latency` are the ones published now, `first` the older."""
    return _rows()[table]


@cache
def _rows() -> dict[Table, tuple[Row, ...]]:
    found: dict[Table, list[Row]] = {table: [] for table in TABLES}
    for r in _read(DATA / "deepep_h800_normal.csv"):
        table: Table = "v1" if r["version"] == "v1" else "first"
        found[table].append(
            Row(
                table,
                _direction(r["direction"]),
                int(r["nodes"]),
                int(r["tokens_per_gpu"]),
                int(r["sms"]),
                r["link"],
                "GBps",
                float(r["logical_gbps"]),
            )
        )
    for r in _read(DATA / "deepep_h800_low_latency.csv"):
        table = "low_latency" if r["version"] == "v1" else "first_low_latency"
        nodes = int(r["ep"]) // GPUS_PER_NODE
        direction, tokens = _direction(r["direction"]), int(r["tokens_per_gpu"])
        found[table].append(
            Row(table, direction, nodes, tokens, 0, r["node_transport"], "us", float(r["time_us"]))
        )
    for r in _read(SWEEP):
        for d in ("dispatch", "combine"):
            found["sweep"].append(
                Row(
                    "sweep",
                    _direction(d),
                    int(r["nodes"]),
                    int(r["tokens_per_gpu"]),
                    int(r["sms"]),
                    "",
                    "us",
                    float(r[f"{d}_transmit_us"]),
                    float(r[f"{d}_notify_us"]),
                )
            )
    return {table: tuple(rows) for table, rows in found.items()}


def compare(row: Row, kernels: Kernels) -> Compared:
    """Price what a row measured."""
    if row.sms == 0:
        result = dispatch_combine(
            message_traffic(row.nodes, row.tokens),
            machine_links("h800"),
            row.direction,
            mode="low-latency",
            kernels=kernels,
            nvlink=row.link == "nvlink",
        )
    else:
        gpu = "h100" if row.table == "sweep" else "h800"
        result = dispatch_combine(
            hop_traffic(row.nodes, row.tokens),
            machine_links(gpu),
            row.direction,
            sms=row.sms,
            kernels=kernels,
        )
    if row.unit == "us":
        return Compared(row, float(result.finish_s.mean()) * 1e6, result)
    model = result.logical_nvl_gbps if row.link == "nvlink" else result.logical_ib_gbps
    return Compared(row, model, result)


def compare_all(tables: tuple[Table, ...], kernels: Kernels) -> Iterator[Compared]:
    """Every row of some tables."""
    for table in tables:
        for row in measured_rows(table):
            yield compare(row, kernels)


@cache
def machine_links(gpu: str) -> PortLinks:
    """Links of the measured machines: 8 GPUs a node, a 400 Gbit/s NIC for each."""
    h800 = load_topology("h800-2048")
    return PortLinks(
        nvlink_bw=load_gpu(gpu).nvlink_bw,
        nic_bw=h800.nic_bw,
        nvlink_latency_s=h800.nvlink_latency_s,
        nic_latency_s=h800.nic_latency_s,
    )


@cache
def hop_traffic(nodes: int, tokens: int) -> HopCopies:
    """The traffic of DeepEP's own test: random scores, groups by their best, at most 4 of them."""
    gate = Gate(EXPERTS, TOPK, nodes, min(nodes, GROUPS), scoring="softmax")
    place = contiguous(EXPERTS, nodes * GPUS_PER_NODE, GPUS_PER_NODE)
    draws = 4 if tokens <= 256 else 1
    everyone = tokens * place.ranks
    return from_dispatches(gate_dispatches(gate, place, tokens, 0.0, draws, 0, everyone))


@cache
def message_traffic(nodes: int, tokens: int) -> PairTraffic:
    """The traffic of DeepEP's low-latency test: random scores, no groups."""
    place = contiguous(EXPERTS, nodes * GPUS_PER_NODE, GPUS_PER_NODE)
    return random_pairs(Gate(EXPERTS, TOPK), place, tokens, draws=2 if nodes > 8 else 8)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _direction(text: str) -> Direction:
    return "combine" if text == "combine" else "dispatch"
