"""A scenario for each run: what its source states, and the framework's habit for the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from simdeep.published.cases import Case
from simdeep.published.clusters import gpu_of, nic_gbit, topology_of
from simdeep.published.frameworks import Framework, framework_of
from simdeep.published.models import Config, config_of

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario

LEAST: Final = "least"
"""Recomputation of a framework that does as little as fits in memory."""

RECOMPUTE_LADDER: Final[tuple[tuple[str, ...], ...]] = (
    (),
    ("norm", "swiglu"),
    ("norm", "swiglu", "selective"),
    ("full",),
)
"""What `least` tries, in this order; with latent attention the second also has `mla_up`."""

_PRECISIONS: Final[tuple[tuple[str, str], ...]] = (
    ("FP16", "fp16"),
    ("MXFP8", "mxfp8"),
    ("FP8-MX", "mxfp8"),
    ("NVFP4", "nvfp4"),
    ("FP8 (Transformer Engine", "fp8-delayed"),
    ("amp_fp8", "fp8-delayed"),
    ("FP8", "fp8-current"),
    ("BF16", "bf16"),
    ("bf16", "bf16"),
    ("amp_bf16", "bf16"),
)
_SCHEDULES: Final[tuple[tuple[str, str], ...]] = (
    ("1F1B interleaved", "interleaved-1f1b"),
    ("1F1B-I", "interleaved-1f1b"),
    ("1F1B", "1f1b"),
    ("ZB-1p", "zb1p"),
    ("ZB-H1", "zb1p"),
    ("ZB-2p", "zb-h2"),
    ("ZB-H2", "zb-h2"),
    ("ZB-V", "zb-v"),
)


class CannotExpressError(Exception):
    """A run that no scenario can say, and why."""


@dataclass(frozen=True, eq=False)
class Build:
    """The files of a run: model, topology and scenario, as plain values.

    `unstated` are the fields the source leaves open, with what was taken. `ladder` are the
    recomputations to try until one fits (one entry: it is known). `stated` says whether layout and
    precision are.
    """

    case: Case
    framework: Framework
    model: Config
    topology: dict[str, Any]
    scenario: dict[str, Any]
    unstated: dict[str, str]
    ladder: tuple[tuple[str, ...], ...]

    @property
    def stated(self) -> bool:
        """Whether the source states the layout and the precision, all but recomputation."""
        return not {"micro_batch", "global_batch", "pp", "vpp", "precision"} & set(self.unstated)

    @property
    def schedule_known(self) -> bool:
        """Whether also schedule and recomputation are stated."""
        return self.stated and not {"schedule", "recompute"} & set(self.unstated)

    def write(self, folder: Path) -> Path:
        """Write the three files into a folder; returns the scenario's path."""
        from ruamel.yaml import YAML

        yaml = YAML()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.case.id}.model.json").write_text(json.dumps(self.model), "utf-8")
        for suffix, data in (("topology", self.topology), ("scenario", self.scenario)):
            with (folder / f"{self.case.id}.{suffix}.yaml").open("w", encoding="utf-8") as file:
                yaml.dump(data, file)
        return folder / f"{self.case.id}.scenario.yaml"


def loaded(made: Build, recompute: tuple[str, ...] | None = None) -> Scenario:
    """The scenario as the simulator reads it, from files that are gone afterwards."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return load_build(made, Path(folder), recompute)


def load_build(made: Build, folder: Path, recompute: tuple[str, ...] | None = None) -> Scenario:
    """Write the files of a run and read its scenario."""
    from simdeep.spec.scenario import load_training

    chosen = made.ladder[0] if recompute is None else recompute
    made.scenario["train"]["recompute"] = list(chosen)
    return load_training(made.write(folder))


@dataclass(slots=True)
class _Fields:
    """Reads a run's fields; notes what it had to take from the framework."""

    case: Case
    framework: Framework
    unstated: dict[str, str] = field(default_factory=dict)

    def get(self, name: str, fallback: Any = None) -> Any:
        value = getattr(self.case, name)
        if value is None or value == "unstated":
            value = self.framework.unstated.get(name, fallback)
            if value is None:
                raise CannotExpressError(f"its source does not state {name}")
            self.unstated[name] = str(value)
        return value


def build(case: Case) -> Build:
    """The scenario of a run.

    Raises:
        CannotExpressError: with the reason.
    """
    framework = framework_of(case)
    if framework is None:
        raise CannotExpressError("no framework with such runs is known")
    if gpu_of(case) is None:
        raise CannotExpressError(f"no GPU file for {case.hardware!r}")
    if case.global_batch is None:
        raise CannotExpressError("its source does not state the global batch")
    fields = _Fields(case, framework)
    vocab = case.model.get("vocab")
    if vocab is None:
        vocab = framework.unstated.get("vocab")
        if vocab is None:
            raise CannotExpressError("its source does not state the vocabulary")
        fields.unstated["vocab"] = str(vocab)
    model = config_of(case, int(vocab))
    layout = _layout(fields)
    train = _train(fields, layout)
    _, known = nic_gbit(case)
    if not known and case.gpus > case.gpus_per_node:
        fields.unstated["nic"] = "as the DGX of that GPU"
    ladder = _ladder(fields)
    return Build(
        case=case,
        framework=framework,
        model=model,
        topology=topology_of(case),
        scenario={
            "kind": "train",
            "model": f"{case.id}.model.json",
            "topology": f"{case.id}.topology.yaml",
            "layout": layout,
            "train": train | {"recompute": list(ladder[0])},
            "jitter": {"kernel_cv": 0.0},
            **_calibration(case, framework),
        },
        unstated=fields.unstated,
        ladder=ladder,
    )


