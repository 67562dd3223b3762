"""Replays against published bubble rates, hand-worked cases and what must hold of any run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.errors import DeadlockError, InputError
from simdeep.program.schedule import Act, Costs, Overlap, Table, build_table, replay

# Zero-bubble paper (arXiv 2401.10241), tables 5 and 9: ranks, micro-batches, profiled T_F, T_B,
# T_W, T_comm in ms, then the bubble rate of 1F1B and of ZB-H1.
BUBBLE_RATES = [
    (8, 24, 18.522, 18.086, 9.337, 0.601, 0.2431, 0.1585),
    (8, 32, 18.513, 18.086, 9.331, 0.626, 0.1985, 0.1242),
    (8, 64, 18.546, 18.097, 9.321, 0.762, 0.1240, 0.0674),
    (8, 24, 29.718, 29.444, 19.927, 0.527, 0.2347, 0.1323),
    (8, 32, 29.802, 29.428, 19.530, 0.577, 0.1898, 0.1045),
    (8, 64, 29.935, 29.621, 19.388, 0.535, 0.1091, 0.0554),
    (16, 48, 11.347, 11.248, 8.132, 0.377, 0.2552, 0.1397),
    (16, 64, 11.307, 11.254, 8.101, 0.379, 0.2082, 0.1088),
    (16, 128, 11.325, 11.308, 8.109, 0.378, 0.1251, 0.0576),
    (32, 96, 10.419, 10.207, 7.715, 0.408, 0.2646, 0.1421),
    (32, 128, 10.408, 10.204, 7.703, 0.408, 0.2168, 0.1106),
    (32, 256, 10.402, 10.248, 7.698, 0.460, 0.1352, 0.0594),
]


@pytest.mark.parametrize("case", BUBBLE_RATES)
def test_bubble_rates_of_the_zero_bubble_paper(case):
    pp, microbatches, f, i, w, p2p, rate_1f1b, rate_zb_h1 = case
    for name, rate in (("1f1b", rate_1f1b), ("zb1p", rate_zb_h1)):
        spans = replay(build_table(name, pp, microbatches), Costs(f, i, w, p2p=p2p))
        assert spans.bubble_over_makespan == pytest.approx(rate, abs=6e-5)


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
