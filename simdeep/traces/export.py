"""A simulated timeline as Chrome trace events in the shape PyTorch's profiler (Kineto) writes.

A process for each rank and a thread for each of its streams. Spans are `kernel` events with
Kineto's `stream`, `device` and `correlation`; transfers are named `nccl...Kernel_...`, the prefix
by which HolisticTraceAnalysis and PyTorch's tools tell communication from compute. Beside them: the
schedule's entries and the idle intervals with their reason (threads of their own), arrows from
producers to consumers on other streams or ranks, and counters. Times are microseconds with three
decimals: no nanosecond is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import simdeep
from simdeep.program.columns import Kind
from simdeep.report.charts.blocks import LOOKS, schedule_bars
from simdeep.report.style import BLOCKS
from simdeep.traces.counters import counters
from simdeep.traces.trace import COMMUNICATION, Trace, trace_of

if TYPE_CHECKING:
    from simdeep.analysis.booking import IdlePieces
    from simdeep.api import Result
    from simdeep.engine.timeline import Timeline

Event = dict[str, Any]

COMM_PREFIX = "ncclSimKernel_"
SCHEDULE_THREAD, IDLE_THREAD, FIRST_STREAM = 1, 2, 7
"""Thread numbers: the schedule's entries, idle time, then the streams (7 is Kineto's default)."""

_BIND: dict[str, Event] = {"s": {}, "f": {"bp": "e"}}

MARK = "simdeep"
"""Key of the document under which a trace says what it was made of."""


def export(
    result: Result,
    ranks: Sequence[int] | None = None,
    flows: bool = True,
    idle: IdlePieces | None = None,
) -> Event:
    """A result as one trace document.

    Args:
        result: what was simulated.
        ranks: which of the timeline's ranks (default: all).
        flows: arrows from each task to those on other streams or ranks that wait for it.
        idle: idle intervals, where the result shows some GPUs of a larger timeline.
    """
    timeline = result.timeline
    chosen = list(range(timeline.program.n_ranks)) if ranks is None else sorted(set(ranks))
    trace = trace_of(timeline, result.scenario.name, idle)
    return _document(result, _events(result, trace, chosen, flows), chosen)


def export_ranks(
    result: Result, flows: bool = True, idle: IdlePieces | None = None
) -> Iterator[tuple[int, Event]]:
    """A document for each rank, as PyTorch writes them and HolisticTraceAnalysis reads them."""
    timeline = result.timeline
    trace = trace_of(timeline, result.scenario.name, idle)
    events: dict[int, list[Event]] = {rank: [] for rank in range(timeline.program.n_ranks)}
    # An arrow into another file would have no end.
    for event in _events(result, trace, list(events), flows, within_rank=True):
        events[event["pid"]].append(event)
    for rank, own in events.items():
        yield rank, _document(result, own, [rank])


def _document(result: Result, events: Iterable[Event], ranks: Sequence[int]) -> Event:
    gpu, program = result.scenario.topology.gpu, result.timeline.program
    return {
        "schemaVersion": 1,
        "deviceProperties": [
            {
                "id": rank,
                "name": gpu.name,
                "totalGlobalMem": int(gpu.hbm_bytes),
                "numSms": result.timeline.priced.hardware_sms,
            }
            for rank in ranks
        ],
        "distributedInfo": {
            "backend": "simdeep",
            "rank": ranks[0] if ranks else 0,
            "world_size": program.n_ranks,
        },
        "displayTimeUnit": "ms",
        "baseTimeNanoseconds": 0,
        "traceName": result.scenario.name,
        MARK: {
            "version": simdeep.__version__,
            "fingerprint": result.scenario.fingerprint,
            "scenario": result.scenario.name,
            "ranks": list(ranks),
            "makespan_ns": result.timeline.makespan_ns,
        },
        "traceEvents": list(events),
    }


def _events(
    result: Result, trace: Trace, ranks: Sequence[int], flows: bool, within_rank: bool = False
) -> Iterator[Event]:
    timeline = result.timeline
    yield from _names(timeline, ranks)
    yield from _spans(timeline, trace, ranks)
    yield from _schedule(timeline, ranks)
    yield from _idle(trace, ranks)
    if flows:
        yield from _flows(timeline, ranks, within_rank)
    yield from _counters(result, ranks)


def _us(ns: int) -> float:
    return ns / 1000


def _names(timeline: Timeline, ranks: Sequence[int]) -> Iterator[Event]:
    program = timeline.program
    used = {
        (r, s) for r, s in set(zip(program.rank.tolist(), program.stream.tolist(), strict=True))
    }
    for rank in ranks:
        stages = sorted({int(s) for s in program.stage[program.rank == rank] if s >= 0})
        label = (
            f"stage {', '.join(map(str, stages))}" if len(stages) < 4 else f"{len(stages)} stages"
        )
        for name, args in (
            ("process_name", {"name": f"rank {rank}"}),
            ("process_labels", {"labels": label}),
            ("process_sort_index", {"sort_index": rank}),
        ):
            yield {"ph": "M", "name": name, "pid": rank, "tid": 0, "ts": 0, "args": args}
        threads = {SCHEDULE_THREAD: "schedule", IDLE_THREAD: "compute idle"}
        threads |= {
            FIRST_STREAM + s: f"stream {name}"
            for s, name in enumerate(program.streams)
            if (rank, s) in used
        }
        for tid, name in threads.items():
            for what, args in (
                ("thread_name", {"name": name}),
                ("thread_sort_index", {"sort_index": tid}),
            ):
                yield {"ph": "M", "name": what, "pid": rank, "tid": tid, "ts": 0, "args": args}


def _spans(timeline: Timeline, trace: Trace, ranks: Sequence[int]) -> Iterator[Event]:
    program, priced = timeline.program, timeline.priced
    spans = trace.spans[trace.spans["rank"].isin(ranks)]
    streams = {name: FIRST_STREAM + i for i, name in enumerate(program.streams)}
    sms = np.where(program.kind == Kind.COMPUTE, priced.sm_want, priced.sms).tolist()
    stage = program.stage.tolist()
    peer = program.peer.tolist()
    for task, row in zip(spans.index.tolist(), spans.to_dict("records"), strict=True):
        transfer = row["kind"] == COMMUNICATION
        args: Event = {
            "stream": streams[row["stream"]],
            "device": row["rank"],
            "correlation": task,
            "External id": task,
            "phase": row["phase"],
            "part": row["part"],
        }
        known = {"layer": row["layer"], "microbatch": row["microbatch"], "stage": stage[task]}
        args |= {key: value for key, value in known.items() if value >= 0}
        held = {"sms": sms[task], "launch_ns": row["launch_ns"], "setup_ns": row["setup_ns"]}
        args |= {key: value for key, value in held.items() if value}
        if transfer and peer[task] >= 0:
            args["peer"] = peer[task]
        yield {
            "ph": "X",
            "cat": "kernel",
            "name": (COMM_PREFIX if transfer else "") + row["name"],
            "pid": row["rank"],
            "tid": streams[row["stream"]],
            "ts": _us(row["start_ns"]),
            "dur": _us(row["end_ns"] - row["start_ns"]),
            "args": args,
        }


def _schedule(timeline: Timeline, ranks: Sequence[int]) -> Iterator[Event]:
    """An annotation for each entry of the schedule's row of a rank."""
    bars = schedule_bars(timeline)
    wanted = set(ranks)
    columns = (bars.rank, bars.start_ns, bars.end_ns, bars.look, bars.forward, bars.backward)
    for rank, start, end, look, forward, backward in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        if rank not in wanted:
            continue
        code = LOOKS[look]
        which = [str(m) for m in (forward, backward) if m >= 0]
        yield {
            "ph": "X",
            "cat": "gpu_user_annotation",
            "name": f"{code} {'&'.join(which)}",
            "pid": rank,
            "tid": SCHEDULE_THREAD,
            "ts": _us(start),
            "dur": _us(end - start),
            "args": {"meaning": BLOCKS[code].label},
        }


