from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from simdeep.analysis.attribution import attribute
from simdeep.analysis.bubble import Extremes, bubble_measures
from simdeep.analysis.overlap import exposed_comm_s, overlap
from simdeep.program.columns import Kind
from tests.analysis.strategies import timelines
from tests.analysis.tiny_programs import Tiny, two_rank_pipeline


def test_measures_of_a_pipeline():
    found = bubble_measures(attribute(two_rank_pipeline()), closed_form_s=1e-8)
    assert found.makespan_s == pytest.approx(33e-9)
    assert found.bubble_s.max == pytest.approx(13e-9)
    assert found.bubble_s.min == pytest.approx(10e-9)
    assert found.bubble_s.mean == pytest.approx(11.5e-9)
    assert found.bubble_in_span_s == Extremes(0.0, 0.0, 0.0)
    assert found.longest_rank_span_s == pytest.approx(20e-9)
    assert found.bubble_over_makespan == pytest.approx(11.5 / 33)
    assert found.bubble_over_ideal == pytest.approx(11.5 / 21.5)
    assert found.closed_form_s == 1e-8


def test_measures_of_nothing_are_zero():
    found = bubble_measures(attribute(Tiny(1).timeline()))
    assert found.bubble_over_makespan == 0.0
    assert found.bubble_over_ideal == 0.0
    assert Extremes.of(np.zeros(0)) == Extremes(0.0, 0.0, 0.0)


def test_1f1b_bubble_equals_the_closed_form():
    """PP 4, 8 micro-batches, equal stages, free transfers: (PP - 1)(F + B), Narayanan et al."""
    pp, m, f, b = 4, 8, 7, 13
    tiny = Tiny(pp)
    rows = []
    for r in range(pp):
        warm = pp - 1 - r
        row = [("F", i) for i in range(warm)]
        for i in range(m - warm):
            row += [("F", warm + i), ("I", i)]
        rows.append(row + [("I", i) for i in range(m - warm, m)])
    done: dict = {}
    at = [0] * pp
    while any(at[r] < len(rows[r]) for r in range(pp)):
        for r in range(pp):
            while at[r] < len(rows[r]):
                act, i = rows[r][at[r]]
                other = r - 1 if act == "F" else r + 1
                if 0 <= other < pp and (act, other, i) not in done:
                    break
                deps = [done[act, other, i]] if 0 <= other < pp else []
                done[act, r, i] = tiny.compute(r, act, "mlp", f if act == "F" else b, deps)
                at[r] += 1
    found = attribute(tiny.timeline())
    assert found.bubble_ns.tolist() == [(pp - 1) * (f + b)] * pp


def test_overlap_by_kind():
    tiny = Tiny(2)
    a = tiny.compute(0, "F", "attn", 10)
    tiny.transfer(0, "comm", "dispatch", 20, [a])
    tiny.compute(0, "W", "mlp", 5)
    tiny.transfer(0, "p2p", "p2p", 4, [])
    tiny.transfer(1, "comm", "dispatch", 6)  # a rank that computes nothing hides nothing
    found = overlap(tiny.timeline())
    assert found.by_kind() == {"dispatch": 5 / 26, "p2p": 1.0}
    assert found.comm_overlap == pytest.approx(9 / 30)
    assert exposed_comm_s(attribute(tiny.timeline())) == Extremes(0.0, 0.0, 0.0)


def test_no_transfers_means_nothing_is_exposed():
    tiny = Tiny(1)
    tiny.compute(0, "F", "attn", 10)
    assert overlap(tiny.timeline()).comm_overlap == 1.0


@settings(max_examples=100, deadline=None)
@given(timelines())
def test_overlap_counts_each_shared_nanosecond(timeline):
    program = timeline.program
    hidden = total = 0
    for i in np.flatnonzero(program.kind == Kind.TRANSFER):
        total += int(timeline.end_ns[i] - timeline.start_ns[i])
        for j in range(program.n):
            same = program.rank[j] == program.rank[i] and program.stream[j] == 0
            if same and program.kind[j] == Kind.COMPUTE:
                low = max(timeline.start_ns[i], timeline.start_ns[j])
                hidden += max(0, int(min(timeline.end_ns[i], timeline.end_ns[j]) - low))
    found = overlap(timeline)
    assert int(found.transfer_ns.sum()) == total
    assert int(found.hidden_ns.sum()) == hidden
