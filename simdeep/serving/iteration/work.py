"""Adds up the kernels of a stage of an iteration into one price."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from simdeep.cost.calibration import Calibration, calibration_for
from simdeep.program.workload.kernel import F
from simdeep.serving.deployment import BYTES, Unit
from simdeep.serving.kernels import (
    GemmLayout,
    GemmShape,
    GemmTime,
    ServingKernels,
    gemm_seconds,
    kernels_for,
    sustained_seconds,
)


@dataclass(frozen=True, eq=False)
class Bench:
    """What prices kernels: curves of the GPU, the SMs they get, and the gap after each."""

    unit: Unit
    kernels: ServingKernels
    calibration: Calibration
    sms: int
    gap_s: float

    @property
    def values_dtype(self) -> str:
        """Format that linear layers multiply in: FP4 and FP8 only where the GPU has them."""
        order = {"fp4": ("fp4", "fp8", "bf16"), "fp8": ("fp8", "bf16"), "bf16": ("bf16",)}
        return next(d for d in order[self.unit.weights] if d in self.kernels.peak)

    def speed(self, dtype: str) -> float:
        """Rate of a format over that of the curves: FP8's, or BF16's where there is none."""
        peak = self.kernels.peak
        return peak[dtype] / peak.get("fp8", peak["bf16"])


@lru_cache(maxsize=64)
def bench_of(unit: Unit) -> Bench:
    """The bench of a unit: SMs that normal all-to-all holds are never compute's."""
    kernels = kernels_for(unit.topology.gpu)
    calibration = calibration_for(unit.topology.gpu)
    holds = unit.mode == "normal" and unit.ep > 1
    sms = unit.topology.gpu.sms - (unit.comm_sms if holds else 0)
    gap = kernels.graph_gap_s if unit.cuda_graphs else calibration.launch_gap_s
    return Bench(unit, kernels, calibration, sms, gap)


@dataclass(slots=True, eq=False)
class Work:
    """Kernels of one stage: seconds bound by SMs, by memory and by nothing, one or one a draw."""

    bench: Bench
    sm_s: F = 0.0
    mem_s: F = 0.0
    fixed_s: F = 0.0
    launches: int = 0
    _sm_dragged: F = field(default=0.0)
    _mem_dragged: F = field(default=0.0)

    @property
    def sm_drag(self) -> F:
        """Mean drag of a transfer on the SM-bound time."""
        return _mean(self._sm_dragged, self.sm_s)

    @property
    def mem_drag(self) -> F:
        """Mean drag of a transfer on the memory-bound time."""
        return _mean(self._mem_dragged, self.mem_s)

    @property
    def alone_s(self) -> F:
        """All of it, gaps between kernels included."""
        return self.sm_s + self.mem_s + self.fixed_s

    def add(self, kind: str, sm_s: F, mem_s: F, fixed_s: F, launches: int = 1) -> None:
        """One kernel, or some."""
        drag = self.bench.calibration.drag[kind]
        self.sm_s = self.sm_s + sm_s
        self.mem_s = self.mem_s + mem_s
        self._sm_dragged = self._sm_dragged + sm_s * drag
        self._mem_dragged = self._mem_dragged + mem_s * drag
        self.fixed_s = self.fixed_s + fixed_s + launches * self.bench.gap_s
        self.launches += launches

    def memory(self, nbytes: F, variant: str, *, launches: int = 1) -> None:
        """Memory-bound kernels that move `nbytes` together."""
        curve = self.bench.calibration.memory_curve(variant)
        self.add("memory", 0.0, launches * curve.floor_s + nbytes / curve.bandwidth, 0.0, launches)

    def linear(self, m: F, n: float, k: float, *, groups: int = 1, bf16: bool = False) -> None:
        """A linear layer in the unit's format (`bf16`: in BF16), with the cast of its input."""
        bench = self.bench
        dtype = "bf16" if bf16 else bench.values_dtype
        if dtype != "bf16":
            self.cast(m * k)
        self.gemm(m, n, k, groups=groups, bf16=bf16)

    def cast(self, values: F) -> None:
        """Values from BF16 into the linear layers' format, where that is another."""
        if self.bench.values_dtype != "bf16":
            self.memory(values * 3.0, "cast")

    def gemm(
        self,
        m: F,
        n: float,
        k: float,
        *,
        groups: int = 1,
        bf16: bool = False,
        layout: GemmLayout = "dense",
    ) -> None:
        """A GEMM, its input already in its format; `m` rows of each group."""
        bench = self.bench
        dtype = "bf16" if bf16 else bench.values_dtype
        stored = "bf16" if bf16 else bench.unit.weights
        shape = GemmShape(m, n, k, groups, BYTES[stored], BYTES[dtype], bench.speed(dtype))
        found = gemm_seconds(shape, bench.kernels.gemm[layout], bench.sms)
        if bench.unit.role != "decode":
            # Decoding reads weights, which no clock slows; prompts compute.
            found = sustained_seconds(shape, found, bench.kernels.sustained, bench.sms)
        kind = "gemm" if groups == 1 else "grouped_gemm"
        self.add(kind, found.sm_s, found.mem_s, found.fixed_s)

    def skinny(self, m: float, n: float, k: float) -> None:
        """A BF16 GEMM of so little output that its k is split over SMs, and the sum of the parts.

        As libraries do where that is faster; parts are written and read in FP32.
        """
        bench = self.bench
        curve, speed = bench.kernels.gemm["dense"], bench.speed("bf16")
        sum_floor = bench.calibration.memory_curve("elementwise")
        best: tuple[float, int, GemmTime, float] | None = None
        for parts in (1, 2, 4, 8, 16):
            shape = GemmShape(m, n, k / parts, parts, 2.0, 2.0, speed)
            found = gemm_seconds(shape, curve, bench.sms)
            adding = 0.0
            if parts > 1:
                moved = m * n * (4.0 * parts + 2.0)
                adding = sum_floor.floor_s + moved / sum_floor.bandwidth + bench.gap_s
            total = float(found.alone_s) + adding
            if best is None or total < best[0]:
                best = total, parts, found, adding
        assert best is not None
        _, parts, found, adding = best
        self.add("gemm", found.sm_s, found.mem_s, found.fixed_s)
        if parts > 1:
            self.add("memory", 0.0, adding - bench.gap_s, 0.0)


def _mean(weighted: F, weight: F) -> F:
    total = np.asarray(weight, dtype=np.float64)
    return np.divide(weighted, total, out=np.zeros_like(total), where=total > 0)
