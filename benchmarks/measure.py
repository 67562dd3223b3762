"""Measurements, each in a process of its own: what one leaves behind cannot help another."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from typing import Any

from benchmarks.steps import Step

Row = dict[str, Any]


def alone(function: Callable[..., Row], *arguments: object) -> Row:
    """The result of a function called in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def machine() -> Row:
    """What the figures hold for, and whether others were using it."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "load_before": os.getloadavg()[0],
    }


def compiling() -> Row:
    """Seconds to compile the engine, and to load it when it was compiled before."""
    code = "from simdeep.engine import compiled; print(compiled.warm_up())"
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        cold, warm = (
            float(
                subprocess.run(
                    [sys.executable, "-c", code],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            )
            for _ in range(2)
        )
    return {"compile_s": cold, "load_s": warm}


def _priced(step: Step) -> Any:
    from simdeep import api
    from simdeep.cost.program import price_program
    from simdeep.program.lower.train import lower

    scenario = step.scenario()
    program = lower(scenario, api.schedule_table(scenario)).program
    machine = api.machine_of(scenario)
    return price_program(program, machine, api.jitter_of(scenario, machine))


def _best(run: Callable[[Any], Any], priced: Any, times: int) -> tuple[Any, float, float]:
    """The timeline, and the least seconds and CPU seconds of `times` runs after a first one."""
    timeline = run(priced)
    wall, cpu = [], []
    for _ in range(times):
        began = time.process_time()
        wall.append(run(priced).wall_s)
        cpu.append(time.process_time() - began)
    return timeline, min(wall), min(cpu)


def engines(step: Step, times: int = 5) -> Row:
    """Both engines on one priced program, in one process, warm, and whether they agree."""
    import numpy as np

    from simdeep.engine import compiled, reference

    priced = _priced(step)
    fast, fast_s, fast_cpu_s = _best(compiled.run, priced, times)
    began = time.process_time()
    slow = reference.run(priced)
    n = priced.program.n
    return {
        "tasks": n,
        "compiled_s": fast_s,
        "compiled_cpu_s": fast_cpu_s,
        "reference_s": slow.wall_s,
        "reference_cpu_s": time.process_time() - began,
        "compiled_tasks_per_s": n / fast_s,
        "reference_tasks_per_s": n / slow.wall_s,
        "ratio": slow.wall_s / fast_s,
        "same_timeline": bool(
            np.array_equal(fast.start_ns, slow.start_ns)
            and np.array_equal(fast.end_ns, slow.end_ns)
        ),
    }


def engine(step: Step, times: int = 3) -> Row:
    """The compiled engine alone, warm: bringing the program into order and running it."""
    from simdeep.engine import compiled

    priced = _priced(step)
    fast, seconds, cpu_s = _best(compiled.run, priced, times)
    n = priced.program.n
    return {
        "tasks": n,
        "gpus": priced.program.n_ranks,
        "compiled_s": seconds,
        "compiled_cpu_s": cpu_s,
        "compiled_tasks_per_s": n / seconds,
        "step_s": fast.makespan_ns / 1e9,
    }


def whole(step: Step) -> Row:
    """`simulate` as a user calls it: lowering, pricing, engine and all analysis; memory."""
    from simdeep import api
    from simdeep.engine import compiled

    scenario = step.scenario()
    compiled.warm_up()
    began, cpu = time.perf_counter(), time.process_time()
    result = api.simulate(scenario)
    n = result.timeline.program.n
    return {
        "tasks": n,
        "gpus": result.timeline.program.n_ranks,
        "simulate_s": time.perf_counter() - began,
        "simulate_cpu_s": time.process_time() - cpu,
        "engine_s": result.timeline.wall_s,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "step_s": result.step_time_s,
    }