def _calibration(case: Case, framework: Framework) -> dict[str, str]:
    """The kernel rates of the framework's time, where it is not the GPU's own calibration."""
    name = framework.calibration.get(str(gpu_of(case)))
    return {} if name is None else {"calibration": name}


def _layout(fields: _Fields) -> dict[str, Any]:
    case, framework = fields.case, fields.framework
    tp, cp, ep = fields.get("tp", 1), fields.get("cp", 1), fields.get("ep", 1)
    pp = fields.get("pp")
    schedule = str(case.schedule)
    layout: dict[str, Any] = {"tp": tp, "pp": pp, "cp": cp, "ep": ep}
    layout["dp"] = case.gpus // (tp * pp * cp)
    layout |= framework.layout_of(case)
    layers = case.model["layers"]
    vpp: Any = 1
    if pp > 1:
        vpp = fields.get("vpp")
        if vpp == "layers":
            vpp = (layers + 2) // pp
            fields.unstated["vpp"] = str(vpp)
    layout["vpp"] = vpp
    stages = stage_layers(layers, pp * vpp)
    if stages is not None:
        layout["stages"] = stages
    if "ZeRO-2" in schedule:
        layout["zero"] = 2
    elif "ZeRO-3" in schedule or "FSDP" in schedule:
        layout["zero"] = 3
    sp = case.sequence_parallel
    layout["sp"] = tp > 1 and bool(layout.get("sp", False) if sp is None else sp)
    return layout


def stage_layers(layers: int, stages: int) -> list[int] | None:
    """Decoder layers of each stage as Megatron cuts them: alike, or embedding and head count as a
    layer each; None where neither comes out even."""
    if layers % stages == 0:
        return [layers // stages] * stages
    each, rest = divmod(layers + 2, stages)
    if rest:
        return None
    return [each - 1, *[each] * (stages - 2), each - 1]


def _train(fields: _Fields, layout: dict[str, Any]) -> dict[str, Any]:
    case, framework = fields.case, fields.framework
    precision = _named(fields.get("precision"), _PRECISIONS, "precision")
    train: dict[str, Any] = {"seq_len": case.seq_len, "gbs": case.global_batch}
    if case.micro_batch is None and layout["dp"] and "local batch" in case.notes:
        train["mbs"] = 1
    else:
        train["mbs"] = fields.get("micro_batch")
    train |= {"precision": precision, "schedule": _schedule(fields, layout)}
    depth = case.model.get("mtp_depth") or 0
    train["mtp"] = depth > 0 and "w/o MTP" not in case.notes
    train |= framework.train_of(case)
    train |= {key: item.value for key, item in framework.fitted.items()}
    if "pure" in str(case.precision):
        train["dtypes"] = {**train["dtypes"], "grads": "bf16"}
    return train


def _schedule(fields: _Fields, layout: dict[str, Any]) -> str:
    if layout["pp"] == 1:
        return "1f1b"
    stated = str(fields.case.schedule)
    if stated in ("None", "unstated") or "unstated" in stated:
        fields.unstated["schedule"] = "1F1B, interleaved where vpp is above 1"
        return "interleaved-1f1b" if layout["vpp"] > 1 else "1f1b"
    name = _named(stated, _SCHEDULES, "schedule")
    return "1f1b" if name == "interleaved-1f1b" and layout["vpp"] == 1 else name


def _named(text: str, table: tuple[tuple[str, str], ...], what: str) -> str:
    if text in {name for _, name in table}:
        return text
    found = next((name for part, name in table if part in text), None)
    if found is None:
        raise CannotExpressError(f"{what} {text!r} is not modelled")
    return found


def _ladder(fields: _Fields) -> tuple[tuple[str, ...], ...]:
    text = str(fields.get("recompute"))
    if text == LEAST:
        mla = fields.case.model.get("attention") == "MLA"
        first, second, *rest = RECOMPUTE_LADDER
        return (first, (*second, "mla_up") if mla else second, *rest)
    if fields.framework.id == "torchtitan" and text == "selective":
        # Its policy keeps every other product and the attention core, and repeats the rest.
        return (("products",),)
    for word, ops in (("full", ("full",)), ("selective", ("selective",)), ("none", ())):
        if text.startswith(word):
            return (ops,)
    raise CannotExpressError(f"recomputation {text!r} is not modelled")
