"""Wrong tables and wrong requests are refused, with what is wrong and what is allowed."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.program.schedule import (
    Act,
    Overlap,
    Table,
    TableError,
    build_table,
    check,
    find_schedule,
    schedule_names,
    schedule_problems,
)
from simdeep.spec.schedules import SCHEDULE_RULES

NAMES = ["1f1b", "zb1p", "dualpipe"]


@given(st.sampled_from(NAMES), st.integers(1, 6), st.integers(0, 8))
def test_built_tables_pass(name, half, more):
    table = build_table(name, 2 * half, 4 * half + 2 * more)
    assert check(table) is table


@given(st.integers(1, 9), st.integers(1, 12))
def test_few_microbatches_and_odd_ranks_pass_where_allowed(pp, microbatches):
    check(build_table("1f1b", pp, microbatches))
    check(build_table("zb1p", pp, microbatches))


def test_the_pair_passes():
    check(build_table("pair", 1, 2))


def with_row(table, rank, row):
    return replace(table, rows=(*table.rows[:rank], tuple(row), *table.rows[rank + 1 :]))


@given(st.sampled_from(NAMES), st.data())
def test_a_lost_or_doubled_cell_is_found(name, data):
    table = build_table(name, 4, 8)
    rank = data.draw(st.integers(0, 3))
    row = table.rows[rank]
    at = data.draw(st.integers(0, len(row) - 1))
    for wrong in ((*row[:at], *row[at + 1 :]), (*row[:at], row[at], *row[at:])):
        with pytest.raises(TableError) as caught:
            check(with_row(table, rank, wrong))
        marked = [line for line in caught.value.grid.splitlines() if line.startswith("> ")]
        assert [line.split("|")[0].strip() for line in marked] == [f"> rank {rank}"]


def test_the_grid_shows_the_failing_cell():
    table = build_table("1f1b", 2, 2)
    row = table.rows[1]
    with pytest.raises(TableError) as caught:
        check(with_row(table, 1, (row[1], row[0], *row[2:])))
    assert str(caught.value).splitlines() == [
        "rank 1, cell 0: 1B0 comes before 1F0",
        "  rank 0 | 0F0   0F1 0B0 0B1",
        "> rank 1 | *1B0* 1F0 1F1 1B1",
    ]


def test_long_rows_are_shown_around_the_fault():
    table = build_table("dualpipe", 4, 40)
    row = list(table.rows[2])
    row.insert(30, row[31])
    with pytest.raises(TableError) as caught:
        check(with_row(table, 2, row))
    assert all(len(line) < 180 for line in caught.value.grid.splitlines())
    assert " ... " in caught.value.grid


F0, B0 = Act("F", 0, 0), Act("B", 0, 0)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table("t", ((B0, F0),), 1, 1, ((0,),)), "0B0 comes before 0F0"),
        (Table("t", ((F0,),), 1, 1, ((0,),)), "0B0 is missing"),
        (Table("t", ((F0, Act("I", 0, 0)),), 1, 1, ((0,),)), "0W0 is missing"),
        (Table("t", ((F0, B0, Act("W", 0, 0)),), 1, 1, ((0,),)), "has a full backward as well"),
        (
            Table("t", ((F0, Act("W", 0, 0), Act("I", 0, 0)),), 1, 1, ((0,),)),
            "0W0 comes before 0I0",
        ),
        (Table("t", ((F0, B0, Act("F", 0, 1)),), 1, 1, ((0,),)), "micro-batches are 0 to 0"),
        (Table("t", ((F0, B0, Act("F", 3, 0)),), 1, 1, ((0,),)), "stages are 0 to 0"),
        (Table("t", ((F0, B0, Act("X", 0, 0)),), 1, 1, ((0,),)), "no such action"),
        (Table("t", ((), (F0, B0)), 1, 1, ((0,),)), "stage 0 of micro-batch 0 is on rank 0"),
        (Table("t", ((Overlap(F0, B0),),), 1, 1, ((0,),)), "B of another chunk"),
        (Table("t", ((F0, B0),), 1, 1, ((0,), (0,))), "do not divide evenly"),
        (Table("t", ((F0, B0),), 1, 1, ((4,),)), "the table has 1 rows"),
        (Table("t", (), 0, 0, ()), "no stage or no micro-batch"),
        (
            Table(
                "t",
                (
                    (F0, B0, Act("F", 0, 1), Act("B", 0, 1)),
                    (Act("F", 1, 0), Act("F", 1, 1), Act("B", 1, 0), Act("B", 1, 1)),
                ),
                2,
                2,
                ((0, 1),),
            ),
            "rank 0 stands at 0B0 and waits for 1I0 on rank 1",
        ),
    ],
)
def test_wrong_tables_are_refused(table, words):
    with pytest.raises(TableError) as caught:
        check(table)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "pp", "microbatches", "vpp", "words"),
    [
        ("dualpipe", 7, 20, 1, "an even number of ranks; pp is 7, allowed: 6 or 8"),
        ("dualpipe", 1, 20, 1, "pp is 1, allowed: 2"),
        ("dualpipe", 8, 14, 1, "microbatches is 14, allowed: 16 or more, even"),
        ("dualpipe", 8, 21, 1, "microbatches is 21, allowed: 20 or 22"),
        ("dualpipe", 8, 20, 2, "vpp is 2, allowed: 1"),
        ("1f1b", 0, 4, 1, "pp is 0, allowed: 1 or more"),
        ("zb1p", 4, 0, 1, "microbatches is 0, allowed: 1 or more"),
        ("1f1b", 4, 8, 2, "one stage a rank"),
        ("interleaved-1f1b", 4, 8, 1, "several stages a rank; vpp is 1, allowed: 2 or more"),
        ("zb-v", 4, 8, 3, "two stages a rank, in a V; vpp is 3, allowed: 2"),
        ("dualpipev", 4, 7, 2, "microbatches is 7, allowed: 8 or more"),
        ("zb-h2", 4, 8, 2, "vpp is 2, allowed: 1"),
        ("pair", 2, 2, 1, "exactly 1 rank"),
        ("pair", 1, 3, 1, "exactly 2 micro-batches"),
    ],
)
def test_wrong_sizes_say_what_is_allowed(name, pp, microbatches, vpp, words):
    with pytest.raises(InputError) as caught:
        build_table(name, pp, microbatches, vpp)
    assert words in str(caught.value)
    assert caught.value.problems == schedule_problems(name, pp, microbatches, vpp)


def test_all_problems_of_a_size_are_named_at_once():
    keys = [problem.key for problem in schedule_problems("dualpipe", 7, 13, 2)]
    assert keys == ["pp", "microbatches", "microbatches", "vpp"]
    assert schedule_problems("dualpipe", 8, 20) == ()


def test_names_and_aliases():
    assert schedule_names() == (
        "gpipe",
        "1f1b",
        "interleaved-1f1b",
        "interleaved-1f1b-overlap",
        "zb1p",
        "zb-h2",
        "interleaved-zb",
        "zb-v",
        "v-half",
        "v-min",
        "dualpipe",
        "dualpipev",
        "pair",
    )
    with pytest.raises(InputError, match="did you mean dualpipe"):
        find_schedule("dualpip")


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("ZB-H1", "zb1p"),
        ("zb_h1", "zb1p"),
        ("DualPipe", "dualpipe"),
        ("Schedule1F1B", "1f1b"),
        ("schedulegpipe", "gpipe"),
        ("ScheduleInterleaved1F1B", "interleaved-1f1b"),
        ("INTERLEAVED1F1B", "interleaved-1f1b"),
        ("ScheduleInterleavedZeroBubble", "interleaved-zb"),
        ("ScheduleZBVZeroBubble", "zb-v"),
        ("zbv", "zb-v"),
        ("ScheduleDualPipeV", "dualpipev"),
        ("V_Half", "v-half"),
        ("fb_pair", "pair"),
    ],
)
def test_other_ways_to_write_a_name(alias, name):
    assert find_schedule(alias).name == name


@settings(deadline=None)  # the first of the V family loads compiled code
@given(st.sampled_from(list(SCHEDULE_RULES)), st.integers(1, 9), st.integers(1, 20), st.data())
def test_every_schedule_passes_at_every_size_it_takes(name, pp, microbatches, data):
    vpp = data.draw(st.integers(1, 4))
    if schedule_problems(name, pp, microbatches, vpp):
        rule = SCHEDULE_RULES[name]
        assert (
            not rule.takes_vpp(vpp)
            or (rule.even_pp and pp % 2)
            or (rule.even_microbatches and microbatches % 2)
            or microbatches < rule.microbatches_per_rank * pp
        )
        return
    table = build_table(name, pp, microbatches, vpp)
    assert table.name == name
    assert (table.n_ranks, table.n_microbatches) == (pp, microbatches)
    assert table.n_stages == pp * vpp
    assert table.param_copies == (SCHEDULE_RULES[name].parameter_copies if pp > 1 else 1)
    check(table)
