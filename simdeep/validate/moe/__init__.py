"""Expert parallel layers on real processes: real all-to-alls of real tokens, and their prediction.

`parallel`, `rank` and `prepare` import torch when imported, which only the processes do that
`validate_moe` starts.
"""

from simdeep.validate.moe.case import Case, check_case
from simdeep.validate.moe.outcome import PHASES, Outcome, Point, Timing
from simdeep.validate.moe.run import validate_moe

__all__ = [
    "PHASES",
    "Case",
    "Outcome",
    "Point",
    "Timing",
    "check_case",
    "validate_moe",
]
