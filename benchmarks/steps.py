"""The steps that are measured: DeepSeek-V3's, from one small pipeline to the whole cluster."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from simdeep.spec.resources import catalogue
from simdeep.spec.scenario import Scenario, load_scenario

SCENARIO = "dsv3-train-h800"
PIPELINE_RANKS = 16


@dataclass(frozen=True)
class Step:
    """DeepSeek-V3's training step on `gpus` H800s with `microbatches` of them for each replica."""

    gpus: int = 2048
    microbatches: int = 120
    fold: bool = True
    ep: int = 64
    schedule: str = "dualpipe"

    @property
    def name(self) -> str:
        every = "folded" if self.fold else "every GPU"
        size = f"{self.gpus:,} GPUs, EP{self.ep}, {self.microbatches} micro-batches"
        return f"{size}, {self.schedule}, {every}"

    def scenario(self) -> Scenario:
        """As trained, but for the size."""
        replicas = self.gpus // PIPELINE_RANKS
        changes = {
            "layout.dp": str(replicas),
            "layout.ep": str(self.ep),
            "train.schedule": self.schedule,
            "train.gbs": str(replicas * self.microbatches),
            "simulate.fold": str(self.fold).lower(),
        }
        text = catalogue("topologies")["h800-2048"].read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            cluster = Path(folder) / f"h800-{self.gpus}.yaml"
            cluster.write_text(text.replace("gpus: 2048", f"gpus: {self.gpus}", 1), "utf-8")
            return load_scenario(SCENARIO, changes | {"topology": str(cluster)})


FOLDED = Step()
SMALL = Step(gpus=256, fold=False, ep=16)
WHOLE = Step(fold=False)

BY_MICROBATCHES = tuple(Step(microbatches=n, schedule="1f1b") for n in (16, 32, 64, 120, 480, 960))
"""Folded steps of about 1e4 to 6e5 tasks."""

BY_GPUS = tuple(Step(gpus=n, fold=False, ep=8) for n in (128, 256, 512, 1024, 2048))
"""Unfolded steps of about 6e5 to 1e7 tasks, all of the same expert-parallel groups."""


def as_dict(step: Step) -> dict[str, object]:
    """For the report."""
    return {"name": step.name, **asdict(step)}
