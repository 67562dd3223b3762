"""An all-to-all as text for a console."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simdeep.network import Outcome
from simdeep.report.summary import plain, seconds
from simdeep.report.tables import grid, titled

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

MIB = float(1 << 20)

CAUSES = {
    "ib": "InfiniBand ports",
    "nvlink": "NVLink ports",
    "sm": "copying SMs",
    "latency": "fixed time",
    "fabric": "links between switches",
}


def alltoall_tables(outcomes: Sequence[Outcome]) -> Iterator[RenderableType]:
    """Everything `simdeep alltoall` shows, top to bottom."""
    from rich.text import Text

    yield Text(headline(outcomes) + "\n")
    yield from titled("Time and bandwidth of a GPU and direction", _times(outcomes))
    yield Text(_logical_note(outcomes[0]) + "\n")
    yield from titled("Routing and load", _routing(outcomes[0]))
    yield from titled("Hot ports (first draw)", _ports(outcomes))
    yield from titled("Busiest links (first draw)", _links(outcomes))


def headline(outcomes: Sequence[Outcome]) -> str:
    """The answer in one sentence or two."""
    setting = outcomes[0].setting
    times = " and a ".join(f"{o.direction} takes {seconds(o.time_s)}" for o in outcomes)
    nodes = f"{setting.nodes} node{'s' if setting.nodes > 1 else ''}"
    sms = f", {setting.comm_sms} SMs" if setting.mode == "normal" else ""
    text = (
        f"A {times}: {setting.ep} GPUs on {nodes} of {setting.topology.name}, "
        f"{setting.tokens:,} tokens a GPU of {setting.model}, {setting.mode} kernels{sms}."
    )
    slow = max(outcomes, key=lambda o: o.fabric_slowdown)
    if slow.fabric_slowdown > 1.02:
        text += (
            f" The fabric slows the {slow.direction} by {slow.fabric_slowdown - 1:.1%}: "
            f"{slow.runs[0].hot[0].name} is the busiest link."
        )
    return text


def _times(outcomes: Sequence[Outcome]) -> Table:
    table = grid("", *(f"{o.direction}>" for o in outcomes))
    rows = [o.row() for o in outcomes]

    def add(name: str, *cells: str) -> None:
        table.add_row(name, *cells)

    add("time, last GPU done", *(seconds(o.time_s, 4) for o in outcomes))
    add("mean GPU", *(seconds(float(o.finish_s.mean()), 4) for o in outcomes))
    add("kernel alone, nothing shared", *(seconds(o.kernel_time_s, 4) for o in outcomes))
    if any(o.kernel.notify_s for o in outcomes):
        add("layout exchange before it", *(seconds(o.kernel.notify_s) for o in outcomes))
    for name, key in (("IB", "ib_bytes_per_gpu"), ("NVLink", "nvlink_bytes_per_gpu")):
        add(f"{name} bytes", *(f"{plain(r[key] / MIB, 4)} MiB" for r in rows))
    for name, key in (
        ("IB bandwidth, logical", "ib_gbps_logical"),
        ("IB bandwidth, physical", "ib_gbps_physical"),
        ("NVLink bandwidth, logical", "nvlink_gbps"),
    ):
        add(name, *(f"{plain(r[key])} GB/s" for r in rows))
    add("NVLink bandwidth, physical", *(f"{plain(o.nvlink_gbps_physical)} GB/s" for o in outcomes))
    add("bottleneck", *(CAUSES[o.bottleneck] for o in outcomes))
    return table


def _logical_note(outcome: Outcome) -> str:
    if outcome.setting.mode == "low-latency":
        return "Logical bandwidth counts every (token, expert) pair, as DeepEP prints it."
    return (
        "Logical bandwidth is as DeepEP prints it: over IB every node of a token counts, its own "
        "too; over NVLink every GPU."
    )


def _routing(outcome: Outcome) -> Table:
    setting, routed = outcome.setting, outcome.routed
    gate = setting.gate
    table = grid("what", "value")
    is_trace = isinstance(setting.routing, Path)
    draws = routed.dispatches.draws
    of = f"{draws} dispatch{'es' if draws > 1 else ''} of it" if is_trace else f"{draws} draw"
    plural = "s" if draws > 1 and not is_trace else ""
    table.add_row("routing", f"{setting.routing_text} ({of}{plural}, seed {setting.seed})")
    limit = (
        f", of {gate.topk_groups} of {gate.n_groups} groups"
        if 0 < gate.topk_groups < gate.n_groups
        else ""
    )
    table.add_row("gate", f"{gate.topk} of {gate.experts} experts a token{limit}")
    table.add_row("nodes of a token", plain(routed.nodes_per_token))
    table.add_row("GPUs of a token", plain(routed.gpus_per_token))
    replicas = f" with {setting.redundant} replicas" if setting.redundant else ""
    table.add_row("placement", f"{setting.placement}{replicas}")
    table.add_row("busiest over mean GPU", f"{routed.max_over_mean_load:.3f} by (token, expert)")
    stride = setting.node_stride
    nodes = f", one node in {stride}" if stride > 1 else ""
    table.add_row("routes", f"{setting.ecmp} ECMP{nodes}")
    return table


def _ports(outcomes: Sequence[Outcome]) -> Table:
    table = grid("direction", "port", "busy>", "of the time>")
    for outcome in outcomes:
        for name, busy in outcome.hot_ports(3):
            share = busy / outcome.runs[0].time_s
            table.add_row(outcome.direction, name, seconds(busy), f"{share:.0%}")
    return table


def _links(outcomes: Sequence[Outcome]) -> Table:
    table = grid("direction", "link", "kind", "bytes>", "used>")
    for outcome in outcomes:
        run = outcome.runs[0]
        for link in dict.fromkeys((*run.hot[:3], *run.hot_between_switches[:2])):
            table.add_row(
                outcome.direction,
                link.name,
                link.kind,
                f"{plain(link.nbytes / MIB)} MiB",
                f"{link.utilisation:.0%}",
            )
    return table