def _idle(trace: Trace, ranks: Sequence[int]) -> Iterator[Event]:
    for row in trace.idle[trace.idle["rank"].isin(ranks)].to_dict("records"):
        yield {
            "ph": "X",
            "cat": "idle",
            "name": row["part"],
            "pid": row["rank"],
            "tid": IDLE_THREAD,
            "ts": _us(row["start_ns"]),
            "dur": _us(row["end_ns"] - row["start_ns"]),
            "args": {},
        }


def _flows(timeline: Timeline, ranks: Sequence[int], within_rank: bool) -> Iterator[Event]:
    """Arrows along dependencies between streams or ranks, from the producer's end."""
    program = timeline.program
    consumer = np.repeat(np.arange(program.n), np.diff(program.dep_ptr))
    producer = program.dep_idx
    took = timeline.end_ns > timeline.start_ns
    same_rank = program.rank[producer] == program.rank[consumer]
    elsewhere = program.stream[producer] != program.stream[consumer]
    elsewhere = same_rank & elsewhere if within_rank else ~same_rank | elsewhere
    shown = np.isin(program.rank[producer], ranks) & np.isin(program.rank[consumer], ranks)
    drawn = np.flatnonzero(elsewhere & shown & took[producer] & took[consumer])
    # Viewers bind an arrow to the span around its time: one nanosecond before the end.
    ends = (("s", producer[drawn], timeline.end_ns - 1), ("f", consumer[drawn], timeline.start_ns))
    for ph, tasks, at in ends:
        columns = (drawn, program.rank[tasks], program.stream[tasks] + FIRST_STREAM, at[tasks])
        for flow, rank, tid, ns in zip(*(c.tolist() for c in columns), strict=True):
            event = {"ph": ph, "id": flow, "cat": "dependency", "name": "dependency"}
            yield event | {"pid": rank, "tid": tid, "ts": _us(ns)} | _BIND[ph]


def _counters(result: Result, ranks: Sequence[int]) -> Iterator[Event]:
    for counter in counters(result.timeline, result.memory, ranks):
        stacked = np.stack([np.round(v, 4) for v in counter.values.values()])
        changed = np.append(True, (stacked[:, 1:] != stacked[:, :-1]).any(axis=0))
        for i in np.flatnonzero(changed[: len(counter.at_ns)]).tolist():
            yield {
                "ph": "C",
                "name": counter.name,
                "pid": counter.rank,
                "ts": _us(int(counter.at_ns[i])),
                "args": {
                    key: float(v) for key, v in zip(counter.values, stacked[:, i], strict=True)
                },
            }
