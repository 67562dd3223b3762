"""A cluster for `simdeep show topology`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simdeep.units import fmt_bandwidth, fmt_bytes_gib, fmt_compute, fmt_time

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from simdeep.spec.topology import Topology


def topology_json(topology: Topology) -> dict[str, Any]:
    """A cluster as one object in SI base units."""
    from simdeep.spec.fabric_cost import cost_table

    return topology.to_dict() | {
        "counts": topology.counts(),
        "fabric_cost": cost_table([topology]),
    }


def topology_tables(topology: Topology) -> Iterator[RenderableType]:
    """A cluster for a console."""
    from rich.text import Text

    from simdeep.report.tables import titled

    about = topology.description or f"{topology.gpus:,} GPUs"
    yield Text(f"{topology.name}: {about}; ${topology.usd_per_gpu_hour:,.2f} a GPU-hour.\n")
    yield from titled("Cluster (bandwidths of one GPU and direction)", _cluster(topology))
    yield from titled(f"GPU: {topology.gpu.name}", _gpu(topology))
    yield from titled("Fabric: switches, links between them, and cost", _cost(topology))
    if topology.overrides:
        yield from titled("Elements that differ", _overrides(topology))


def _cluster(topology: Topology) -> Table:
    from simdeep.report.tables import grid

    counts, sources, fabric = topology.counts(), topology.sources, topology.fabric
    table = grid("what", "value", "source")

    def add(name: str, value: str, key: str = "") -> None:
        table.add_row(name, value, sources.get(key, ""))

    add(
        "GPUs", f"{topology.gpus:,} in {topology.nodes:,} nodes of {topology.gpus_per_node}", "gpus"
    )
    add("NVLink", fmt_bandwidth(topology.nvlink_bw), "nvlink.bandwidth")
    add("NVLink latency", fmt_time(topology.nvlink_latency_s), "nvlink.latency")
    add("NIC", fmt_bandwidth(topology.nic_bw), "nic.bandwidth")
    add("NIC latency, same leaf", fmt_time(topology.nic_latency_s), "nic.latency")
    planes = f", {fabric.planes} planes" if fabric.planes > 1 else ""
    over = f", {fabric.oversubscription:g}:1 oversubscribed" if fabric.oversubscription > 1 else ""
    switches = f"{counts['switches']:,} switches, {counts['links']:,} links between them"
    add("fabric", f"{fabric.kind}{planes}{over}: {switches}", "fabric")
    if fabric.hop_latency:
        add("each further switch", fmt_time(fabric.hop_latency), "fabric.hop_latency")
    if topology.host_memory_bytes is not None:
        add("host memory of a node", fmt_bytes_gib(topology.host_memory_bytes, 0), "host_memory")
    add("price", f"${topology.usd_per_gpu_hour:,.2f} a GPU-hour", "usd_per_gpu_hour")
    return table


def _gpu(topology: Topology) -> Table:
    from simdeep.report.tables import grid

    gpu, table = topology.gpu, grid("what", "value", "source")
    rows = {
        "sms": ("SMs", f"{gpu.sms}"),
        "hbm_bytes": ("memory", fmt_bytes_gib(gpu.hbm_bytes)),
        "hbm_bw": ("memory bandwidth", fmt_bandwidth(gpu.hbm_bw)),
        "nvlink_bw": ("NVLink of the GPU", fmt_bandwidth(gpu.nvlink_bw)),
    } | {
        f"peak.{dtype}": (f"dense {dtype} peak", fmt_compute(peak))
        for dtype, peak in gpu.peak.items()
    }
    for key, (name, value) in rows.items():
        table.add_row(name, value, gpu.sources.get(key, ""))
    return table


def _cost(topology: Topology) -> Table:
    """This fabric beside those of the published comparison, as counted and priced here."""
    from simdeep.report.tables import grid
    from simdeep.spec.fabric_cost import cost_table

    table = grid("fabric", "endpoints>", "switches>", "links>", "M$>", "k$ each>", "published M$>")
    rows = cost_table([topology])
    for i, row in enumerate(rows):
        published = row["published_cost_musd"]
        table.add_row(
            row["name"],
            f"{row['endpoints']:,}",
            f"{row['switches']:,}",
            f"{row['links']:,}",
            f"{row['cost_musd']:,.1f}",
            f"{row['kusd_per_endpoint']:.2f}",
            "" if published is None else f"{published:,.1f}",
        )
        if i == 0:
            table.add_section()
    table.caption = (
        "M$, k$ each: by fitted list prices, GPUs and NICs apart. Below the line: arXiv "
        "2505.09343v2, table 3, as built and priced here."
    )
    table.caption_justify = "left"
    return table


def _overrides(topology: Topology) -> Table:
    from simdeep.report.tables import grid

    table = grid("element", "change")
    for override in topology.overrides:
        changes = override.model_dump(exclude_defaults=True, exclude={"element"})
        table.add_row(override.element, ", ".join(f"{k} {v}" for k, v in changes.items()))
    return table
