"""The compiled engine on two threads: halves of a cluster that meet in groups only."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.engine import compiled, compiled_halves, reference
from simdeep.engine.compiled_tasks import arrange
from simdeep.program.columns import Kind

from .programs import Task, outcome, priced, sync, transfer


@pytest.fixture(autouse=True)
def always_cut(monkeypatch):
    monkeypatch.setattr(compiled_halves, "WORTHWHILE", 0)
    monkeypatch.setattr(compiled_halves, "_SMALLEST", 0.0)
    monkeypatch.setattr(compiled_halves, "_MOST_CROSSING", 1.0)


@st.composite
def two_clusters(draw, in_order):
    """Ranks 0 and 1, and 2 and 3, with dependencies and ports of their own; groups may cross.

    Groups met in the order of their numbers by every stream cannot deadlock.
    """
    tasks, ns = [], st.integers(0, 40).map(float)
    n = draw(st.integers(1, 40))
    for i in range(n):
        rank = draw(st.integers(0, 3))
        same = [j for j in range(i) if tasks[j].rank // 2 == rank // 2]
        common = {
            "rank": rank,
            "stream": draw(st.integers(0, 2)),
            "deps": draw(st.lists(st.sampled_from(same), max_size=2, unique=True)) if same else [],
        }
        kind = draw(st.sampled_from([Kind.COMPUTE, Kind.TRANSFER, Kind.TRANSFER, Kind.SYNC]))
        if kind == Kind.COMPUTE:
            tasks.append(Task(**common, sm=draw(ns), mem=draw(ns), sm_drag=0.1, want=132))
            continue
        if kind == Kind.SYNC:
            tasks.append(sync(**common))
        else:
            ports = draw(st.dictionaries(st.integers(0, 2), ns, max_size=3))
            ports = {port + 3 * (rank // 2): t for port, t in ports.items()}
            draws = {"sms": draw(st.integers(0, 20)), "draw": draw(st.sampled_from([0, 1000]))}
            tasks.append(transfer(**common, ports=ports, floor=draw(ns), **draws))
        used = {(t.rank, t.stream, t.group) for t in tasks}
        group = i // 8 if (rank, common["stream"], i // 8) not in used else -1
        tasks[-1].group = group if in_order and draw(st.booleans()) else -1
        if not in_order:
            tasks[-1].group = draw(st.integers(-1, 4))
    return tasks


def assert_same(program):
    assert outcome(compiled, program) == outcome(reference, program)


@settings(deadline=None, max_examples=150)
@given(two_clusters(in_order=True), st.booleans())
def test_same_timeline(tasks, static):
    assert_same(priced(tasks, static=static))


@settings(deadline=None, max_examples=50)
@given(two_clusters(in_order=False), st.booleans())
def test_same_timeline_or_deadlock(tasks, static):
    assert_same(priced(tasks, static=static))


def meeting(after):
    """Two ranks compute and transfer, then meet in a transfer; `after` is on their ports too."""
    return [
        Task(rank=0, sm=30),
        transfer(rank=0, stream=1, ports={0: 50.0}),
        transfer(rank=0, stream=2, ports={0: 10.0}, group=7, deps=[0]),
        Task(rank=1, sm=45),
        transfer(rank=1, stream=1, ports={1: 45.0}),
        transfer(rank=1, stream=2, ports={1: 10.0}, group=7, deps=[3]),
        *after,
    ]


@pytest.mark.parametrize("late", [1, 44, 45, 46])
def test_the_late_half_may_stop_before_at_and_behind_the_meeting(late):
    program = priced(meeting([Task(rank=0, sm=late, stream=3), Task(rank=1, stream=3, sm=late)]))
    second = compiled_halves.halves(arrange(program))
    assert second is not None
    assert second.tolist() == [False, True]
    assert_same(program)


def test_ranks_that_share_a_port_or_depend_on_each_other_stay_together():
    tasks = [transfer(rank=0, ports={0: 1.0}), transfer(rank=1, ports={0: 1.0})]
    assert compiled_halves.halves(arrange(priced(tasks))) is None
    assert compiled_halves.halves(arrange(priced([Task(), Task(rank=1, deps=[0])]))) is None


def test_small_programs_are_not_cut(monkeypatch):
    monkeypatch.undo()
    assert compiled_halves.halves(arrange(priced(meeting([])))) is None
