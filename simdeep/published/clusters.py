"""A run's hardware as a topology file."""

from __future__ import annotations

import re
from typing import Any, Final

from simdeep.published.cases import Case

_GPUS: Final[tuple[tuple[str, str], ...]] = (
    (r"H100 96GB", "h100-96g"),
    (r"A100.* 40GB", "a100-40g"),
    (r"A100|Ampere", "a100-80g"),
    (r"H100", "h100"),
    (r"GB300", "gb300"),
    (r"GB200", "gb200"),
    (r"B300", "b300"),
    (r"B200", "b200"),
)
"""What a run's hardware text says, and the GPU file it means; the first that fits counts."""

_RACK: Final = 72
_HOP: Final = dict.fromkeys(("b200", "b300", "gb200", "gb300"), "8 us")
"""Latency of a hop of a ring on NVLink 5: SimuMax measured 5.5 to 9.2 us (its B200 system file);
the others have what the ISCA 2025 paper measured on H800."""
_OF_A_RACK: Final = 64
"""GPUs of an NVL72 rack that jobs of a power of two use."""


def gpu_of(case: Case) -> str | None:
    """Name of the GPU file for a run's hardware, or None."""
    return next((name for text, name in _GPUS if re.search(text, case.hardware)), None)


def nic_gbit(case: Case) -> tuple[float, bool]:
    """NIC of one GPU in Gbit/s, and whether the run states it."""
    text = case.hardware
    if match := re.search(r"(\d+)x(\d+)G ", text):
        return float(match[2]) * int(match[1]) / case.gpus_per_node, True
    if match := re.search(r"(\d+)G \w+ IB x(\d+)", text):
        return float(match[1]) * int(match[2]) / case.gpus_per_node, True
    if match := re.search(r"(\d+) Gb/s RDMA per GPU", text):
        return float(match[1]), True
    if match := re.search(r"(\d+) Gb/s", text):
        return float(match[1]) / case.gpus_per_node, True
    return (200.0 if "A100" in text else 400.0), False


def topology_of(case: Case) -> dict[str, Any]:
    """The cluster of a run: its GPUs in NVLink domains, one NIC each, a rail-optimised fat tree."""
    domain = _OF_A_RACK if case.gpus_per_node == _RACK else case.gpus_per_node
    per_node = min(domain, case.gpus)
    nic, _ = nic_gbit(case)
    return {
        "gpu": gpu_of(case),
        "gpus": case.gpus,
        "gpus_per_node": per_node,
        "nvlink": {"latency": _HOP.get(str(gpu_of(case)), "3.33 us")},
        "nic": {"bandwidth": f"{nic:g} Gbit/s", "latency": "2.8 us"},
        "fabric": {"kind": _fabric(case), "rails": min(8, per_node)},
        "usd_per_gpu_hour": 2.0,
    }


def _fabric(case: Case) -> str:
    """Two layers of 64-port switches take 2,048 GPUs; more need a third."""
    return "rail-fat-tree" if case.gpus <= 2048 else "three-layer-fat-tree"
