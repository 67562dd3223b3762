"""Where the figures behind a serving answer come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from simdeep.report.inputs import Input
from simdeep.report.summary import short
from simdeep.units import fmt_bandwidth

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario

_KERNELS = {
    "gemm.dense": "GEMM times",
    "gemm.masked": "expert GEMMs of decode",
    "gemm.contiguous": "expert GEMMs of prefill",
    "mla_decode": "attention of decode",
    "prefill_attention": "attention of prefill",
    "host_launch": "launches from the host",
    "graph_gap": "gaps inside a CUDA graph",
    "graph_launch": "launch of a CUDA graph",
}


def serving_inputs(scenario: ServeScenario) -> tuple[Input, ...]:
    """The inputs of a serving simulation, each with its source."""
    return tuple(_inputs(scenario))


def _inputs(scenario: ServeScenario) -> Iterator[Input]:
    from simdeep.cost.calibration import calibration_for
    from simdeep.serving.kernels import kernels_for
    from simdeep.spec.params import params

    topology, model = scenario.topology, scenario.model
    count = params(model)
    text = f"{model.name}: {short(count.total)} parameters, {short(count.active)} active"
    yield Input("model", text, "Hugging Face config.json")
    known = [topology.sources.get(key, "") for key in ("nvlink.bandwidth", "nic.bandwidth")]
    yield Input(
        "cluster",
        f"{topology.name}: {topology.gpu.name}, {topology.gpus_per_node} a node; NVLink "
        f"{fmt_bandwidth(topology.nvlink_bw)}, NIC {fmt_bandwidth(topology.nic_bw)} a GPU and "
        "direction",
        "; ".join(dict.fromkeys(filter(None, known))) or "topology file",
    )
    for name, source in kernels_for(topology.gpu).sources.items():
        if _used(scenario, name):
            yield Input(_KERNELS.get(name, name), _how(source), source)
    calibration = calibration_for(topology.gpu)
    memory = calibration.memory_curve("copy").provenance
    rows = f" ({memory.rows} measurements)" if memory.rows else ""
    yield Input("memory-bound kernels", f"{memory.kind}{rows}", memory.source)
    if model.kind == "moe":
        source = "data/alltoall/deepep.yaml: published rates of DeepEP's kernels"
        yield Input("all-to-all times", "kernel model on the ports", source)
        skew = scenario.routing.skew
        yield Input("expert popularity", f"skew {skew} in logits", "scenario or measured h800-skew")
    traffic = scenario.traffic
    if traffic is not None:
        source = "scenario"
        if scenario.trace_file is not None:
            source = f"trace {scenario.trace_file.name}"
        yield Input("traffic and lengths", traffic.arrival, source)
    price = scenario.usd_per_gpu_hour
    same = price == topology.usd_per_gpu_hour and topology.sources.get("usd_per_gpu_hour")
    source = f"topology: {same}" if same else "scenario"
    yield Input("price", f"${price:,.2f} a GPU-hour", source)


def _used(scenario: ServeScenario, name: str) -> bool:
    """Whether a kernel's figures can shape this answer."""
    if name in ("gemm.masked", "gemm.contiguous"):
        return scenario.model.kind == "moe"
    if name.startswith("graph"):
        return any(unit.cuda_graphs for unit in scenario.units.values())
    return True


def _how(source: str) -> str:
    """Measured on this GPU, carried over from another, or assumed."""
    if " scaled to " in source:
        return "scaled from measurements of another GPU"
    return "assumed" if "are usual" in source else "measured"
