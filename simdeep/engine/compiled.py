"""The compiled engine: the same rules as `reference`, the same timeline, over flat arrays."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np

from simdeep.engine.compiled_halves import components
from simdeep.engine.compiled_parts import simulate
from simdeep.engine.compiled_tasks import Tasks, arrange
from simdeep.engine.deadlock import explain
from simdeep.engine.timeline import Timeline
from simdeep.errors import DeadlockError
from simdeep.program.columns import I64, Priced, Program


def run(priced: Priced) -> Timeline:
    """Run a priced program to its end. Compiling is no part of the timeline's `wall_s`.

    Raises:
        DeadlockError: if tasks remain that wait for each other.
    """
    warm_up()
    began = time.perf_counter()
    tasks = arrange(priced)
    start, end = simulate(priced, tasks)
    if (end < 0).any():
        raise _deadlock(priced.program, tasks, end)
    wall_s = time.perf_counter() - began
    return Timeline(priced=priced, start_ns=start, end_ns=end, engine="compiled", wall_s=wall_s)


def _deadlock(program: Program, tasks: Tasks, end: I64) -> DeadlockError:
    heads: dict[tuple[int, int], int] = {}
    for stream in tasks.streams[tasks.streams["head"] < tasks.streams["stop"]]:
        task = int(tasks.queue[stream["head"]])
        heads[int(program.rank[task]), int(program.stream[task])] = task
    return explain(program, end >= 0, heads)


@cache
def warm_up() -> float:
    """Compile, or load what was compiled before; returns the seconds that took, once a process."""
    began = time.perf_counter()
    nothing = _one_task()
    components(arrange(nothing))
    simulate(nothing, arrange(nothing))
    return time.perf_counter() - began


def _one_task() -> Priced:
    """The smallest program that goes through all compiled code."""
    program: dict[str, Any] = {"n_ranks": 1, "streams": ("compute",), "components": ("attn",)}
    program |= {"works": (), "dep_ptr": np.zeros(2, np.int64), "dep_idx": np.zeros(0, np.int64)}
    program |= dict.fromkeys(("mem_take", "mem_free"), np.zeros(1, np.int64))
    program |= dict.fromkeys(("stream", "kind", "action"), np.zeros(1, np.int8))
    ids = ("rank", "component", "stage", "layer", "microbatch", "block", "work", "case", "peer")
    program |= dict.fromkeys((*ids, "group"), np.zeros(1, np.int32))
    priced: dict[str, Any] = {"n_ports": 0, "hardware_sms": 1, "comm_sms": 0, "static_split": True}
    priced |= {"port": np.full((1, 4), -1, np.int32), "port_ns": np.zeros((1, 4))}
    priced |= dict.fromkeys(("sm_want", "sms", "draw_milli"), np.zeros(1, np.int32))
    for name in ["sm", "mem", "fixed", "floor", "latency"]:
        priced[f"{name}_ns"] = np.zeros(1)
    priced |= dict.fromkeys(("sm_drag", "mem_drag"), np.zeros(1))
    return Priced(Program(**program), **priced)
