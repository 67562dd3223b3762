"""Kernels on a GPU whose power limit sets its clock: their parts, then the clock, then the times.

The clock is that of all kernels given, run in turn: a GPU's power is an average over many kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simdeep.cost.power import Parts, settled_clock
from simdeep.cost.tiled import tiled_time
from simdeep.errors import SimdeepError

if TYPE_CHECKING:
    from simdeep.cost.calibration import AttentionCurve, Calibration
    from simdeep.program.workload.kernel import F, Kernel

F64 = npt.NDArray[np.float64]


def clocked_times(
    kernels: Sequence[Kernel], here: Calibration, sms: int
) -> tuple[list[tuple[F, F]], F]:
    """FLOP-bound and memory-bound seconds of each kernel on `sms` SMs, and all launches' seconds.

    A kernel is one or the other, whichever takes it longer.
    """
    if not kernels:
        return [], 0.0
    parts = kernel_parts(kernels, here, sms)
    assert here.power is not None
    clock = settled_clock(parts, here.power)
    busy = parts.busy_s(clock)
    computes = parts.sm_s / clock[..., None] >= parts.mem_s
    sm, mem = np.where(computes, busy, 0.0), np.where(computes, 0.0, busy)
    return [(sm[..., i], mem[..., i]) for i in range(len(kernels))], parts.fixed_s.sum(-1)


def kernel_parts(kernels: Sequence[Kernel], here: Calibration, sms: int) -> Parts:
    """Parts of each kernel along the last axis, sizes of routing draws along the first."""
    if sms < 1:
        raise SimdeepError(f"{kernels[0].name}: a kernel needs at least one SM, got {sms}")
    columns = [_parts(kernel, here, sms) for kernel in kernels]
    shape = np.broadcast_shapes(*(np.shape(value) for column in columns for value in column))
    stacked = [
        np.stack([np.broadcast_to(np.asarray(c[i], float), shape) for c in columns], axis=-1)
        for i in range(5)
    ]
    return Parts(*stacked)


def _parts(kernel: Kernel, here: Calibration, sms: int) -> tuple[F, F, F, F, F]:
    """Seconds on SMs, of HBM and of launching; joules of computing and of moving."""
    power = here.power
    assert power is not None
    if kernel.op == "memory":
        curve = here.memory_curve(kernel.variant, kernel.name)
        seconds = kernel.launches * curve.floor_s + kernel.bytes / curve.bandwidth
        return 0.0, seconds, 0.0, 0.0, (here.memory_w - power.idle_w) * seconds
    move_j = kernel.bytes * power.joules_per_byte
    if kernel.op == "attention":
        core = core_curve(kernel, here)
        return (*core_seconds(kernel, core, sms), kernel.flops * core.joules_per_flop, move_j)
    one_by_one = kernel.op == "grouped_gemm" and kernel.variant == "wgrad"
    times = kernel.groups if one_by_one else 1
    found = here.tiled_curve(kernel.dtype, kernel.variant, kernel.op == "grouped_gemm")
    part = tiled_time(
        found,
        kernel.m,
        kernel.n,
        kernel.k,
        moved=kernel.bytes / times,
        sms=here.sms,
        free=sms,
        groups=1 if one_by_one else kernel.groups,
    )
    # Nothing to multiply takes no time.
    real = np.asarray(kernel.flops) > 0
    compute_j = kernel.flops * found.joules_per_flop
    return (
        np.where(real, part.sm_s * times, 0.0),
        np.where(real, part.mem_s * times, 0.0),
        np.where(real, part.launch_s * times, 0.0),
        compute_j,
        move_j,
    )


def core_curve(kernel: Kernel, here: Calibration) -> AttentionCurve:
    """The curve of a core: that of its sizes of a head if there is one."""
    base, _, library = kernel.variant.partition(":")
    if not library:
        total = kernel.flops / (kernel.m * kernel.groups * kernel.n)
        v_dim = total - kernel.k if base == "fwd" else (total - 3 * kernel.k) / 2
        sized = f"{base}:{round(float(kernel.k))}x{round(float(np.max(v_dim)))}"
        if (kernel.dtype, sized) in here.attention:
            return here.attention_curve(kernel.dtype, sized)
    return here.attention_curve(kernel.dtype, kernel.variant)


def core_seconds(kernel: Kernel, core: AttentionCurve, sms: int) -> tuple[F, F, F]:
    """Seconds on SMs, of HBM and of launching of an attention core, at the highest clock."""
    a_row = kernel.flops / (kernel.m * kernel.groups)
    done = kernel.flops * (1.0 + 2.0 * core.masked_keys / kernel.n)
    return (done / sms + core.tail_rows * a_row) / core.flops_per_sm, 0.0, core.launch_s
