from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from simdeep.analysis.blame import find_blame
from simdeep.analysis.critical import WAIT, critical_path
from tests.analysis.strategies import timelines
from tests.analysis.tiny_programs import Tiny, pipeline, two_rank_pipeline


def names(path):
    return {str(part): ns for part, ns in path.ns.items()}


def test_path_of_a_pipeline():
    path = critical_path(two_rank_pipeline())
    assert names(path) == {
        "computing.F.mlp": 20,
        "computing.F.attn": 10,
        "exposed_comm.p2p": 3,
    }
    assert path.by_group() == {"computing": 30, "exposed_comm": 3}


def test_path_goes_through_the_last_member_of_a_group():
    tiny = Tiny(2)
    tiny.compute(0, "F", "attn", 5)
    slow = tiny.compute(1, "F", "mlp", 20)
    tiny.transfer(0, "comm", "dispatch", 7, group=3)
    tiny.transfer(1, "comm", "dispatch", 2, [slow], group=3)
    assert names(critical_path(tiny.timeline())) == {
        "computing.F.mlp": 20,
        "exposed_comm.dispatch": 7,
    }


def test_own_stream_wins_a_tie():
    tiny = Tiny(1)
    a = tiny.compute(0, "F", "attn", 5)
    tiny.compute(0, "F", "attn", 5)
    d = tiny.transfer(0, "comm", "dispatch", 5, [a])
    tiny.compute(0, "F", "mlp", 1, [d])
    assert names(critical_path(tiny.timeline())) == {
        "computing.F.attn": 10,
        "computing.F.mlp": 1,
    }


def test_time_before_the_first_task_is_wait():
    timeline = two_rank_pipeline()
    late = type(timeline)(timeline.priced, timeline.start_ns + 4, timeline.end_ns + 4, "x", 0.0)
    assert critical_path(late).ns[WAIT] == 4


def test_empty_program():
    path = critical_path(Tiny(1).timeline())
    assert path.ns == {}
    assert not len(path.rows)


def test_no_rank_is_longer_than_the_path():
    timeline = pipeline(4, 8).timeline()
    assert sum(critical_path(timeline).ns.values()) == timeline.makespan_ns


@settings(max_examples=150, deadline=None)
@given(timelines())
def test_causes_end_when_their_task_starts_and_the_path_fills_the_step(timeline):
    cause = find_blame(timeline).cause
    has = cause >= 0
    assert (timeline.end_ns[cause[has]] == timeline.start_ns[has]).all()
    assert not timeline.start_ns[~has].any()
    path = critical_path(timeline)
    assert sum(path.ns.values()) == timeline.makespan_ns
    assert WAIT not in path.ns
    assert (np.diff(timeline.start_ns[path.rows]) >= 0).all()
