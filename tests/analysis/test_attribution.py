from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from simdeep.analysis.attribution import attribute, idle_pieces
from simdeep.analysis.blame import GROUPS, find_blame, part_codes
from simdeep.program.columns import Kind
from tests.analysis.strategies import timelines
from tests.analysis.tiny_programs import Tiny, pipeline, two_rank_pipeline


def parts(timeline):
    found = attribute(timeline)
    return {str(p): row.tolist() for p, row in zip(found.parts, found.ns, strict=True)}


def nonzero(timeline, rank=0):
    return {name: row[rank] for name, row in parts(timeline).items() if row[rank]}


def test_send_is_exposed_and_the_wait_for_the_first_stage_is_bubble():
    timeline = two_rank_pipeline()
    assert timeline.makespan_ns == 33
    assert nonzero(timeline, 0) == {"computing.F.attn": 20, "bubble": 13}
    assert nonzero(timeline, 1) == {"computing.F.mlp": 20, "exposed_comm.p2p": 3, "bubble": 10}


def test_span_and_bubble_inside_it():
    tiny = Tiny(2)
    a = tiny.compute(0, "F", "attn", 10)
    b = tiny.compute(0, "F", "attn", 30)
    tiny.compute(1, "F", "attn", 5, [a])
    tiny.compute(1, "F", "attn", 5, [b])
    found = attribute(tiny.timeline())
    assert found.bubble_ns.tolist() == [5, 35]
    assert found.bubble_in_span_ns.tolist() == [0, 25]
    assert found.span_ns.tolist() == [40, 35]


def test_only_the_part_of_a_transfer_not_beside_compute_is_exposed():
    tiny = Tiny(1)
    a = tiny.compute(0, "F", "attn", 10)
    d = tiny.transfer(0, "comm", "dispatch", 20, [a])
    tiny.compute(0, "W", "mlp", 5)
    tiny.compute(0, "F", "mlp", 7, [d])
    assert nonzero(tiny.timeline()) == {
        "computing.F.attn": 10,
        "computing.F.mlp": 7,
        "computing.W.mlp": 5,
        "exposed_comm.dispatch": 15,
    }


def test_a_transfer_queued_behind_another_blames_both():
    tiny = Tiny(1)
    a = tiny.compute(0, "F", "attn", 10)
    tiny.transfer(0, "comm", "dispatch", 8, [a])
    c = tiny.transfer(0, "comm", "combine", 4, [a])
    tiny.compute(0, "I", "mlp", 1, [c])
    assert nonzero(tiny.timeline()) == {
        "computing.F.attn": 10,
        "computing.I.mlp": 1,
        "exposed_comm.combine": 4,
        "exposed_comm.dispatch": 8,
    }


def test_chain_of_transfers_ends_at_another_ranks_compute():
    tiny = Tiny(2)
    far = tiny.compute(0, "F", "mlp", 50)
    c = tiny.transfer(0, "comm", "combine", 6, [far])
    s = tiny.transfer(0, "p2p", "p2p", 3, [c], "P2P")
    join = tiny.sync(1, "p2p", deps=[s])
    tiny.compute(1, "F", "attn", 20)
    tiny.compute(1, "F", "attn", 1, [tiny.sync(1, "comm", deps=[join])])
    assert nonzero(tiny.timeline(), 1) == {
        "computing.F.attn": 21,
        "exposed_comm.combine": 6,
        "exposed_comm.p2p": 3,
        "bubble": 30,
    }


def test_tensor_context_and_sharding_traffic_have_their_own_names():
    tiny = Tiny(1)
    for part in ("tp_gather", "tp_scatter", "cp_ring", "fsdp_gather"):
        t = tiny.transfer(0, "comm", part, 5)
        tiny.compute(0, "F", "attn", 1, [t])
    # The second and later transfers start at once and hide one nanosecond behind compute.
    assert nonzero(tiny.timeline()) == {
        "computing.F.attn": 4,
        "exposed_comm.tp": 9,
        "exposed_comm.cp": 4,
        "exposed_comm.fsdp": 4,
    }


