"""The tables against published figures: DualPipe's chart, makespans, memory, parameters."""

import pytest

from simdeep.program.schedule import (
    Act,
    Costs,
    Overlap,
    acts_of,
    build_table,
    p2p_messages,
    p2p_sends,
    peak_activations,
    replay,
)
from simdeep.program.schedule.interleaved import build_interleaved
from simdeep.program.schedule.rounds import round_size

SIZES = [(4, 8), (8, 20), (16, 120)]

# images/dualpipe.png of github.com/deepseek-ai/DualPipe (figure 5 of the DeepSeek-V3 report): 8
# ranks, 20 micro-batches. A number is a micro-batch of direction 0; those of direction 1 are drawn
# without. `.` is a unit of idle time, `F7+B` an overlapped block, F I W take 1, B 2, a block 3.
FIGURE = """
F0 F1 F2 F3 F4 F5 F6 F I W F I W F I W F F7+B . . . F+B0 F8+B F+B1 F9+B F+B2 . B F+B3 . B F+B4 . B
    F+B5 B I6 W6 I7 W7 I8 W8 I9 W9
. F0 F1 F2 F3 F4 F F5 F I W F I W F F6+B . . F+B0 F7+B F+B1 F8+B F+B2 F9+B F+B3 . B F+B4 . B F+B5 .
    B B6 I I7 W I8 W7 I9 W8 W9
. . F0 F1 F2 F F3 F F4 F I W F F5+B . F+B0 F6+B F+B1 F7+B F+B2 F8+B F+B3 F9+B F+B4 . B F+B5 . B .
    B6 B I7 I I8 W7 I9 W W8 W9
. . . F0 F F1 F F2 F F3 F F4 B F+B0 F5+B F+B1 F6+B F+B2 F7+B F+B3 F8+B F+B4 F9+B F+B5 . B . B6 . B
    B7 I I8 I I9 W W8 W W9
. . . F F0 F F1 F F2 F F3 F B0 F4+B F+B1 F5+B F+B2 F6+B F+B3 F7+B F+B4 F8+B F+B5 F9+B . B6 . B . B7
    B I8 I I9 I W8 W W9 W
. . F F F F0 F F1 F F2 I0 W0 F3 F+B1 . F4+B F+B2 F5+B F+B3 F6+B F+B4 F7+B F+B5 F8+B . B6 F9+B . B7
    . B B8 I I9 I W I W9 W W
. F F F F F F0 F F1 I0 W0 F2 I1 W1 F3 F+B2 . . F4+B F+B3 F5+B F+B4 F6+B F+B5 F7+B . B6 F8+B . B7
    F9+B . B8 B I9 I W9 I W I W W
F F F F F F F F0 I0 W0 F1 I1 W1 F2 I2 W2 F3 F+B3 . . . F4+B F+B4 F5+B F+B5 F6+B . B6 F7+B . B7 F8+B
    . B8 F9+B B9 I W I W I W I W
"""
TAKES = {"F": 1, "I": 1, "W": 1, "B": 2}


def drawn_rows():
    """For each rank the figure's (start, cell text) and its end."""
    rows = FIGURE.replace("\n    ", " ").strip().split("\n")
    assert len(rows) == 8
    for row in rows:
        now, cells = 0, []
        for text in row.split():
            if text == ".":
                now += 1
                continue
            cells.append((now, text))
            now += sum(TAKES[part[0]] for part in text.split("+"))
        yield cells, now


def as_drawn(cell):
    half = 10
    return "+".join(a.kind + (str(a.mb) if a.mb < half else "") for a in acts_of(cell))


def test_dualpipe_is_the_published_figure_cell_by_cell():
    table = build_table("dualpipe", 8, 20)
    for rank, (cells, end) in enumerate(drawn_rows()):
        assert [text for _, text in cells] == [as_drawn(cell) for cell in table.rows[rank]]
        assert end == 66


def test_dualpipe_runs_as_drawn_but_for_some_lone_backwards_drawn_late():
    spans = replay(build_table("dualpipe", 8, 20))
    for rank, (cells, _) in enumerate(drawn_rows()):
        for (drawn, text), start in zip(cells, spans.start[rank], strict=True):
            assert start == drawn or (text[0] in "BI" and start < drawn <= start + 2)
    assert spans.makespan == 66


