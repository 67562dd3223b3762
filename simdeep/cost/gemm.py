"""Time of a GEMM: whole waves of output tiles over the SMs it may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simdeep.cost.calibration import GemmCurve
    from simdeep.program.workload.kernel import F, Kernel


GROUPED = ":grouped"
"""Behind a variant: the curve of a grouped GEMM made of one launch a group, on several streams."""


def waves(kernel: Kernel, curve: GemmCurve, sms: int) -> F:
    """Rounds of at most `sms` output tiles that a GEMM takes.

    A grouped forward or dgrad has the rows of all its groups in `m`, padded by the caller to whole
    tiles, so that its tiles fill the SMs as one GEMM's do. A grouped wgrad is one GEMM a group.
    """
    tiles = np.ceil(np.asarray(kernel.m) / curve.tile_m) * np.ceil(
        np.asarray(kernel.n) / curve.tile_n
    )
    rounds = np.ceil(tiles / sms)
    return rounds * kernel.groups if _one_by_one(kernel) else rounds


def gemm_time(kernel: Kernel, curve: GemmCurve, sms: int) -> F:
    """Seconds on `sms` SMs, FLOP-bound. Nothing to multiply takes no time."""
    count = waves(kernel, curve, sms)
    each = _one_by_one(kernel) or curve.variant.endswith(GROUPED)
    starts = kernel.groups if each else 1
    seconds = starts * curve.launch_s + count * (curve.prologue_s + kernel.k * curve.per_k_s)
    return np.where((count > 0) & (np.asarray(kernel.k) > 0), seconds, 0.0)


def _one_by_one(kernel: Kernel) -> bool:
    return kernel.op == "grouped_gemm" and kernel.variant == "wgrad"
