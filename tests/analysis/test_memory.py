from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from simdeep.analysis.memory import GIB, Chunk, memory
from tests.analysis.strategies import timelines
from tests.analysis.tiny_programs import Tiny, pipeline


def test_hand_worked_rank():
    tiny = Tiny(2)
    tiny.compute(0, "F", "attn", 10, take=5, stage=0, microbatch=0)
    tiny.compute(0, "F", "attn", 10, take=7, stage=0, microbatch=1)
    tiny.compute(0, "W", "attn", 10, free=5, stage=0, microbatch=0)
    tiny.compute(0, "F", "attn", 10, take=6, stage=0, microbatch=2)
    tiny.compute(0, "W", "attn", 10, free=13, stage=0, microbatch=2)
    found = memory(tiny.timeline(), {"parameters": [100, 40], "buffers": 3}, capacity_gib=1.0)
    at, total = found.timeline(0)
    assert at.tolist() == [0, 10, 30, 50]  # the free at 30 comes before the take at 30
    assert total.tolist() == [108, 115, 116, 103]
    assert found.peak.tolist() == [116, 43]
    assert found.peak_at_ns.tolist() == [30, 0]
    assert found.chunks[0] == (Chunk(0, 1, 7), Chunk(0, 2, 6))
    assert found.chunks[1] == ()
    assert {k: v.tolist() for k, v in found.breakdown.items()} == {
        "parameters": [100, 40],
        "buffers": [3, 3],
        "activations": [13, 0],
    }


def test_fits_or_says_which_ranks_do_not():
    timeline = Tiny(3).timeline()
    found = memory(timeline, {"parameters": np.array([70, 81, 80]) * GIB}, capacity_gib=80.0)
    assert not found.fits
    assert found.over_capacity().tolist() == [1]
    assert found.peak_gib == 81.0
    assert memory(timeline, {"parameters": 80 * GIB}, capacity_gib=80.0).fits
    assert memory(timeline, {}, capacity_gib=80.0).peak_gib == 0.0


def test_pipeline_ranks_hold_as_many_chunks_as_they_are_stages_from_the_end():
    found = memory(pipeline(4, 8).timeline(), {}, capacity_gib=80.0)
    # The overlapped block starts its forward before its backward has freed anything: one more.
    assert [len(chunks) for chunks in found.chunks] == [5, 4, 3, 2]


@settings(max_examples=100, deadline=None)
@given(timelines())
def test_peak_equals_a_replay_of_the_events(timeline):
    found = memory(timeline, {}, capacity_gib=1.0)
    program = timeline.program
    for rank in range(3):
        events = []
        for i in np.flatnonzero(program.rank == rank):
            events.append((timeline.end_ns[i], 0, -int(program.mem_free[i])))
            events.append((timeline.start_ns[i], 1, int(program.mem_take[i])))
        live = peak = 0
        for _, _, delta in sorted(events):
            live += delta
            peak = max(peak, live)
        assert found.peak_live[rank] == peak
        assert sum(c.bytes for c in found.chunks[rank]) == peak
        _, steps = found.timeline(rank)
        assert max([0, *steps.tolist()]) == peak
        assert (steps.tolist() or [0])[-1] == live
