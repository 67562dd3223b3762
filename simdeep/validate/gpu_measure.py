"""Measures the layer on one GPU: every component in a row, alone, beside held SMs, and F beside B.

Imports torch: import it inside functions.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from simdeep.calibrate.held import Holder
from simdeep.calibrate.timing import Captured, CudaClock, Meter
from simdeep.validate.gpu_layer import COMPONENTS, GpuLayer, LayerSize

CYCLES = 60
"""Forward and backward passes; the first third brings the clock to where it stays."""


@dataclass
class LayerTimes:
    """Microseconds. `components` by `attn.F` and so on, in a row as a step runs them; `held` the
    same while other CTAs hold SMs; `kernels` of every step by itself, again and again, and
    `kernels_held` of some of them while SMs are held; `together` of F beside B."""

    components: dict[str, float] = field(default_factory=dict)
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)
    kernels: dict[str, float] = field(default_factory=dict)
    kernels_held: dict[str, float] = field(default_factory=dict)
    together: dict[str, float] = field(default_factory=dict)
    mhz: int = 0
    watts: int = 0

    def as_json(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)


def measure_layer(size: LayerSize, held_sms: int, held_kernels: Sequence[str] = ()) -> LayerTimes:
    """All times of one layer of the given size in BF16; `held_kernels` also while SMs are held."""
    torch.cuda.set_stream(torch.cuda.Stream())
    layer = GpuLayer(size, "cuda", torch.bfloat16)
    layer.prepare()
    clock = CudaClock()
    graphs = {f"{c}.{a}": _graph(clock, layer, c, a) for c, a in COMPONENTS}
    times = LayerTimes()
    _cycles(graphs, times)
    holder = Holder(held_sms)
    with holder():
        for name, graph in graphs.items():
            times.held[name] = clock.replay(graph).us
    for component, action in COMPONENTS:
        for name, call in layer.steps(component, action):
            captured = clock.capture([call])
            times.kernels[name] = clock.replay(captured).us
            if set(name.split("+")) & set(held_kernels):
                with holder():
                    times.kernels_held[name] = clock.replay(captured).us
    _together(graphs, times)
    return times


def _graph(clock: CudaClock, layer: GpuLayer, component: str, action: str) -> Captured:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        layer.run(component, action)
    graph.replay()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return Captured(graph, 1, start.elapsed_time(end) / 1e3)


def _cycles(graphs: dict[str, Captured], times: LayerTimes) -> None:
    """Each component's time inside a steady sequence of forward and backward passes."""
    marks = []
    for _ in range(CYCLES):
        row = [torch.cuda.Event(enable_timing=True) for _ in range(len(graphs) + 1)]
        row[0].record()
        for graph, mark in zip(graphs.values(), row[1:], strict=True):
            graph.graph.replay()
            mark.record()
        marks.append(row)
    marks[2 * CYCLES // 3][0].synchronize()
    times.mhz, times.watts = Meter().read()
    marks[-1][-1].synchronize()
    for number, name in enumerate(graphs):
        took = [row[number].elapsed_time(row[number + 1]) * 1e3 for row in marks[CYCLES // 3 :]]
        times.components[name] = statistics.median(took)
        times.spread[name] = min(took), max(took)


def _together(graphs: dict[str, Captured], times: LayerTimes) -> None:
    """A forward pass on one stream beside a backward pass on another."""
    forward = [g for name, g in graphs.items() if name.endswith("F")]
    backward = [g for name, g in graphs.items() if not name.endswith("F")]
    main, side = torch.cuda.current_stream(), torch.cuda.Stream()
    both, ends = [], []
    for _ in range(CYCLES):
        start, f_end, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        start.record()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            for graph in forward:
                graph.graph.replay()
            f_end.record()
        for graph in backward:
            graph.graph.replay()
        main.wait_stream(side)
        end.record()
        end.synchronize()
        both.append(start.elapsed_time(end) * 1e3)
        ends.append(start.elapsed_time(f_end) * 1e3)
    times.together["f_beside_b"] = statistics.median(both[CYCLES // 3 :])
    times.together["f_end"] = statistics.median(ends[CYCLES // 3 :])
