"""What is handed to the processes of a run, and what each leaves behind; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from simdeep.validate.cases import Case, ModelSize, StageGradient


class CellTime(NamedTuple):
    """Start and end of a cell's computing, in seconds of the machine's monotonic clock."""

    start: float
    end: float


@dataclass(frozen=True)
class Job:
    """The work of all ranks. `folder` is shared; what a rank found it leaves there."""

    folder: Path
    cases: tuple[Case, ...]
    size: ModelSize
    n_ranks: int
    timeout_s: float

    def log(self, rank: int) -> Path:
        """What the process of a rank and its libraries print."""
        return self.folder / f"{rank}.log"

    def error(self, rank: int) -> Path:
        """The traceback of a rank that failed."""
        return self.folder / f"{rank}.error"

    def found(self, rank: int) -> Path:
        """The pickled list of `Found`, one for each case."""
        return self.folder / f"{rank}.found"

    def csv(self, case: int) -> Path:
        """The exported table of a case."""
        return self.folder / f"{case}.csv"


@dataclass(frozen=True)
class Found:
    """One rank's part of an outcome; `times` are empty where the runtime has none."""

    loss: float
    reference_loss: float
    gradients: tuple[StageGradient, ...]
    times: tuple[CellTime, ...]