def test_transfer_on_the_compute_stream_is_exposed():
    tiny = Tiny(1)
    tiny.compute(0, "F", "attn", 5)
    tiny.transfer(0, "compute", "tp_gather", 3)
    assert nonzero(tiny.timeline()) == {"computing.F.attn": 5, "exposed_comm.tp": 3}


def test_waiting_for_a_slow_peer_of_the_same_stage_is_communication():
    def run(stage_of_peer):
        tiny = Tiny(2)
        for rank, ns, stage in ((0, 10, 0), (1, 25, stage_of_peer)):
            a = tiny.compute(rank, "F", "attn", ns, stage=stage)
            d = tiny.transfer(rank, "comm", "dispatch", 4, [a], group=0, stage=stage)
            tiny.compute(rank, "F", "mlp", 1, [d], stage=stage)
        return nonzero(tiny.timeline(), 0)

    own = {"computing.F.attn": 10, "computing.F.mlp": 1}
    assert run(0) == {**own, "exposed_comm.dispatch": 19}
    assert run(1) == {**own, "exposed_comm.dispatch": 4, "bubble": 15}


def test_optimizer_and_gradient_traffic_are_data_parallel():
    tiny = Tiny(2)
    for rank, ns in ((0, 10), (1, 30)):
        b = tiny.compute(rank, "W", "mlp", ns)
        g = tiny.transfer(rank, "dp", "grad_sync", 5, [b], "GRAD_SYNC")
        o = tiny.compute(rank, "OPTIMIZER", "optimizer", 4, [g], fixed=1.0)
        tiny.transfer(rank, "dp", "param_sync", 6, [o], "PARAM_SYNC")
    timeline = tiny.timeline()
    shared = {
        "data_parallel.grad_sync": 5,
        "data_parallel.optimizer": 3,
        "data_parallel.param_sync": 6,
        "launch_gap": 1,
    }
    assert nonzero(timeline, 0) == {"computing.W.mlp": 10, **shared, "bubble": 20}
    assert nonzero(timeline, 1) == {"computing.W.mlp": 30, **shared}


def test_a_late_rank_in_the_gradient_rendezvous_is_bubble():
    tiny = Tiny(2)
    for rank, ns in ((0, 10), (1, 30)):
        b = tiny.compute(rank, "W", "mlp", ns, stage=0)
        g = tiny.transfer(rank, "dp", "grad_sync", 5, [b], "GRAD_SYNC", group=0, stage=0)
        tiny.compute(rank, "OPTIMIZER", "optimizer", 4, [g])
    found = nonzero(tiny.timeline(), 0)
    assert found["bubble"] == 20
    assert found["data_parallel.grad_sync"] == 5


def test_overlapping_data_parallel_tails_count_once():
    tiny = Tiny(1)
    b = tiny.compute(0, "W", "mlp", 10)
    tiny.transfer(0, "dp", "grad_sync", 6, [b], "GRAD_SYNC")
    tiny.transfer(0, "comm", "param_sync", 8, [b], "PARAM_SYNC")
    found = nonzero(tiny.timeline())
    assert found == {
        "computing.W.mlp": 10,
        "data_parallel.grad_sync": 6,
        "data_parallel.param_sync": 2,
    }


def test_launch_gaps_leave_the_computing_part():
    tiny = Tiny(1)
    tiny.compute(0, "F", "attn", 10, fixed=2.6)
    tiny.compute(0, "F", "attn", 1, fixed=9.0)
    assert nonzero(tiny.timeline()) == {"computing.F.attn": 7, "launch_gap": 4}


def test_rank_without_compute_is_all_bubble():
    tiny = Tiny(2)
    tiny.compute(0, "F", "attn", 10)
    assert nonzero(tiny.timeline(), 1) == {"bubble": 10}


def test_empty_program():
    found = attribute(Tiny(2).timeline())
    assert found.makespan_ns == 0
    assert not found.ns.any()


def test_parts_come_in_report_order():
    found = attribute(pipeline(4, 8).timeline())
    order = [GROUPS.index(p.group) for p in found.parts]
    assert order == sorted(order)
    computing = [p.detail[0] for p in found.parts if p.group == "computing"]
    assert computing == sorted(computing, key="FIW".index)
    assert list(found.seconds_by_rank()) == [str(p) for p in found.parts]


