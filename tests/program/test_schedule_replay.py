"""Replays against published bubble rates, hand-worked cases and what must hold of any run."""

import csv
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simdeep
from simdeep.errors import DeadlockError, InputError
from simdeep.program.schedule import Act, Costs, Overlap, Table, build_table, replay

SIZE = ("pp", "microbatches", "vpp")
RATES = Path(simdeep.__file__).parent / "data" / "published" / "zero_bubble_rates.csv"
with RATES.open() as file:
    PUBLISHED = [row for row in csv.DictReader(file) if row["schedule"] not in ("zb-1p", "zb-2p")]
TOLERANCE = {"interleaved-1f1b": 0.005}  # the paper leaves its stages a rank open
EXACT = 6e-5  # half of the last digit printed, and what the profiled times are rounded to


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["case"])
def test_bubble_rates_of_the_zero_bubble_paper(row):
    name, pp, microbatches, vpp = row["schedule"], *(int(row[k]) for k in SIZE)
    f, i, w, p2p = (float(row[k]) for k in ("f_ms", "i_ms", "w_ms", "p2p_ms"))
    costs = Costs(f / vpp, i / vpp, w / vpp, p2p=p2p)
    spans = replay(build_table(name, pp, microbatches, vpp), costs)
    cost = spans.longest_rank_span if name == "zb-h2" else spans.makespan
    rate = 1 - microbatches * (f + i + w) / cost
    assert rate == pytest.approx(float(row["bubble_rate"]), abs=TOLERANCE.get(name, EXACT))


def test_large_tables_replay_compiled_as_small_ones_in_python(monkeypatch):
    module = sys.modules["simdeep.program.schedule.replay"]
    for name, vpp in (("dualpipe", 1), ("zb-v", 2), ("interleaved-1f1b-overlap", 3)):
        table = build_table(name, 4, 12, vpp)
        plain = replay(table, Costs(1.1, 1.3, 0.7, 2.9, 0.05))
        monkeypatch.setattr(module, "_COMPILE_ABOVE", 0)
        compiled = replay(table, Costs(1.1, 1.3, 0.7, 2.9, 0.05))
        monkeypatch.undo()
        for a, b in zip(plain.end, compiled.end, strict=True):
            assert (a == b).all()


def test_two_ranks_by_hand():
    spans = replay(build_table("1f1b", 2, 2), Costs(f=[1, 2], i=[1, 3], w=[1, 0], p2p=0.5))
    # rank 0: F0 0-1, F1 1-2, B0 after rank 1's B0, B1; rank 1: F0 1.5-3.5, B0 -6.5, F1, B1.
    assert list(spans.start[0]) == [0, 1, 7.0, 12.0]
    assert list(spans.start[1]) == [1.5, 3.5, 6.5, 8.5]
    assert spans.makespan == 14.0
    assert list(spans.busy) == [6, 10]
    assert list(spans.idle) == [8, 4]
    assert list(spans.rank_span) == [14, 10]
    assert spans.longest_rank_span == 14
    assert spans.bubble_over_makespan == pytest.approx(6 / 14)
    assert spans.bubble_over_ideal == pytest.approx(6 / 8)


def test_a_block_takes_the_cost_of_its_stages():
    table = build_table("dualpipe", 4, 8)
    pair = [[10 * f + b for b in range(4)] for f in range(4)]
    spans = replay(table, Costs(fb=pair))
    for rank, row in enumerate(table.rows):
        for cell, start, end in zip(row, spans.start[rank], spans.end[rank], strict=True):
            if isinstance(cell, Overlap):
                assert end - start == pair[cell.f.stage][cell.b.stage]


def test_no_transfer_between_stages_of_one_rank():
    rows = ((Act("F", 0, 0), Act("F", 1, 0), Act("B", 1, 0), Act("B", 0, 0)),)
    assert replay(Table("one", rows, 2, 1, ((0, 0),)), Costs(p2p=100)).makespan == 6


costs = st.builds(
    Costs, *[st.floats(0, 5)] * 3, fb=st.none() | st.floats(0, 9), p2p=st.floats(0, 3)
)


@given(costs, st.sampled_from(["1f1b", "zb1p", "dualpipe"]), st.integers(1, 4), st.integers(0, 6))
def test_what_must_hold_of_any_run(c, name, half, more):
    pp, microbatches = 2 * half, 4 * half + 2 * more
    table = build_table(name, pp, microbatches)
    spans = replay(table, c)
    chain = pp * (c.f + c.i) + 2 * (pp - 1) * c.p2p
    if c.fb is None:
        assert spans.makespan >= chain * (1 - 1e-9)
    assert spans.makespan >= spans.busy.max() * (1 - 1e-9)
    for start, end in zip(spans.start, spans.end, strict=True):
        assert (end >= start).all()
        assert (start[1:] >= end[:-1]).all()
    again = replay(table, c)
    assert all((a == b).all() for a, b in zip(spans.start, again.start, strict=True))


def test_stuck_rows_say_who_waits_for_whom():
    rows = (
        (Act("F", 0, 0), Act("B", 0, 0), Act("F", 0, 1), Act("B", 0, 1)),
        (Act("F", 1, 0), Act("F", 1, 1), Act("B", 1, 0), Act("B", 1, 1)),
    )
    with pytest.raises(DeadlockError) as caught:
        replay(Table("circle", rows, 2, 2, ((0, 1),)))
    assert str(caught.value).splitlines() == [
        "rank 0 stands at 0B0 and waits for 1I0 on rank 1",
        "rank 1 stands at 1F1 and waits for 0F1 on rank 0",
    ]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Costs(f=[1, 2, 3]), "f: 3 values given; give one number or 4"),
        (Costs(w=-1), "w: a cost must be"),
        (Costs(i=float("nan")), "i: a cost must be"),
        (Costs(fb=[[1, 2], [3, 4]]), "fb: 2 x 2 values given; give one number or 4 x 4"),
        (Costs(p2p=float("inf")), "p2p: a cost must be"),
    ],
)
def test_wrong_costs_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        replay(build_table("dualpipe", 4, 8), wrong)
