"""Schedules on real processes: torch runs the tables, and gradients and times are measured.

Only `model`, `runtime` and `torch_schedule` import torch when imported, which only the processes
do that `run_cases` starts.
"""

from simdeep.validate.cases import (
    TOLERANCE,
    Case,
    ModelSize,
    Outcome,
    Runtime,
    StageGradient,
    case_problems,
    torch_problems,
)
from simdeep.validate.launch import RunError, run_cases
from simdeep.validate.torch_extra import require_torch

__all__ = [
    "TOLERANCE",
    "Case",
    "ModelSize",
    "Outcome",
    "RunError",
    "Runtime",
    "StageGradient",
    "case_problems",
    "require_torch",
    "run_cases",
    "torch_problems",
]
