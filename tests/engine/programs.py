"""Small priced programs for engine tests: a task a line, what is not named costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from simdeep.errors import DeadlockError
from simdeep.program.columns import Kind, Priced, Program


@dataclass
class Task:
    rank: int = 0
    stream: int = 0
    kind: Kind = Kind.COMPUTE
    deps: Sequence[int] = ()
    group: int = -1
    sm: float = 0.0
    mem: float = 0.0
    fixed: float = 0.0
    want: int = 0
    sm_drag: float = 0.0
    mem_drag: float = 0.0
    ports: dict[int, float] = field(default_factory=dict)
    floor: float = 0.0
    latency: float = 0.0
    sms: int = 0
    draw: int = 0


def transfer(**fields) -> Task:
    return Task(kind=Kind.TRANSFER, **fields)


def sync(**fields) -> Task:
    return Task(kind=Kind.SYNC, **fields)


def outcome(engine, program: Priced):
    """All spans of a run, or the text of its deadlock."""
    try:
        timeline = engine.run(program)
    except DeadlockError as error:
        return str(error)
    return timeline.start_ns.tolist(), timeline.end_ns.tolist()


def priced(
    tasks: Sequence[Task], *, sms: int = 132, comm_sms: int = 20, static: bool = True
) -> Priced:
    n = len(tasks)

    def column(name: str, dtype: type) -> np.ndarray:
        return np.array([getattr(t, name) for t in tasks], dtype)

    deps = [sorted(t.deps) for t in tasks]
    zeros = np.zeros(n, np.int32)
    program = Program(
        n_ranks=max((t.rank for t in tasks), default=0) + 1,
        streams=("compute", "comm", "p2p", "p2p_b", "dp"),
        components=("attn",),
        works=(),
        rank=column("rank", np.int32),
        stream=column("stream", np.int8),
        kind=column("kind", np.int8),
        action=zeros.astype(np.int8),
        component=zeros,
        stage=zeros,
        layer=zeros,
        microbatch=zeros,
        block=zeros,
        work=zeros,
        case=zeros,
        peer=zeros - 1,
        group=column("group", np.int32),
        dep_ptr=np.concatenate([[0], np.cumsum([len(d) for d in deps])]).astype(np.int64),
        dep_idx=np.array([x for d in deps for x in d], np.int64),
        mem_take=zeros.astype(np.int64),
        mem_free=zeros.astype(np.int64),
    )
    port = np.full((n, 4), -1, np.int32)
    port_ns = np.zeros((n, 4))
    for i, t in enumerate(tasks):
        for slot, (p, ns) in enumerate(t.ports.items()):
            port[i, slot], port_ns[i, slot] = p, ns
    return Priced(
        program=program,
        sm_ns=column("sm", float),
        mem_ns=column("mem", float),
        fixed_ns=column("fixed", float),
        sm_want=column("want", np.int32),
        sm_drag=column("sm_drag", float),
        mem_drag=column("mem_drag", float),
        port=port,
        port_ns=port_ns,
        floor_ns=column("floor", float),
        latency_ns=column("latency", float),
        sms=column("sms", np.int32),
        draw_milli=column("draw", np.int32),
        n_ports=int(port.max(initial=-1)) + 1,
        hardware_sms=sms,
        comm_sms=comm_sms,
        static_split=static,
    )
