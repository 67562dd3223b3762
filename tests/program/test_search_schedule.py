"""Searched orders against exact optima, published bubble rates, and what must hold of any."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.program.schedule import (
    Act,
    Costs,
    Overlap,
    StuckError,
    Table,
    check,
    replay,
    to_csv,
)
from simdeep.program.search import (
    Activations,
    Placement,
    Task,
    known_tables,
    lower_bound,
    search_schedule,
)
from tests.program.schedule_milp import optimum

# Zero-bubble paper (arXiv 2401.10241), tables 3, 5 and 9: ranks, micro-batches, profiled T_F, T_B,
# T_W, T_comm in ms, hidden size and heads at sequence 1024, the bubble rate of ZB-2p.
ZB_2P = [
    (8, 24, 18.522, 18.086, 9.337, 0.601, 2304, 24, 0.0433),
    (8, 32, 18.513, 18.086, 9.331, 0.626, 2304, 24, 0.0039),
    (8, 64, 18.546, 18.097, 9.321, 0.762, 2304, 24, 0.0026),
    (8, 24, 29.718, 29.444, 19.927, 0.527, 4096, 32, 0.0029),
    (8, 32, 29.802, 29.428, 19.530, 0.577, 4096, 32, 0.0022),
    (8, 64, 29.935, 29.621, 19.388, 0.535, 4096, 32, 0.0010),
    (16, 48, 11.347, 11.248, 8.132, 0.377, 5120, 40, 0.0066),
    (16, 64, 11.307, 11.254, 8.101, 0.379, 5120, 40, 0.0054),
    (16, 128, 11.325, 11.308, 8.109, 0.378, 5120, 40, 0.0028),
    (32, 96, 10.419, 10.207, 7.715, 0.408, 6144, 48, 0.0038),
    (32, 128, 10.408, 10.204, 7.703, 0.408, 6144, 48, 0.0029),
    (32, 256, 10.402, 10.248, 7.698, 0.460, 6144, 48, 0.0018),
]


@pytest.mark.parametrize("case", ZB_2P, ids=lambda case: f"{case[0]}x{case[1]}-{case[6]}")
def test_no_worse_than_zb_2p(case):
    pp, microbatches, f, i, w, p2p, hidden, heads, rate = case
    # Bytes of a layer a token and position: 34h + 5as after F, 32h after I (section 3.1); twice
    # the memory of 1F1B's first rank. The rates are over the longest rank's own span.
    after_f = 34 * hidden + 5 * heads * 1024
    task = Task(
        Placement.one_stage(pp, microbatches),
        Costs(f, i, w, p2p=p2p),
        Activations(after_f, 32 * hidden, 2 * pp * after_f),
        "rank_span",
    )
    found = search_schedule(task)
    check(found.table)
    assert task.activations.fits(found.table)
    assert found.spans.longest_rank_span == found.value
    assert 1 - microbatches * (f + i + w) / found.value <= rate + 5e-5  # published to 4 digits


def tiny_task(seed):
    rng = np.random.default_rng(seed)
    placement = [
        Placement.one_stage(2, int(rng.integers(2, 5))),
        Placement.one_stage(3, int(rng.integers(2, 4))),
        Placement.two_directions(2, 2),
        Placement.v_shape(2, 2),
        Placement.interleaved(2, 2, 2),
    ][seed % 5]
    n = placement.n_stages
    f, i, w = rng.integers(1, 5, (3, n))
    after_f = rng.integers(0, 4, n)
    after_i = rng.integers(0, after_f + 1)
    limit = [after_f.sum(), after_f.sum() + 1, after_f.sum() + 2, np.inf][rng.integers(4)]
    costs = Costs(f, i, w, p2p=float(rng.integers(2)))
    return Task(placement, costs, Activations(after_f, after_i, float(limit)))


@pytest.mark.parametrize("seed", range(20))
def test_tiny_cases_are_solved_exactly(seed):
    task = tiny_task(seed)
    found = search_schedule(task)
    best = optimum(task)
    assert found.optimal
    assert found.value == pytest.approx(best, abs=1e-3)
    assert found.bound.value <= best + 1e-3


def words(stages):
    """Every row of one rank with two micro-batches of each of its stages, in order of these.

    With full backwards and blocks as further cells.
    """
    kinds = [(kind, s) for s in stages for kind in "FIW" for _ in range(2)]
    rows = set()
    for order in set(permutations(kinds)):
        count = dict.fromkeys(kinds, 0)
        row = []
        for kind, stage in order:
            row.append(Act(kind, stage, count[kind, stage]))
            count[kind, stage] += 1
        place = {act: at for at, act in enumerate(row)}
        if all(place["F", s, m] < place["I", s, m] < place["W", s, m] for _, s, m in row):
            rows.add(tuple(row))
    found = set()
    for row in rows:
        found |= merged(row)
    return found


def merged(row):
    """The row with neighbours joined in every way: I and W into B, F and B into a block."""
    if len(row) < 2:
        return {row}
    found = {(row[0], *rest) for rest in merged(row[1:])}
    first, second = row[:2]
    if first.kind == "I" and second == Act("W", *first[1:]):
        full = Act("B", *first[1:])
        found |= {(full, *rest) for rest in merged(row[2:])}
    if first.kind == "F" and len(row) > 2:
        b, w = row[1:3]
        if b.kind == "I" and w == Act("W", *b[1:]) and b[1:] != first[1:]:
            block = Overlap(first, Act("B", *b[1:]))
            found |= {(block, *rest) for rest in merged(row[3:])}
    return found


@pytest.mark.parametrize(
    ("f", "i", "w", "fb", "after_f", "after_i", "limit"),
    [
        ([1, 2], [2, 1], [1, 1], None, 1, 3, 4),
        ([1, 2], [2, 2], [2, 1], None, 1, 2, 3),
        ([2, 2], [2, 3], [1, 1], [[3, 9], [9, 4]], 1, 0, 9),
        ([1, 3], [1, 2], [2, 1], [[3, 9], [9, 4]], 2, 3, 5),
        ([2, 1], [3, 1], [1, 3], [[4, 9], [9, 4]], 1, 1, 2),
    ],
)
def test_exact_with_blocks_and_full_backwards(f, i, w, fb, after_f, after_i, limit):
    activations = Activations(after_f, after_i, limit)
    costs = Costs(f, i, w, fb=fb, p2p=0.5)
    task = Task(Placement.one_stage(2, 2), costs, activations)
    ends = []
    for rows in product(*(words([stage]) for stage in range(2))):
        table = Table("all", rows, 2, 2, ((0, 1),))
        if activations.fits(table):
            try:
                ends.append(replay(table, costs).makespan)
            except StuckError:
                continue
    found = search_schedule(task)
    assert found.optimal
    assert found.value == pytest.approx(min(ends))


@pytest.mark.parametrize(
    ("placement", "costs", "makespan"),
    [
        (Placement.one_stage(8, 20), Costs(), 67),
        (Placement.v_shape(8, 20), Costs(0.5, 0.5, 0.5), 63.5),
        # Published: DualPipe 66. Two directions without overlap can do with the fill of half.
        (Placement.two_directions(8, 20), Costs(), 63),
    ],
)
def test_bounds_that_are_reached(placement, costs, makespan):
    found = search_schedule(Task(placement, costs))
    assert found.value == pytest.approx(makespan)
    assert found.bound.value == pytest.approx(makespan)
    assert found.optimal


@st.composite
def tasks(draw):
    pp = draw(st.integers(1, 4))
    microbatches = 2 * draw(st.integers(1, 5))
    placement = draw(
        st.sampled_from(
            [
                Placement.one_stage(pp, microbatches),
                Placement.interleaved(pp, 2, microbatches),
                Placement.v_shape(pp, microbatches),
                Placement.two_directions(pp, microbatches),
            ]
        )
    )
    n = placement.n_stages
    time = st.lists(st.integers(0, 9).map(lambda x: x / 4), min_size=n, max_size=n)
    size = st.lists(st.integers(0, 5).map(float), min_size=n, max_size=n)
    f, i, w = (np.array(draw(time)) for _ in range(3))
    fb = None
    if draw(st.booleans()):
        b = i + w
        share = draw(st.sampled_from([0.0, 0.5, 1.0]))
        longer = np.maximum(f[:, None], b[None, :])
        fb = longer + share * (f[:, None] + b[None, :] - longer)
    after_f, after_i = np.array(draw(size)), np.array(draw(size))
    need = max(
        np.bincount(ranks, after_f, placement.n_ranks).max() for ranks in placement.stage_ranks
    )
    limit = draw(st.sampled_from([need, need + 3, 2 * need + 5, np.inf]))
    goal = draw(st.sampled_from(["makespan", "rank_span"]))
    costs = Costs(f, i, w, fb, p2p=draw(st.sampled_from([0.0, 0.25])))
    return Task(placement, costs, Activations(after_f, after_i, limit), goal)


@settings(deadline=None, max_examples=60)
@given(tasks())
def test_what_holds_of_any_search(task):
    found = search_schedule(task, effort=0.1)
    assert check(found.table) is found.table
    assert found.table.stage_ranks == task.placement.stage_ranks
    assert found.table.n_microbatches == task.placement.microbatches
    assert task.activations.fits(found.table)
    again = replay(found.table, task.costs)
    assert found.value == (again.makespan if task.goal == "makespan" else again.longest_rank_span)
    assert found.bound.value <= found.value * (1 + 1e-9)
    for table in known_tables(task.placement):
        if task.activations.fits(table):
            spans = replay(table, task.costs)
            known = spans.makespan if task.goal == "makespan" else spans.longest_rank_span
            assert found.value <= known
    if task.goal == "makespan":
        assert found.value >= again.busy.max()


def test_same_arguments_same_table():
    task = Task(Placement.v_shape(4, 10), Costs(1, 1.2, 0.7, p2p=0.1), Activations(1, 1, 5))
    first, second = (to_csv(search_schedule(task, seed=3).table) for _ in range(2))
    assert first == second


def test_more_memory_is_never_worse_in_the_bound():
    places = Placement.one_stage(4, 12)
    bounds = [lower_bound(Task(places, Costs(), Activations(1, 1, k))).value for k in range(1, 9)]
    assert bounds == sorted(bounds, reverse=True)
    # One micro-batch at a time: its way there and back, and the first stage's W before the next.
    assert bounds[0] == 12 * (2 * 4 + 1)


def test_memory_below_one_microbatch_is_refused():
    with pytest.raises(InputError, match="one micro-batch needs 2"):
        Task(Placement.v_shape(4, 8), Costs(), Activations(1, 0, 1.5))


def test_a_block_shorter_than_its_part_is_refused():
    with pytest.raises(InputError, match="less than its forward or its backward"):
        Task(Placement.one_stage(2, 4), Costs(1, 1, 1, fb=1.5))


def test_a_start_is_not_lost():
    task = Task(Placement.one_stage(4, 8), Costs(1, 2, 1), Activations(1, 1, 4))
    best = search_schedule(task)
    again = search_schedule(task, effort=0.01, starts=(best.table,))
    assert again.value <= best.value


def test_placements_must_hold_every_rank():
    with pytest.raises(InputError, match="each of"):
        Placement("gap", 3, 4, ((0, 2),))
    with pytest.raises(InputError, match="multiple of the 2 directions"):
        Placement.two_directions(2, 3)
