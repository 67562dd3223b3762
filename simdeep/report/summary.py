"""The figures a result is quoted by, and what it rests on: the one source of tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simdeep.analysis.money import RunCost, run_cost, tokens_per_second
from simdeep.analysis.utilisation import Utilisation, utilisation
from simdeep.program.columns import I64, Action, Kind
from simdeep.spec.flops import flops_per_token

if TYPE_CHECKING:
    from simdeep.api import Result
    from simdeep.engine.timeline import Timeline
    from simdeep.spec.scenario import Scenario


@dataclass(frozen=True, slots=True)
class StepFigures:
    """Throughput, cost and utilisation of a training step.

    `trillion` is the cost of a trillion tokens, `run` that of the scenario's goal if it has one.
    """

    step_time_s: float
    tokens_per_step: int
    tokens_per_s: float
    tokens_per_s_per_gpu: float
    gpus: int
    usd_per_gpu_hour: float
    trillion: RunCost
    run: RunCost | None
    utilisation: Utilisation


def step_figures(result: Result) -> StepFigures:
    """Figures of a training step; FLOPs leave the MTP modules out, as published ones do."""
    scenario = result.scenario
    gpus, tokens = scenario.topology.gpus, scenario.tokens_per_step
    step, usd = result.step_time_s, scenario.usd_per_gpu_hour
    rate = tokens_per_second(tokens, step)
    price: dict[str, Any] = {
        "step_time_s": step,
        "tokens_per_step": tokens,
        "gpus": gpus,
        "usd_per_gpu_hour": usd,
    }
    goal = scenario.goal.tokens
    full, causal = (
        flops_per_token(scenario.model, scenario.train.seq_len, causal) for causal in (False, True)
    )
    return StepFigures(
        step_time_s=step,
        tokens_per_step=tokens,
        tokens_per_s=rate,
        tokens_per_s_per_gpu=rate / gpus,
        gpus=gpus,
        usd_per_gpu_hour=usd,
        trillion=run_cost(**price),
        run=None if goal is None else run_cost(**price, tokens=goal),
        utilisation=utilisation(
            flops_per_token=full,
            flops_per_token_causal=causal,
            tokens_per_step=tokens,
            step_time_s=step,
            gpus=gpus,
            peak_bf16_flops=scenario.topology.gpu.peak["bf16"],
        ),
    )


def flops_note(scenario: Scenario) -> str:
    """What the FLOPs of MFU count, in a line."""
    if not scenario.train.mtp:
        return "against the dense BF16 peak; recomputation does not count"
    return (
        "against the dense BF16 peak; recomputation and the MTP module do not count, as in "
        "DeepSeek's published figures"
    )


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of an overlapped pair: seconds in each layer, ascending by layer.

    `setup_s` is the part of a transfer before bytes move (mean over layers, not in `by_layer_s`).
    """

    name: str
    by_layer_s: dict[int, float]
    setup_s: float = 0.0

    @property
    def mean_s(self) -> float:
        """Mean over layers."""
        return float(np.mean(list(self.by_layer_s.values())))


@dataclass(frozen=True, slots=True)
class PairFigures:
    """An overlapped forward and backward: its compute phases and transfers in order of start.

    Phases are named `attn_F`, `mlp_I`; transfers `dispatch_F` and, as in the published trace, with
    `B` for the backward of a transfer.
    """

    total_s: float
    phases: tuple[Phase, ...]
    transfers: tuple[Phase, ...]


def pair_figures(result: Result) -> PairFigures:
    """Phases and transfers of an fb-pair."""
    return PairFigures(
        total_s=result.step_time_s,
        phases=tuple(_phases(result.timeline, Kind.COMPUTE)),
        transfers=tuple(_phases(result.timeline, Kind.TRANSFER)),
    )


def _phases(timeline: Timeline, kind: Kind) -> Iterator[Phase]:
    program = timeline.program
    setup = timeline.priced.latency_ns if kind == Kind.TRANSFER else np.zeros(program.n)
    lasted = timeline.end_ns - timeline.start_ns - setup
    rows = np.flatnonzero((program.kind == kind) & (program.action <= Action.W))
    rows = rows[np.argsort(timeline.start_ns[rows], kind="stable")]
    groups: dict[tuple[int, int], list[int]] = {}
    for row in rows.tolist():
        groups.setdefault((int(program.component[row]), int(program.action[row])), []).append(row)
    for (component, action), members in groups.items():
        found: I64 = np.array(members, np.int64)
        layers = np.unique(program.layer[found])
        letter = Action(action).name
        if kind == Kind.TRANSFER and action == Action.I:
            letter = "B"
        yield Phase(
            name=f"{program.components[component]}_{letter}",
            by_layer_s={
                int(layer): float(lasted[found[program.layer[found] == layer]].sum()) / 1e9
                for layer in layers
            },
            setup_s=float(setup[found].sum()) / 1e9 / len(layers),
        )


def headline(result: Result) -> str:
    """The answer in one sentence."""
    if result.scenario.kind == "fb-pair":
        return _pair_headline(result)
    figures, memory = step_figures(result), result.memory
    cost = figures.trillion
    fit = f"({memory.peak_gib:.1f} of {memory.capacity_gib:.1f} GiB)"
    return (
        f"A step takes {seconds(figures.step_time_s)}: {short(figures.tokens_per_s, 'token/s')}, "
        f"{short(cost.gpu_hours)} GPU-hours, {plain(cost.days)} days and ${short(cost.usd)} per "
        f"trillion tokens on {figures.gpus:,} {gpu_name(result.scenario)} GPUs; "
        f"{'it fits' if memory.fits else 'it does NOT fit'} {fit}."
    )


def _pair_headline(result: Result) -> str:
    scenario = result.scenario
    layers = len(scenario.layers)
    tokens = scenario.train.mbs * scenario.train.seq_len
    exposed = float(result.attribution.exposed_comm_ns.mean()) / 1e9
    return (
        f"A forward beside a backward through {layers} layer{'s' if layers != 1 else ''} takes "
        f"{seconds(result.step_time_s)} ({tokens:,} tokens each way, EP{scenario.layout.ep} on "
        f"{gpu_name(scenario)}); {exposed / result.step_time_s:.1%} of it waits for communication."
    )


def gpu_name(scenario: Scenario) -> str:
    """Short name of the GPU type, as in `2,048 H800 GPUs`."""
    gpu = scenario.topology.gpu
    words = {word.lower(): word for word in gpu.name.split()}
    return words.get(gpu.id.lower(), gpu.id)


def seconds(value: float, digits: int = 3) -> str:
    """A time in s, ms, us or ns with that many significant digits."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(value) >= scale or value == 0:
            return f"{plain(value / scale, digits)} {unit}"
    return f"{plain(value / 1e-9, digits)} ns"


def plain(value: float, digits: int = 3) -> str:
    """A number with that many significant digits, never in exponents: 3.65, 0.0123, 1,240."""
    if value == 0:
        return "0"
    before = int(np.floor(np.log10(abs(float(f"{value:.{digits}g}"))))) + 1
    return f"{round(value, digits - before):,.{max(digits - before, 0)}f}"


def short(value: float, unit: str = "", digits: int = 3) -> str:
    """A number with a letter for its thousands and a unit: `179 K`, `3.18 Mtoken/s`, `42.0`."""
    rounded = float(f"{value:.{digits}g}")
    steps = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
    scale, letter = next((step for step in steps if abs(rounded) >= step[0]), (1.0, ""))
    return f"{plain(rounded / scale, digits)} {letter}{unit}".rstrip()
