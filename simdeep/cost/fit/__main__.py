"""Fit the H800's calibration: `python -m simdeep.cost.fit TRACE.csv > h800.yaml`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simdeep.cost.fit.alltoall import alltoall_entries
from simdeep.cost.fit.attention import attention_entries
from simdeep.cost.fit.drag import drags, launch_gap
from simdeep.cost.fit.gemm import curve_entries, stream_bandwidth
from simdeep.cost.fit.jitter import kernel_cv
from simdeep.cost.fit.memory import memory_entries
from simdeep.cost.fit.rows import compute_rows, read_trace
from simdeep.cost.fit.write import to_yaml
from simdeep.spec.hardware import load_gpu

TRACES = Path(__file__).resolve().parents[2] / "data" / "traces"

HEADER = """\
# Fitted by `python -m simdeep.cost.fit`; see SOURCES.md. Do not edit by hand: change the fit or its
# data. kind: measured (in a trace), published (by others), guess. Errors are relative; of curves,
# those of a shape predicted from the other shapes.
"""

COLLECTIVE = {
    "nic_fraction": 0.8,
    "nvl_fraction": 1.0,
    "kind": "published",
    "source": "arXiv 2505.09343v2 (ISCA'25): about 40 of 50 GB/s achieved a NIC; the NVLink figure "
    "of the GPU file is the usable one already",
}


def calibrate(trace: Path, published: Path) -> dict[str, Any]:
    """Everything a calibration file holds, from the two data files."""
    rows = read_trace(trace)
    compute = compute_rows(rows)
    gpu = load_gpu("h800")
    drag = drags(compute)
    amount = {name: float(entry["value"]) for name, entry in drag.items()}
    return {
        "gpu": "h800",
        "reference": {
            "sms": gpu.sms,
            "hbm_GBps": gpu.hbm_bw / 1e9,
            "peak_tflops": {dtype: peak / 1e12 for dtype, peak in gpu.peak.items()},
        },
        "launch_gap_us": launch_gap(compute),
        "drag": drag,
        "kernel_cv": kernel_cv(compute, amount),
        "gemm": curve_entries(compute, amount, published),
        "gemm_stream_GBps": stream_bandwidth(published),
        "attention": attention_entries(compute, amount["attention"]),
        "memory": memory_entries(rows, amount["memory"]),
        "alltoall": alltoall_entries(rows),
        "collective": COLLECTIVE,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the calibration to stdout."""
    parser = argparse.ArgumentParser(prog="python -m simdeep.cost.fit", description=__doc__)
    parser.add_argument("trace", type=Path, help="rows of a training trace (CSV)")
    parser.add_argument("--published", type=Path, default=TRACES / "published_gemm.csv")
    given = parser.parse_args(arguments)
    found = calibrate(given.trace, given.published)
    sys.stdout.write(HEADER + to_yaml(found))


if __name__ == "__main__":
    main()