@pytest.mark.parametrize(
    ("name", "vpp", "fb", "makespan"),
    [
        ("gpipe", 1, None, 81),
        ("1f1b", 1, None, 81),
        ("interleaved-1f1b", 2, None, 70.5),
        ("zb1p", 1, None, 67),
        ("zb-v", 2, None, 63.5),
        ("dualpipe", 1, None, 66),
        ("dualpipe", 1, 2, 52),
        ("dualpipev", 2, None, 67),
    ],
)
def test_makespan_of_8_devices_and_20_microbatches(name, vpp, fb, makespan):
    """F = I = W = 1 for an eighth of the model, wherever its stages are cut."""
    part = 1 / vpp
    costs = Costs(part, part, part, None if fb is None else fb * part)
    assert replay(build_table(name, 8, 20, vpp), costs).makespan == makespan


@pytest.mark.parametrize("vpp", [2, 3, 4])
@pytest.mark.parametrize(("pp", "microbatches"), [(2, 6), (4, 8), (8, 24), (8, 64), (16, 48)])
def test_interleaved_is_megatrons_order(pp, microbatches, vpp):
    """get_schedule_table and get_pp_rank_microbatches of Megatron-LM's schedules.py, by hand."""
    virtual = [
        (first + k, chunk)
        for first in range(0, microbatches, pp)
        for chunk in range(vpp)
        for k in range(pp)
    ]
    for name, more in (("interleaved-1f1b", 0), ("interleaved-1f1b-overlap", 1)):
        table = build_table(name, pp, microbatches, vpp)
        for rank in range(pp):
            f = [Act("F", chunk * pp + rank, mb) for mb, chunk in virtual]
            b = [Act("B", (vpp - 1 - chunk) * pp + rank, mb) for mb, chunk in virtual]
            ahead = min((pp - rank - 1) * 2 + (vpp - 1) * pp + more, len(virtual))
            steady = list(zip(f[ahead:], b, strict=False))
            expected = f[:ahead]
            expected += (
                [Overlap(*pair) for pair in steady] if more else [a for p in steady for a in p]
            )
            assert list(table.rows[rank]) == expected + b[len(f) - ahead :]


def test_uneven_rounds_leave_none_smaller_than_the_ranks():
    """Megatron-LM's comment on its schedule table: PP 2, VP 2, 5 micro-batches in rounds of 3."""
    row = build_interleaved(2, 5, 2, size=3).rows[1]
    assert [a.mb for a in row if a.kind == "F"] == [0, 1, 2, 0, 1, 2, 3, 4, 3, 4]
    assert [a.stage for a in row if a.kind == "F"] == [1, 1, 1, 3, 3, 3, 1, 1, 3, 3]
    assert round_size(4, 11) == 6
    assert [round_size(8, m) for m in (4, 8, 12, 20, 64)] == [4, 8, 12, 10, 8]


