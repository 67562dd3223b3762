"""Programs small enough to work out by hand, and a plain scheduler that runs them.

Durations are given, nothing is shared: a task starts when its stream is free, its dependencies have
ended and all members of its group are ready.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from simdeep.engine.timeline import Timeline
from simdeep.program.columns import Action, Kind, Priced, Program

STREAMS = ("compute", "comm", "p2p", "p2p_b", "dp")
COMPONENTS = (
    *("attn", "mlp", "embed", "head", "mtp_in", "dispatch", "combine", "p2p", "tp_gather"),
    *("tp_scatter", "cp_ring", "fsdp_gather", "grad_sync", "optimizer", "param_sync"),
)


@dataclass
class Tiny:
    """Collects tasks; `timeline()` schedules them."""

    n_ranks: int
    rows: list[dict] = field(default_factory=list)

    def task(self, rank, stream, kind, action, component, ns, deps=(), **more) -> int:
        row = {
            "rank": rank,
            "stream": STREAMS.index(stream),
            "kind": kind,
            "action": action,
            "component": COMPONENTS.index(component),
            "ns": ns,
            "deps": tuple(deps),
            **more,
        }
        self.rows.append(row)
        return len(self.rows) - 1

    def compute(self, rank, action, component, ns, deps=(), **more) -> int:
        more.setdefault("sm_want", 112)
        return self.task(rank, "compute", Kind.COMPUTE, Action[action], component, ns, deps, **more)

    def transfer(self, rank, stream, component, ns, deps=(), action="F", **more) -> int:
        more.setdefault("sms", 20 if stream == "comm" else 0)
        return self.task(rank, stream, Kind.TRANSFER, Action[action], component, ns, deps, **more)

    def sync(self, rank, stream, component="p2p", deps=(), action="F", **more) -> int:
        return self.task(rank, stream, Kind.SYNC, Action[action], component, 0, deps, **more)

    def program(self) -> Program:
        def column(name, default, dtype):
            return np.array([row.get(name, default) for row in self.rows], dtype)

        deps = [row["deps"] for row in self.rows]
        return Program(
            n_ranks=self.n_ranks,
            streams=STREAMS,
            components=COMPONENTS,
            works=(),
            rank=column("rank", 0, np.int32),
            stream=column("stream", 0, np.int8),
            kind=column("kind", 0, np.int8),
            action=column("action", 0, np.int8),
            **{
                name: column(name, default, np.int32)
                for name, default in {
                    "component": 0,
                    "stage": -1,
                    "layer": -1,
                    "microbatch": -1,
                    "block": -1,
                    "work": -1,
                    "case": 0,
                    "peer": -1,
                    "group": -1,
                }.items()
            },
            dep_ptr=np.cumsum([0, *map(len, deps)]),
            dep_idx=np.array([d for ds in deps for d in ds], np.int64),
            mem_take=column("take", 0, np.int64),
            mem_free=column("free", 0, np.int64),
        )

    def timeline(self) -> Timeline:
        program = self.program()
        n = program.n
        zeros = np.zeros(n)

        def column(name, dtype):
            return np.array([row.get(name, 0) for row in self.rows], dtype)

        priced = Priced(
            program=program,
            sm_ns=zeros,
            mem_ns=zeros,
            fixed_ns=column("fixed", np.float64),
            sm_want=column("sm_want", np.int32),
            sm_drag=zeros,
            mem_drag=zeros,
            port=np.full((n, 4), -1, np.int32),
            port_ns=np.zeros((n, 4)),
            floor_ns=zeros,
            latency_ns=zeros,
            sms=column("sms", np.int32),
            draw_milli=np.zeros(n, np.int32),
            n_ports=0,
            hardware_sms=132,
            comm_sms=20,
            static_split=True,
        )
        start, end = self._schedule()
        return Timeline(priced, start, end, "tiny", 0.0)

    def _schedule(self):
        start, end = np.full((2, len(self.rows)), -1, np.int64)
        queues: dict = {}
        for i, row in enumerate(self.rows):
            queues.setdefault((row["rank"], row["stream"]), []).append(i)
        free, heads = dict.fromkeys(queues, 0), dict.fromkeys(queues, 0)
        sizes: dict = {}
        for row in self.rows:
            group = row.get("group", -1)
            sizes[group] = sizes.get(group, 0) + 1
        ready: dict = {}
        moved = True
        while moved:
            moved = False
            for key, queue in queues.items():
                while heads[key] < len(queue):
                    i = queue[heads[key]]
                    row = self.rows[i]
                    if any(end[d] < 0 for d in row["deps"]):
                        break
                    at = max([free[key], *(end[d] for d in row["deps"])])
                    group = row.get("group", -1)
                    if group >= 0:
                        met = ready.setdefault(group, {})
                        if i not in met:
                            met[i], moved = at, True
                        if len(met) < sizes[group]:
                            break
                        at = max(met.values())
                    start[i], end[i] = at, at + row["ns"]
                    free[key] = end[i]
                    heads[key] += 1
                    moved = True
        assert (end >= 0).all(), "the test's program cannot finish"
        return start, end


def two_rank_pipeline() -> Timeline:
    """Two micro-batches through two stages: 10 ns a forward, 3 ns a send; makespan 33."""
    tiny = Tiny(2)
    sends = []
    for mb in range(2):
        f = tiny.compute(0, "F", "attn", 10, stage=0, microbatch=mb, block=mb)
        sends.append(tiny.transfer(0, "p2p", "p2p", 3, [f], "P2P", peer=1))
    for mb in range(2):
        got = tiny.sync(1, "p2p", deps=[sends[mb]])
        tiny.compute(1, "F", "mlp", 10, [got], stage=1, microbatch=mb, block=mb)
    return tiny.timeline()


def pipeline(ranks: int, microbatches: int, layers: int = 1, forward: int = 10_000_000) -> Tiny:
    """1F1B with dispatch and combine around every MLP, block by block, then an optimizer step.

    The middle blocks are overlapped: a forward and a backward on two streams each, ordered as in
    DeepSeek's profile. Rough figures; only the shape matters.
    """
    tiny = Tiny(ranks)
    sent: dict = {}
    unit = forward // (4 * layers)
    jobs: list[list[tuple[str, int, int]]] = []
    for r in range(ranks):
        warm = min(ranks - r, microbatches)
        row = [("F", m, -1) for m in range(warm)]
        row += [("FB", m, m - warm) for m in range(warm, microbatches)]
        row += [("B", -1, m) for m in range(microbatches - warm, microbatches)]
        jobs.append(row)
    # A dependency must be written before it is named, so blocks come in an order that can run.
    done = [0] * ranks
    while any(done[r] < len(jobs[r]) for r in range(ranks)):
        for r in range(ranks):
            while done[r] < len(jobs[r]):
                _, f, b = jobs[r][done[r]]
                if f >= 0 and r > 0 and ("F", r - 1, f) not in sent:
                    break
                if b >= 0 and r < ranks - 1 and ("B", r + 1, b) not in sent:
                    break
                _write_block(tiny, sent, ranks, r, f, b, done[r], layers, unit)
                done[r] += 1
    for r in range(ranks):
        last = tiny.transfer(r, "dp", "grad_sync", 2 * unit, [_last(tiny, r)], "GRAD_SYNC")
        step = tiny.compute(r, "OPTIMIZER", "optimizer", unit, [last])
        tiny.transfer(r, "dp", "param_sync", unit, [step], "PARAM_SYNC")
    return tiny


def _last(tiny: Tiny, rank: int) -> int:
    return max(i for i, row in enumerate(tiny.rows) if row["rank"] == rank and row["stream"] == 0)


def _write_block(tiny, sent, ranks, r, f, b, block, layers, unit) -> None:
    f_in = [sent["F", r - 1, f]] if f >= 0 and r > 0 else []
    b_in = [sent["B", r + 1, b]] if b >= 0 and r < ranks - 1 else []
    size = 1 << 20
    for layer in range(layers):
        fw = {"stage": r, "microbatch": f, "block": block, "layer": layer}
        bw = {"stage": r, "microbatch": b, "block": block, "layer": layers - 1 - layer}

        def compute(action, part, ns, deps, where, **more):
            return tiny.compute(r, action, part, ns, deps, fixed=ns * 0.03, **where, **more)

        def comm(action, part, ns, deps, where):
            return tiny.transfer(r, "comm", part, ns, deps, action, **where)

        if f >= 0:
            attn = compute("F", "attn", unit, f_in, fw, take=size)
        if b >= 0:
            cb = comm("I", "combine", unit // 2, b_in, bw)
        if f >= 0:
            df = comm("F", "dispatch", unit // 2, [attn], fw)
        if b >= 0:
            mi = compute("I", "mlp", unit, [cb], bw)
            compute("W", "mlp", unit // 2, [], bw)
            db = comm("I", "dispatch", unit, [mi], bw)
        if f >= 0:
            mf = compute("F", "mlp", unit, [df], fw, take=2 * size)
            cf = comm("F", "combine", unit, [mf], fw)
            f_in = [cf]
        if b >= 0:
            ai = compute("I", "attn", 3 * unit // 2, [db], bw)
            compute("W", "attn", unit // 2, [], bw, free=3 * size)
            b_in = [ai]
    if f >= 0 and r < ranks - 1:
        send = tiny.transfer(r, "p2p", "p2p", unit // 4, f_in, "P2P", peer=r + 1, microbatch=f)
        sent["F", r, f] = send
    elif f >= 0:
        sent["F", r, f] = f_in[0]
    if b >= 0:
        back = tiny.transfer(r, "p2p_b", "p2p", unit // 4, b_in, "P2P", peer=r - 1, microbatch=b)
        sent["B", r, b] = back
