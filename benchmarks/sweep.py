"""How much faster two workers are than one, and how long a finished sweep takes to answer again."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Row

POINTS = 1000
COMMAND = ("sweep", "toy-dense", "--set", "train.gbs=96", "--vary", "simulate.seed=1:200:200")
COMMAND += ("--vary", "topology.nic.bandwidth=10 GB/s:18 GB/s:5", "--quiet")


def _seconds(store: Path, jobs: int) -> float:
    command = [sys.executable, "-m", "simdeep.cli", *COMMAND, "--store", str(store)]
    start = time.perf_counter()
    subprocess.run([*command, "--jobs", str(jobs)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def sweep() -> Row:
    """Wall-clock seconds of the same `POINTS` points with one and two workers, and of a rerun."""
    with tempfile.TemporaryDirectory() as folder:
        stores = {jobs: Path(folder) / f"{jobs}.jsonl" for jobs in (1, 2)}
        took = {jobs: _seconds(store, jobs) for jobs, store in stores.items()}
        texts = [sorted(store.read_text().splitlines()) for store in stores.values()]
        assert texts[0] == texts[1], "one and two workers must give the same store"
        assert len(texts[0]) == POINTS + 1
        rerun = _seconds(stores[2], 2)
    return {
        "points": POINTS,
        "one_worker_s": took[1],
        "two_workers_s": took[2],
        "speed_up": took[1] / took[2],
        "rerun_s": rerun,
    }
