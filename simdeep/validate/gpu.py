"""A DeepSeek-V3 layer on one GPU, predicted from a calibration and measured; knows no torch.

The prediction uses the calibration file alone: nothing of the run it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simdeep.cost.calibration import Calibration, load_calibration
from simdeep.cost.clocked import kernel_parts
from simdeep.cost.power import settled_clock
from simdeep.errors import InputError, Problem
from simdeep.program.workload import Shape, layer_kernels
from simdeep.program.workload.kernel import Kernel
from simdeep.spec.model import Model, MoeFfn, load_model
from simdeep.spec.resources import catalogue

COMPONENTS = (("attn", "F"), ("mlp", "F"), ("mlp", "I"), ("attn", "I"), ("mlp", "W"), ("attn", "W"))
"""In the order of a layer's forward and backward pass."""

TOLERANCE = 0.10
"""Largest relative error of F, I and W, and of the effect of held SMs."""

HELD_SMS = 20

TOKENS, UNIQUE = 4096, 29_000
ROWS = (7808, 8448, 8064, 8448)
"""What one rank of EP64 receives for its four experts from 64 x 4,096 tokens of top-8 of 256, as
uneven as the published profile's, in tiles of 128; `UNIQUE` tokens want at least one of them."""

EFFECTS = ("gemm", "attention")


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure predicted and measured, microseconds or a ratio."""

    name: str
    predicted: float
    measured: float
    judged: bool

    @property
    def error(self) -> float:
        """Relative to what was measured."""
        return self.predicted / self.measured - 1.0


@dataclass(frozen=True)
class Prediction:
    """Microseconds by component and by kernel, and the clock as a share of the highest."""

    components: Mapping[str, float]
    held: Mapping[str, float]
    kernels: Mapping[str, float]
    clock: float


def layer_kernel_table(
    model: Model | None = None,
) -> dict[tuple[str, str], tuple[Kernel, ...]]:
    """Kernel records of the layer on a rank, in BF16 without recomputation."""
    model = model or load_model("deepseek-v3")
    layer = next(each for each in model.layers if isinstance(each.ffn, MoeFfn))
    shape = Shape(
        tokens=TOKENS,
        seq_len=TOKENS,
        rows=float(sum(ROWS)),
        unique=float(UNIQUE),
        local_experts=len(ROWS),
    )
    return layer_kernels(model, layer, shape, "bf16", "none")


def predict_layer(calibration: Calibration, held_sms: int = HELD_SMS) -> Prediction:
    """The layer's times from a calibration with a power model.

    All components share one clock: the GPU's power is an average over more than a layer.
    """
    if calibration.power is None:
        message = f"the calibration of {calibration.gpu} has no power model to tell the clock from"
        raise InputError([Problem("--calibration", "", message)])
    table = layer_kernel_table()
    kernels = [kernel for key in COMPONENTS for kernel in table[key]]
    times, clock = _times(kernels, calibration, calibration.sms)
    components = _by_component(table, times)
    held = {}
    for component, action in COMPONENTS:  # measured one by one, each at a clock of its own
        mine = table[component, action]
        found, _ = _times(mine, calibration, calibration.sms - held_sms)
        held[f"{component}.{action}"] = float(found.sum())
    return Prediction(
        components, held, dict(zip((k.name for k in kernels), times.tolist(), strict=True)), clock
    )


def predict_piece(kernels: Sequence[Kernel], calibration: Calibration, held_sms: int) -> float:
    """Microseconds of some kernels run again and again while SMs are held."""
    found, _ = _times(kernels, calibration, calibration.sms - held_sms)
    return float(found.sum())


def _times(kernels: Sequence[Kernel], here: Calibration, sms: int) -> tuple[Any, float]:
    """Microseconds of each kernel with its launches, and the clock they settle on."""
    parts = kernel_parts(kernels, here, sms)
    assert here.power is not None
    clock = settled_clock(parts, here.power)
    gaps = np.array([kernel.launches * here.launch_gap_s for kernel in kernels])
    return (parts.busy_s(clock) + parts.fixed_s + gaps) * 1e6, float(clock)


def _by_component(
    table: Mapping[tuple[str, str], Sequence[Kernel]], times: Any
) -> dict[str, float]:
    found, at = {}, 0
    for component, action in COMPONENTS:
        count = len(table[component, action])
        found[f"{component}.{action}"] = float(times[at : at + count].sum())
        at += count
    return found


def compare_layer(prediction: Prediction, measured: Mapping[str, Any]) -> list[Compared]:
    """F, I and W (judged), then each component, predicted beside measured (`LayerTimes`)."""
    rows = []
    for action in "FIW":
        pairs = [
            (prediction.components[name], measured["components"][name])
            for name in prediction.components
            if name.endswith(action)
        ]
        rows.append(Compared(action, sum(p for p, _ in pairs), sum(m for _, m in pairs), True))
    rows += [
        Compared(name, value, measured["components"][name], False)
        for name, value in prediction.components.items()
    ]
    return rows


HELD_KERNELS = (
    "q_up_fwd",
    "kv_up_fwd",
    "o_proj_fwd",
    "shared_gateup_fwd",
    "routed_gateup_fwd",
    "o_proj_dgrad",
    "kv_up_dgrad",
    "q_down_dgrad",
    "routed_down_dgrad",
    "o_proj_wgrad",
    "q_up_wgrad",
    "shared_gateup_wgrad",
    "attn_core_fwd",
    "attn_core_bwd",
)
"""GEMMs and attention cores of the layer that are also timed while SMs are held."""


def compare_held(
    calibration: Calibration, measured: Mapping[str, tuple[float, float]], held_sms: int
) -> list[Compared]:
    """Slow-down of steps by held SMs; its mean over GEMMs and over attention cores is judged.

    Args:
        calibration: what predicts.
        measured: by step (kernel names joined by `+`) microseconds with all SMs, with some held.
        held_sms: how many.
    """
    every = {k.name: k for kernels in layer_kernel_table().values() for k in kernels}
    found: dict[str, list[Compared]] = {name: [] for name in EFFECTS}
    for step, (before, after) in measured.items():
        kernels = [every[name] for name in step.split("+")]
        alone = predict_piece(kernels, calibration, 0)
        slowed = predict_piece(kernels, calibration, held_sms)
        kind = "attention" if any(k.op == "attention" for k in kernels) else "gemm"
        found[kind].append(Compared(step, slowed / alone, after / before, False))
    rows: list[Compared] = []
    for kind, some in found.items():
        if some:
            predicted = float(np.mean([c.predicted for c in some]))
            seen = float(np.mean([c.measured for c in some]))
            rows += [Compared(kind, predicted, seen, True), *some]
    return rows


def shipped_for(present: Mapping[str, Any]) -> str:
    """Name of the shipped calibration that was made on this device (`describe_device`)."""
    mine = present.get("device")
    for name, path in catalogue("calibration").items():
        if path.suffix == ".yaml" and load_calibration(path).device.get("device") == mine:
            return name
    message = f"left out, and none that is shipped was made on {mine}; run `simdeep calibrate`"
    raise InputError([Problem("--calibration", "", message)])


def check_device(calibration: Calibration, present: Mapping[str, Any], place: str) -> None:
    """Refuse a calibration of another device, or of another version of torch."""
    problems = []
    theirs = calibration.device
    if not theirs:
        message = f"the calibration of {calibration.gpu} does not say what device it was made on"
        problems.append(Problem(place, "device", message))
    for key in ("device", "torch") if theirs else ():
        mine, made = (_release(str(d.get(key, "?")), key) for d in (present, theirs))
        if mine != made:
            message = f"the calibration was made on {made}, this is {mine}; run `simdeep calibrate`"
            problems.append(Problem(place, f"device.{key}", message))
    if problems:
        raise InputError(problems)


def _release(text: str, key: str) -> str:
    """A version's major and minor number; other facts as they are."""
    return ".".join(text.split("+")[0].split(".")[:2]) if key == "torch" else text
