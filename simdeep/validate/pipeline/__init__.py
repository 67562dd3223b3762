"""A real pipeline beside its prediction: calibrated on single processes, run, compared.

`computer`, `ranks`, `single`, `torch_run` and `work` import torch when imported, which only the
processes do that are started for it.
"""

from simdeep.validate.pipeline.calibration import (
    Calibration,
    Overheads,
    RuntimeCosts,
    StageCosts,
)
from simdeep.validate.pipeline.compare import Comparison, Ordering, Pair, order
from simdeep.validate.pipeline.measured import GRADIENT_TOLERANCE, Measured
from simdeep.validate.pipeline.points import (
    SCHEDULES,
    Point,
    Setup,
    cores_here,
    make_grid,
    refuse,
)
from simdeep.validate.pipeline.predict import Predicted, predict
from simdeep.validate.pipeline.validate import validate_pipeline

__all__ = [
    "GRADIENT_TOLERANCE",
    "SCHEDULES",
    "Calibration",
    "Comparison",
    "Measured",
    "Ordering",
    "Overheads",
    "Pair",
    "Point",
    "Predicted",
    "RuntimeCosts",
    "Setup",
    "StageCosts",
    "cores_here",
    "make_grid",
    "order",
    "predict",
    "refuse",
    "validate_pipeline",
]
