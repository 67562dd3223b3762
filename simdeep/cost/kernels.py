"""What a row of kernels costs alone on one GPU, before anything runs beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simdeep.cost.clocked import clocked_times
from simdeep.cost.gemm import GROUPED, gemm_time
from simdeep.errors import SimdeepError

if TYPE_CHECKING:
    from simdeep.cost.calibration import Calibration
    from simdeep.program.workload.kernel import F, Kernel
    from simdeep.spec.hardware import Gpu


@dataclass(frozen=True, slots=True, eq=False)
class Price:
    """Seconds of some kernels, each figure one number or one for each routing draw.

    `sm_s` is FLOP-bound time, `mem_s` memory-bound time with the HBM to itself, `fixed_s` launch
    gaps. The drags are the fractions by which the first two grow beside one all-to-all transfer,
    weighted by the time of the kernels they belong to.
    """

    sm_s: F
    mem_s: F
    fixed_s: F
    sm_drag: F
    mem_drag: F

    @property
    def alone_s(self) -> F:
        """Seconds with nothing beside it."""
        return self.sm_s + self.mem_s + self.fixed_s

    @property
    def dragged_s(self) -> F:
        """Seconds with one all-to-all transfer beside it all the time."""
        return self.sm_s * (1 + self.sm_drag) + self.mem_s * (1 + self.mem_drag) + self.fixed_s


def price(kernels: Iterable[Kernel], gpu: Gpu, calibration: Calibration, sms: int) -> Price:
    """Sum of the kernels' times on `sms` SMs of a GPU; sizes may be arrays over routing draws.

    A calibration of another GPU is scaled to this one. A dtype that the GPU does not run is an
    `InputError` naming it.
    """
    here = calibration.on(gpu)
    kernels = tuple(kernels)
    if here.power is None:
        times = [_time(kernel, here, sms) for kernel in kernels]
        launch: F = 0.0
    else:
        times, launch = clocked_times(kernels, here, sms)
    sm: F = 0.0
    mem: F = 0.0
    fixed: F = launch
    sm_dragged: F = 0.0
    mem_dragged: F = 0.0
    for kernel, (sm_s, mem_s) in zip(kernels, times, strict=True):
        drag = here.drag[kernel.op]
        sm, mem = sm + sm_s, mem + mem_s
        sm_dragged, mem_dragged = sm_dragged + sm_s * drag, mem_dragged + mem_s * drag
        fixed = fixed + kernel.launches * here.launch_gap_s
    return Price(
        _plain(sm),
        _plain(mem),
        _plain(fixed),
        _plain(_mean(sm_dragged, sm)),
        _plain(_mean(mem_dragged, mem)),
    )


def kernel_time(kernel: Kernel, gpu: Gpu, calibration: Calibration, sms: int) -> F:
    """Seconds of one kernel alone, without its launch gap."""
    here = calibration.on(gpu)
    if here.power is None:
        sm_s, mem_s = _time(kernel, here, sms)
        return _plain(sm_s + mem_s)
    (only,), launch = clocked_times((kernel,), here, sms)
    return _plain(only[0] + only[1] + launch)


def _time(kernel: Kernel, here: Calibration, sms: int) -> tuple[F, F]:
    """FLOP-bound and memory-bound seconds; a kernel is one or the other."""
    if sms < 1:
        raise SimdeepError(f"{kernel.name}: a kernel needs at least one SM, got {sms}")
    if kernel.op == "memory":
        curve = here.memory_curve(kernel.variant, kernel.name)
        return 0.0, kernel.launches * curve.floor_s + kernel.bytes / curve.bandwidth
    if kernel.op == "attention":
        core = here.attention_curve(kernel.dtype, kernel.variant)
        tail: F = 0.0
        if core.tail_rows:
            # The kernel's FLOPs are those of m x n / 2 pairs a head: so much a row and head.
            tail = core.tail_rows * kernel.flops / (kernel.m * kernel.groups)
        return (kernel.flops / sms + tail) / core.flops_per_sm, 0.0
    variant = kernel.variant + (GROUPED if kernel.op == "grouped_gemm" else "")
    busy = gemm_time(kernel, here.gemm_curve(kernel.dtype, variant), sms)
    moved = kernel.bytes / here.gemm_stream_bw
    # A GEMM too small to hide its operands' way from HBM is memory-bound, as in decoding.
    return np.where(busy >= moved, busy, 0.0), np.where(busy >= moved, 0.0, moved)


def _mean(weighted: F, weight: F) -> F:
    total = np.asarray(weight, dtype=np.float64)
    return np.divide(weighted, total, out=np.zeros_like(total), where=total > 0)


def _plain(value: F) -> F:
    """A 0-d array as a float."""
    array = np.asarray(value, dtype=np.float64)
    return float(array) if array.ndim == 0 else array