@settings(max_examples=150, deadline=None)
@given(timelines())
def test_parts_sum_to_the_makespan_on_every_rank(timeline):
    found = attribute(timeline)
    assert found.ns.dtype == np.int64
    assert (found.ns >= 0).all()
    assert (found.ns.sum(axis=0) == timeline.makespan_ns).all()
    assert (found.bubble_in_span_ns <= found.bubble_ns).all()


@settings(max_examples=150, deadline=None)
@given(timelines())
def test_every_idle_nanosecond_gets_what_a_plain_walk_gives_it(timeline):
    """The vectorised walk against one that asks about each nanosecond on its own."""
    found = parts(timeline)
    for rank in range(3):
        wanted = _exposed_by_walking(timeline, rank)
        got = {n: row[rank] for n, row in found.items() if n.startswith("exposed_comm")}
        assert {n: v for n, v in got.items() if v} == wanted


def _exposed_by_walking(timeline, rank):
    program, blame, codes = timeline.program, find_blame(timeline), part_codes(timeline.program)
    names = [str(codes.parts[c]) for c in codes.code]
    on = [
        i
        for i in range(program.n)
        if program.rank[i] == rank and program.stream[i] == 0 and program.kind[i] != Kind.SYNC
    ]
    total: dict[str, int] = {}
    free = 0
    for task in on:
        for moment in range(free, int(timeline.start_ns[task])):
            at, waits = task, "bubble"
            while True:
                if names[at] == "exposed_comm.p2p":
                    waits = "bubble"
                elif (
                    blame.peer_wait[at]
                    and program.kind[at] != Kind.COMPUTE
                    and names[at].startswith("exposed_comm")
                ):
                    waits = names[at]
                at = int(blame.cause[at])
                other = at >= 0 and (program.rank[at] != rank or program.stream[at] == 0)
                if at < 0 or (program.kind[at] == Kind.COMPUTE and other):
                    name = waits
                    break
                if moment >= timeline.end_ns[at]:
                    name = waits
                    break
                if moment >= timeline.start_ns[at]:
                    name = names[at]
                    break
            if name.startswith("exposed_comm"):
                total[name] = total.get(name, 0) + 1
        if program.kind[task] == Kind.TRANSFER and names[task].startswith("exposed_comm"):
            ns = int(timeline.end_ns[task] - timeline.start_ns[task])
            if ns:
                total[names[task]] = total.get(names[task], 0) + ns
        free = int(timeline.end_ns[task])
    return total


@given(timelines())
@settings(deadline=None, max_examples=60)
def test_idle_pieces_tile_the_gaps_and_add_up_to_the_attribution(timeline):
    pieces, found = idle_pieces(timeline), attribute(timeline)
    program = timeline.program
    codes = part_codes(program)
    compute = program.streams.index("compute")
    sums: dict = {}
    for rank in range(program.n_ranks):
        mine = pieces.rank == rank
        covered = list(zip(pieces.start_ns[mine], pieces.end_ns[mine], strict=True))
        for code, (low, high) in zip(pieces.code[mine], covered, strict=True):
            key = str(pieces.parts[code]), rank
            sums[key] = sums.get(key, 0) + high - low
        own = (program.rank == rank) & (program.stream == compute) & (program.kind != Kind.SYNC)
        for row in np.flatnonzero(own & (program.kind == Kind.TRANSFER)):
            key = str(codes.parts[codes.code[row]]), rank
            sums[key] = sums.get(key, 0) + timeline.end_ns[row] - timeline.start_ns[row]
        covered += zip(timeline.start_ns[own], timeline.end_ns[own], strict=True)
        covered = sorted(piece for piece in covered if piece[1] > piece[0])
        reached = 0
        for low, high in covered:
            assert low == reached
            reached = high
        assert reached == timeline.makespan_ns
    for part, row in zip(found.parts, found.ns, strict=True):
        if part.group in ("bubble", "exposed_comm"):
            assert [sums.get((str(part), r), 0) for r in range(len(row))] == row.tolist()
