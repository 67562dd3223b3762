"""The engine's rules on cases worked by hand."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.engine import reference
from simdeep.errors import DeadlockError

from .programs import Task, priced, sync, transfer
from .strategies import programs


def spans(tasks, **hardware):
    timeline = reference.run(priced(tasks, **hardware))
    return list(zip(timeline.start_ns.tolist(), timeline.end_ns.tolist(), strict=True))


def test_a_stream_runs_in_order_and_dependencies_hold():
    tasks = [Task(sm=10), Task(sm=5), Task(rank=1, sm=7, deps=[0]), Task(rank=1, sm=1)]
    assert spans(tasks) == [(0, 10), (10, 15), (10, 17), (17, 18)]


def test_a_dependency_may_be_a_later_row_on_another_stream():
    assert spans([Task(sm=3, deps=[1]), Task(rank=1, sm=4)]) == [(4, 7), (0, 4)]


def test_group_members_start_together():
    tasks = [Task(sm=5), transfer(group=0, latency=2), transfer(rank=1, group=0, latency=4)]
    tasks[1].deps = [0]
    assert spans(tasks) == [(0, 5), (5, 7), (5, 9)]


def test_sync_takes_no_time_and_joins():
    tasks = [Task(sm=5), Task(rank=1, sm=9), sync(rank=2, deps=[0, 1]), Task(rank=2, sm=1)]
    assert spans(tasks) == [(0, 5), (0, 9), (9, 9), (9, 10)]


def test_two_transfers_share_a_port_equally():
    # 100 ns alone on port 0; the second comes at 50 and needs 30: both at half speed until the
    # second ends at 50 + 60 = 110, when the first has 100 - 50 - 30 = 20 left.
    tasks = [
        transfer(stream=1, ports={0: 100.0}),
        Task(rank=1, sm=50),
        transfer(rank=1, stream=1, ports={0: 30.0}, deps=[1]),
    ]
    assert spans(tasks) == [(0, 130), (0, 50), (50, 110)]


def test_a_transfer_limited_by_its_sms_gains_nothing_from_an_idle_port():
    assert spans([transfer(ports={0: 10.0}, floor=25.0, latency=5.0)]) == [(0, 30)]


def test_the_busiest_port_sets_the_pace():
    assert spans([transfer(ports={0: 10.0, 1: 40.0, 2: 20.0})]) == [(0, 40)]


def test_two_compute_tasks_share_sms_and_hbm():
    # Each wants all 112 SMs: half each, 20 ns of work takes 40 while both run.
    tasks = [Task(sm=20, want=112), Task(stream=1, sm=20, want=112)]
    assert spans(tasks) == [(0, 40), (0, 40)]
    # 56 SMs are enough for launches of 56; the memory-bound one gets half the HBM until 20.
    assert spans([Task(sm=20, want=56), Task(stream=1, mem=20, want=56)]) == [(0, 20), (0, 30)]


def test_dynamic_split_gives_compute_the_sms_no_transfer_holds():
    # 132 wanted. Beside the transfer 112 remain: 56 ns of its run cost 132/112 each.
    tasks = [Task(sm=132, want=132), transfer(stream=1, latency=66, sms=20)]
    assert spans(tasks, static=False) == [(0, 142), (0, 66)]
    assert spans(tasks, static=True) == [(0, round(132 * 132 / 112)), (0, 66)]


def test_a_transfer_drags_on_compute_only_while_it_runs():
    # 10% of FLOP-bound and 20% of memory-bound time: 100 ns alone take 115 beside the transfer.
    # It runs 46 ns = 40% of the work; 60 ns of work remain.
    tasks = [
        Task(sm=50, mem=50, sm_drag=0.1, mem_drag=0.2),
        transfer(stream=1, latency=46, draw=1000),
    ]
    assert spans(tasks) == [(0, 106), (0, 46)]


def test_empty_program():
    timeline = reference.run(priced([]))
    assert timeline.makespan_ns == 0


def test_deadlock_names_its_cycle():
    tasks = [Task(sm=1, deps=[3]), Task(sm=1), Task(rank=1, sm=1, deps=[1]), Task(rank=1, sm=1)]
    with pytest.raises(DeadlockError) as caught:
        spans(tasks)
    text = str(caught.value)
    assert "4 of 4 tasks never ran" in text
    assert "rank 0 compute: task 0 (F attn stage 0 layer 0 microbatch 0) waits for rank 1" in text
    assert "rank 1 compute: task 2 (F attn stage 0 layer 0 microbatch 0) waits for rank 0" in text


def test_deadlock_of_crossed_groups():
    tasks = [
        transfer(group=0, latency=1),
        transfer(group=1, latency=1),
        transfer(rank=1, group=1, latency=1),
        transfer(rank=1, group=0, latency=1),
    ]
    with pytest.raises(DeadlockError, match=r"rank 0 compute: task 0 .* waits for rank 1"):
        spans(tasks)


@settings(deadline=None)
@given(programs(), st.booleans())
def test_properties(tasks, static):
    p = priced(tasks, static=static)
    timeline = reference.run(p)
    start, end = timeline.start_ns, timeline.end_ns
    # No task runs faster than alone, and none with work is instantaneous.
    assert (end - start >= np.ceil(p.alone_ns - 1e-6)).all()
    for i, task in enumerate(tasks):
        assert all(end[d] <= start[i] for d in task.deps)
    for rank in range(3):
        for stream in range(3):
            rows = [i for i, t in enumerate(tasks) if (t.rank, t.stream) == (rank, stream)]
            assert all(end[a] <= start[b] for a, b in pairwise(rows))
    again = reference.run(p)
    assert (again.start_ns == start).all()
    assert (again.end_ns == end).all()
