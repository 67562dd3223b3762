"""What shaped an answer: the inputs that matter most, each with where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from simdeep.report.summary import gpu_name, short
from simdeep.units import fmt_bandwidth

if TYPE_CHECKING:
    from simdeep.cost.calibration import Calibration, Provenance
    from simdeep.spec.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a simulation, its value as text, and its source."""

    name: str
    value: str
    source: str


def inputs_of(scenario: Scenario) -> tuple[Input, ...]:
    """The inputs a reader should know before believing a result."""
    return tuple(_inputs(scenario))


def _inputs(scenario: Scenario) -> Iterator[Input]:
    train, layout = scenario.train, scenario.layout
    yield _model(scenario)
    yield _cluster(scenario)
    yield Input("layout", layout_text(scenario), "scenario")
    if scenario.kind == "train":
        batch = (
            f"{train.gbs:,} sequences of {train.seq_len:,} tokens: {scenario.microbatches:,} "
            f"micro-batches of {train.mbs} on each of {layout.dp:,} replicas"
        )
        yield Input("batch", batch, "scenario")
    again = ", ".join(train.recompute) or "nothing"
    schedule = f"{train.schedule}, " if scenario.kind == "train" else ""
    yield Input("execution", f"{schedule}{train.precision} GEMMs, recompute {again}", "scenario")
    sms = f"{train.comm_sms} of {scenario.topology.gpu.sms} SMs, {train.sm_split} split"
    yield Input("communication SMs", sms, "scenario")
    calibration = calibration_of(scenario)
    yield from _calibration(scenario, calibration)
    if scenario.model.kind == "moe":
        yield _routing(scenario)
    if scenario.kind == "train":
        yield _jitter(scenario, calibration)
        price = f"${scenario.usd_per_gpu_hour:,.2f} a GPU-hour"
        own = "price" in scenario.fields.model_fields_set and scenario.usd_per_gpu_hour
        known = scenario.topology.sources.get("usd_per_gpu_hour", "")
        same = own == scenario.topology.usd_per_gpu_hour
        yield Input("price", price, f"topology: {known}" if same and known else "scenario")


def calibration_of(scenario: Scenario) -> Calibration:
    """The calibration that prices a scenario's kernels."""
    from simdeep.cost.calibration import calibration_for, load_calibration

    gpu, path = scenario.topology.gpu, scenario.calibration
    return calibration_for(gpu) if path is None else load_calibration(path).on(gpu)


def layout_text(scenario: Scenario) -> str:
    """Degrees and stages in a line: `PP16 x EP64 x DP128, ZeRO-1; layers a stage: 15x4, 1`."""
    layout = scenario.layout
    degrees = [
        f"{name.upper()}{getattr(layout, name)}"
        for name in ("pp", "vpp", "tp", "cp", "ep", "dp")
        if getattr(layout, name) > 1
    ]
    extras = [f"ZeRO-{layout.zero}", *(["sequence parallel"] if layout.sp else [])]
    text = ", ".join([" x ".join(degrees) or "one GPU", *extras])
    if scenario.layers:
        return f"{text}; layers {scenario.layers[0]} to {scenario.layers[-1]}"
    counts = groupby(len(stage.layers) for stage in layout.stages)
    runs = [(count, len(list(run))) for count, run in counts]
    stages = ", ".join(f"{n} x {count}" if n > 1 else f"{count}" for count, n in runs)
    return f"{text}; layers on each stage: {stages}"


def _model(scenario: Scenario) -> Input:
    from simdeep.spec.params import params

    model, count = scenario.model, params(scenario.model)
    text = f"{model.name}: {short(count.total)} parameters, {short(count.active)} active"
    mtp = f", MTP {short(count.mtp)} apart" if count.mtp else ""
    return Input("model", text + mtp, "Hugging Face config.json")


def _cluster(scenario: Scenario) -> Input:
    topology = scenario.topology
    text = (
        f"{topology.name}: {topology.gpus:,} {gpu_name(scenario)}, {topology.gpus_per_node} a node;"
        f" NVLink {fmt_bandwidth(topology.nvlink_bw)}, NIC {fmt_bandwidth(topology.nic_bw)} a GPU "
        "and direction"
    )
    found = [topology.sources.get(key) for key in ("nvlink.bandwidth", "nic.bandwidth")]
    known = list(dict.fromkeys(source for source in found if source))
    text += ". Steps see its ports, not contention in its fabric (simdeep alltoall does)"
    return Input("cluster", text, "; ".join(known) or "topology file")


def _calibration(scenario: Scenario, calibration: Calibration) -> Iterator[Input]:
    precision = scenario.train.precision
    gemm = [c.provenance for c in calibration.gemm.values() if c.dtype == precision]
    gemm += [c.provenance for c in calibration.tiled.values() if c.dtype == precision]
    yield Input(f"{precision} GEMM times", _provenance(gemm), _source(gemm))
    core = [curve.provenance for curve in calibration.attention.values()]
    yield Input("attention times", _provenance(core), _source(core))
    if scenario.model.kind == "moe":
        moves = [curve.provenance for curve in calibration.alltoall.values()]
        yield Input("all-to-all times", _provenance(moves), _source(moves))


def _provenance(found: Sequence[Provenance]) -> str:
    if not found:
        return "no curve"
    kinds = " and ".join(sorted({p.kind for p in found}))
    rows = sum(p.rows for p in found)
    errors = [p.median_error for p in found if p.median_error is not None]
    error = f", median error {np.mean(errors):.1%}" if errors else ""
    return f"{kinds} ({rows} measurements{error})" if rows else kinds


def _source(found: Sequence[Provenance]) -> str:
    """The first source, without what only its own row is about."""
    return found[0].source.split("; ")[0] if found else ""


def _routing(scenario: Scenario) -> Input:
    routing = scenario.routing
    if routing.kind == "balanced":
        return Input("routing", "balanced: every expert gets the same", "scenario")
    if routing.kind == "recorded":
        return Input("routing", f"recorded: {routing.file}", "file")
    from simdeep.spec.skew import DEFAULT_SKEW, default_skew

    source = f"measured: {DEFAULT_SKEW}" if routing.skew == default_skew().value else "scenario"
    text = f"gate with skew {routing.skew}, {routing.draws} draws, seed {scenario.simulate.seed}"
    return Input("routing", text, source)


def _jitter(scenario: Scenario, calibration: Calibration) -> Input:
    given = scenario.jitter.kernel_cv
    if given is not None:
        return Input("kernel jitter", f"{given:.2%} from peer to peer", "scenario")
    provenance = calibration.provenance.get("kernel_cv")
    source = f"{provenance.kind}: {provenance.source}" if provenance else "calibration"
    text = f"{calibration.kernel_cv:.2%} from peer to peer"
    return Input("kernel jitter", text, source.split("; ")[0])


def defaults_of(scenario: Scenario) -> tuple[str, ...]:
    """Keys the scenario leaves to their defaults, as `train.grad_sync=after`."""
    written: Mapping[str, Any] = scenario.resolved()
    found = []
    for name, value in written.items():
        section = getattr(scenario.fields, name)
        if not isinstance(value, dict):
            continue
        given: set[str] = getattr(section, "model_fields_set", set())
        whole = name not in scenario.fields.model_fields_set
        found += [
            f"{name}.{key}={_text(inner)}"
            for key, inner in value.items()
            if (whole or key not in given) and inner is not None and not isinstance(inner, dict)
        ]
    return tuple(found)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
