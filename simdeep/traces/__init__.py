"""Timelines as files other tools open, and measured timelines beside simulated ones.

`trace_of` makes a `Trace` of a simulated timeline, `read_trace` of a file: ours, a PyTorch
profiler's, or rows as in `simdeep/data/traces`. `measure` and `compare` treat all of them alike;
`export` writes what Perfetto and HolisticTraceAnalysis open.
"""

from simdeep.traces.diff import Comparison, compare
from simdeep.traces.export import export, export_ranks
from simdeep.traces.files import write_trace
from simdeep.traces.measure import Measures, measure
from simdeep.traces.read import read_trace
from simdeep.traces.trace import Trace, trace_of

__all__ = [
    "Comparison",
    "Measures",
    "Trace",
    "compare",
    "export",
    "export_ranks",
    "measure",
    "read_trace",
    "trace_of",
    "write_trace",
]
