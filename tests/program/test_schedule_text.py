"""Text, CSV and grids: what is written reads back, what is wrong is named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.program.schedule import (
    Act,
    Costs,
    Overlap,
    Table,
    build_table,
    find_schedule,
    from_csv,
    parse_cell,
    render_grid,
    schedule_names,
    to_csv,
)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("0F3", Act("F", 0, 3)),
        ("2I1", Act("I", 2, 1)),
        ("2W1", Act("W", 2, 1)),
        ("1B0", Act("B", 1, 0)),
        ("(0F5;3B2)OVERLAP_F_B", Overlap(Act("F", 0, 5), Act("B", 3, 2))),
    ],
)
def test_cells_in_torchs_notation(text, cell):
    assert parse_cell(text) == cell
    assert str(cell) == text


@settings(deadline=None)
@given(st.sampled_from(schedule_names()[:-1]), st.integers(1, 5), st.integers(0, 6))
def test_csv_reads_back(name, half, more):
    vpp = find_schedule(name).default_vpp
    table = build_table(name, 2 * half, 4 * half + 2 * more, vpp)
    text = to_csv(table)
    assert from_csv(text, name=name) == table
    assert to_csv(from_csv(text)) == text


def test_the_pair_reads_back_as_a_window():
    table = build_table("pair", 1, 2)
    assert to_csv(table) == "(0F1;0B0)OVERLAP_F_B\n"
    assert from_csv(to_csv(table), name="pair", window=True) == table


def test_csv_of_dualpipe():
    assert to_csv(build_table("dualpipe", 2, 4)) == (
        "0F0,1F2,0F1,1B2,(1F3;0B0)OVERLAP_F_B,1B3,0I1,0W1\n"
        "0F2,1F0,0F3,1B0,(1F1;0B2)OVERLAP_F_B,1B1,0I3,0W3\n"
    )


def test_empty_fields_and_torchs_line_ends_are_read():
    assert from_csv("0F0,,0B0\r\n,1F0,1B0\r\n").rows[1] == (Act("F", 1, 0), Act("B", 1, 0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no actions in it"),
        ("0F0,0B0\n0F0,what\n", "t.csv:2: field 2: 'what' is no action"),
        ("0SEND_F0\n", "is no action"),
        ("(0B0;0F1)OVERLAP_F_B\n", "is no action"),
        ("0F0,0B0,0F2,0B2\n", "has micro-batch 2 but no micro-batch 1"),
        ("0F0,0B0\n2F0,2B0\n", "has stage 2 but no stage 1"),
        ("0F0,0B0,0F1,0B1\n1F0,1B0\n", "micro-batch 1 never visits stage 1"),
        ("0F0,0B0,1F1,1B1,0F2,0B2\n1F0,1B0,0F1,0B1,1F2,1B2\n", "2 ways over the ranks"),
        ("0F0,0B0,0B0\n", "0B0 is there twice"),
    ],
)
def test_wrong_csv_is_refused(text, words):
    with pytest.raises(InputError) as caught:
        from_csv(text, place="t.csv")
    assert words in str(caught.value)


def test_grid_of_zb1p():
    assert render_grid(build_table("zb1p", 3, 3)).splitlines() == [
        "rank 0 | F0 F1 F2 .  .  I0 W0 I1 W1 I2 W2",
        "rank 1 | .  F0 F1 .  I0 F2 I1 W0 I2 W1 W2",
        "rank 2 | .  .  F0 I0 F1 I1 F2 I2 W0 W1 W2",
    ]


def test_grid_shows_blocks_and_lengths():
    assert render_grid(build_table("dualpipe", 2, 4)).splitlines() == [
        "rank 0 | F0 F2 F1 B2--- F3&B0--- B3--- I1 W1",
        "rank 1 | F2 F0 F3 B0--- F1&B2--- B1--- I3 W3",
    ]
    assert render_grid(build_table("pair", 1, 2)) == "rank 0 | F1&B0"


def test_grid_folds_at_a_width():
    whole = render_grid(build_table("1f1b", 4, 8)).splitlines()
    folded = render_grid(build_table("1f1b", 4, 8), width=50)
    assert max(map(len, folded.splitlines())) <= 50
    per_line = 39  # of 41 left by the label, whole columns of 3
    blocks = [block.splitlines() for block in folded.split("\n\n")]
    for rank in range(4):
        cells = "".join(block[rank].partition("| ")[2].ljust(per_line) for block in blocks)
        assert cells.rstrip() == whole[rank].partition("| ")[2]


def test_grid_names_the_stage_where_a_rank_has_several_and_skips_what_takes_no_time():
    rows = ((Act("F", 0, 0), Act("F", 1, 0), Act("B", 1, 0), Act("B", 0, 0)),)
    table = Table("one", rows, 2, 1, ((0, 0),))
    assert render_grid(table) == "rank 0 | 0F0 1F0 1B0---- 0B0----"
    assert render_grid(table, Costs(f=[1, 0])) == "rank 0 | 0F0 1B0---- 0B0----"
