"""Chrome trace documents: PyTorch profiler's (Kineto) and our own exports."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simdeep.errors import InputError, Problem
from simdeep.traces.export import COMM_PREFIX, MARK
from simdeep.traces.names import component_of, kind_of
from simdeep.traces.trace import COMMUNICATION, COMPUTE, IDLE, SPANS, Trace

if TYPE_CHECKING:
    import pandas as pd

Event = Mapping[str, Any]

_GPU = ("kernel", "gpu_memcpy", "gpu_memset", "Kernel", "Memcpy", "Memset")
_LAUNCH = ("cuda_runtime", "cuda_driver", "Runtime")
_ANNOTATION = ("user_annotation", "python_function_annotation")


def read_kineto(path: Path, document: Any) -> Trace:
    """A trace document: phases from annotations, kernels by name, one rank a document or process.

    In a measured trace a kernel belongs to the innermost user annotation (`record_function`) around
    its launch on the launching thread, found through the correlation id; `layer` counts the
    annotations of that name from 0.

    Raises:
        InputError: no trace events, or none of a GPU.
    """
    events = document.get("traceEvents") if isinstance(document, dict) else document
    if not isinstance(events, list) or not all(isinstance(e, dict) for e in events):
        message = "has no traceEvents; expected a trace as PyTorch's profiler or simdeep writes it"
        raise InputError([Problem(str(path), "traceEvents", message)])
    ours = isinstance(document, dict) and MARK in document
    try:
        found = _own(events) if ours else _measured(document, events)
    except (KeyError, TypeError, ValueError) as error:
        message = f"an event lacks or misstates {error}"
        raise InputError([Problem(str(path), "traceEvents", message)]) from error
    if not len(found[0]):
        message = "has no GPU activity (kernel, gpu_memcpy or gpu_memset events)"
        raise InputError([Problem(str(path), "traceEvents", message)])
    name = path.name.removesuffix(".gz").removesuffix(".json")
    meta = {k: v for k, v in document.items() if k != "traceEvents"} if ours else {}
    if ours:
        name = document[MARK].get("scenario", name)
    return Trace(name, "simulated" if ours else "measured", *found, meta)


def ns(us: float) -> int:
    """Microseconds of a trace as integer nanoseconds."""
    return round(float(us) * 1000)


def _own(events: Sequence[Event]) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    streams = {
        (e["pid"], e["tid"]): e["args"]["name"].removeprefix("stream ")
        for e in events
        if e.get("ph") == "M" and e.get("name") == "thread_name"
    }
    spans, idle = [], []
    for e in events:
        if e.get("ph") != "X":
            continue
        start = ns(e["ts"])
        end = start + ns(e["dur"])
        if e["cat"] == "kernel":
            args, is_comm = e["args"], e["name"].startswith(COMM_PREFIX)
            spans.append(
                {
                    "rank": e["pid"],
                    "stream": streams[e["pid"], e["tid"]],
                    "name": e["name"].removeprefix(COMM_PREFIX),
                    "kind": COMMUNICATION if is_comm else COMPUTE,
                    "phase": args["phase"],
                    "part": args["part"],
                    "layer": args.get("layer", -1),
                    "microbatch": args.get("microbatch", -1),
                    "start_ns": start,
                    "end_ns": end,
                    "launch_ns": args.get("launch_ns", 0),
                    "setup_ns": args.get("setup_ns", 0),
                }
            )
        elif e["cat"] == "idle":
            idle.append({"rank": e["pid"], "part": e["name"], "start_ns": start, "end_ns": end})
    return pd.DataFrame(spans, columns=list(SPANS)), pd.DataFrame(idle, columns=list(IDLE))


def _measured(document: Any, events: Sequence[Event]) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    rank = 0
    if isinstance(document, dict):
        rank = int((document.get("distributedInfo") or {}).get("rank", 0))
    timed = [e for e in events if e.get("ph") == "X" and "ts" in e and "dur" in e]
    annotations = _Annotations([e for e in timed if e.get("cat") in _ANNOTATION])
    launches = {
        e["args"]["correlation"]: e
        for e in timed
        if e.get("cat") in _LAUNCH and "correlation" in (e.get("args") or {})
    }
    gpu = [e for e in timed if e.get("cat") in _GPU]
    origin = min((ns(e["ts"]) for e in gpu), default=0)
    spans = []
    for e in gpu:
        args = e.get("args") or {}
        launch = launches.get(args.get("correlation"))
        phase, occurrence = annotations.around(launch) if launch is not None else ("", -1)
        start = ns(e["ts"]) - origin
        spans.append(
            {
                "rank": rank,
                "stream": str(args.get("stream", e.get("tid", ""))),
                "name": str(e["name"]),
                "kind": kind_of(str(e["name"])),
                "phase": phase or component_of(str(e["name"])),
                "part": "",
                "layer": occurrence,
                "microbatch": -1,
                "start_ns": start,
                "end_ns": start + ns(e["dur"]),
                "launch_ns": 0,
                "setup_ns": 0,
            }
        )
    frame = pd.DataFrame(spans, columns=list(SPANS)).sort_values("start_ns", ignore_index=True)
    return frame, pd.DataFrame(columns=list(IDLE))


class _Annotations:
    """Nested annotations of host threads, looked up by moment."""

    def __init__(self, events: Sequence[Event]):
        by_thread: dict[tuple[Any, Any], list[tuple[int, int, str]]] = defaultdict(list)
        for e in events:
            start = ns(e["ts"])
            key = e.get("pid"), e.get("tid")
            by_thread[key].append((start, start + ns(e["dur"]), str(e["name"])))
        self._threads: dict[tuple[Any, Any], _Steps] = {}
        count: dict[str, int] = defaultdict(int)
        for key, rows in by_thread.items():
            rows.sort(key=lambda row: (row[0], -row[1]))
            numbered = []
            for start, end, name in rows:
                numbered.append((start, end, name, count[name]))
                count[name] += 1
            self._threads[key] = _Steps(numbered)

    def around(self, launch: Event) -> tuple[str, int]:
        """Innermost annotation at a launch and which of its name; ("", -1) if there is none."""
        steps = self._threads.get((launch.get("pid"), launch.get("tid")))
        return ("", -1) if steps is None else steps.at(ns(launch["ts"]))


class _Steps:
    """Which of properly nested intervals is innermost, as a step function of time."""

    def __init__(self, rows: Sequence[tuple[int, int, str, int]]):
        self._at: list[int] = []
        self._value: list[tuple[str, int]] = []
        open_: list[tuple[int, tuple[str, int]]] = []
        for start, end, name, number in rows:
            self._close(open_, start)
            open_.append((end, (name, number)))
            self._push(start, (name, number))
        self._close(open_, None)

    def _close(self, open_: list[tuple[int, tuple[str, int]]], until: int | None) -> None:
        while open_ and (until is None or open_[-1][0] <= until):
            end, _ = open_.pop()
            self._push(end, open_[-1][1] if open_ else ("", -1))

    def _push(self, at: int, value: tuple[str, int]) -> None:
        self._at.append(at)
        self._value.append(value)

    def at(self, moment: int) -> tuple[str, int]:
        index = bisect_right(self._at, moment) - 1
        return self._value[index] if index >= 0 else ("", -1)