@pytest.mark.parametrize(("pp", "microbatches"), [(4, 12), (8, 20), (16, 40), (6, 30), (9, 27)])
def test_peaks_of_the_v_family_are_the_published_ones(pp, microbatches):
    """Micro-batches of (pp + 4) // 3, (pp + 2) // 2 and pp (arXiv 2405.15362); a chunk is half."""
    for name, most in (("v-min", (pp + 4) // 3), ("v-half", (pp + 2) // 2), ("zb-v", pp)):
        table = build_table(name, pp, microbatches, 2)
        assert peak_activations(table, "W").max() == 2 * most
        assert peak_activations(table, "I").max() <= 2 * most


@pytest.mark.parametrize(("pp", "microbatches"), [(4, 12), (8, 20), (8, 64)])
def test_v_shaped_stages_turn_on_the_last_rank(pp, microbatches):
    for name in ("zb-v", "v-half", "v-min", "dualpipev"):
        table = build_table(name, pp, microbatches, 2)
        assert table.stages_of == tuple((r, 2 * pp - 1 - r) for r in range(pp))
        sends = p2p_sends(table)
        assert sends.sum() == p2p_messages(pp, microbatches, 2, v_shaped=True)
        assert (sends[[0, -1]].sum(axis=1) == 2 * microbatches).all()
    for name in ("interleaved-1f1b", "interleaved-zb"):
        sends = p2p_sends(build_table(name, pp, microbatches, 3))
        assert sends.sum() == p2p_messages(pp, microbatches, 3)


@pytest.mark.parametrize(("pp", "microbatches"), SIZES)
def test_activations_peak_at_pp_pp_and_pp_plus_1(pp, microbatches):
    falling = [pp - rank for rank in range(pp)]
    expected = {
        "1f1b": {"I": falling, "W": falling},
        "zb1p": {"I": falling, "W": [pp] * pp},
        "dualpipe": {"I": [pp + 1] * pp, "W": [pp + 1] * pp},
    }
    for name, peaks in expected.items():
        found = replay(build_table(name, pp, microbatches)).peak_activations
        assert {freed: list(peak) for freed, peak in found.items()} == peaks


@pytest.mark.parametrize(("pp", "microbatches"), SIZES)
def test_peak_activations_equal_a_count_cell_by_cell(pp, microbatches):
    for name in ("1f1b", "zb1p", "dualpipe"):
        table = build_table(name, pp, microbatches)
        for freed in ("I", "W"):
            peaks = []
            for row in table.rows:
                held = most = 0
                for cell in row:
                    held += sum(act.kind == "F" for act in acts_of(cell))
                    most = max(most, held)
                    held -= sum(act.kind in ("B", freed) for act in acts_of(cell))
                assert held == 0
                peaks.append(most)
            assert list(peak_activations(table, freed)) == peaks


@pytest.mark.parametrize(("pp", "microbatches"), SIZES)
def test_dualpipe_holds_two_stages_a_rank_and_the_others_one(pp, microbatches):
    for name, copies in (("1f1b", 1), ("zb1p", 1), ("dualpipe", 2)):
        table = build_table(name, pp, microbatches)
        assert table.param_copies == copies
        assert all(len(stages) == copies for stages in table.stages_of)
    assert table.stages_of[1] == (1, pp - 2)
    assert table.chunks_of[1] == ((1, 0), (pp - 2, 1))


def test_dualpipe_directions_meet():
    table = build_table("dualpipe", 4, 8)
    assert [table.direction_of(mb) for mb in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [table.rank_of(0, mb) for mb in (0, 7)] == [0, 3]
    assert [table.rank_of(3, mb) for mb in (0, 7)] == [3, 0]


@pytest.mark.parametrize(("pp", "microbatches"), SIZES)
@pytest.mark.parametrize("name", ["1f1b", "zb1p", "dualpipe"])
def test_p2p_sends_add_up(name, pp, microbatches):
    sends = p2p_sends(build_table(name, pp, microbatches))
    assert sends.sum() == p2p_messages(pp, microbatches)
    assert sends[:, 0].sum() == sends[:, 1].sum()
    assert (sends[1:-1].sum(axis=1) == 2 * microbatches).all()
    assert (sends[[0, -1]].sum(axis=1) == microbatches).all()


def test_the_pair_is_one_block():
    table = build_table("pair", 1, 2)
    assert table.rows == ((Overlap(Act("F", 0, 1), Act("B", 0, 0)),),)
    assert str(table.rows[0][0]) == "(0F1;0B0)OVERLAP_F_B"
    assert replay(table, Costs(fb=2.5)).makespan == 2.5
    assert list(peak_activations(table, "I")) == [2]
    assert p2p_sends(table).sum() == 0


def test_zb1p_weight_gradients_lag_by_the_rank():
    table = build_table("zb1p", 4, 6)
    texts = [" ".join(f"{a.kind}{a.mb}" for a in row) for row in table.rows]
    assert texts[0] == "F0 F1 F2 F3 I0 W0 F4 I1 W1 F5 I2 W2 I3 W3 I4 W4 I5 W5"
    assert texts[3] == "F0 I0 F1 I1 F2 I2 F3 I3 W0 F4 I4 W1 F5 I5 W2 W3 W4 W5"
