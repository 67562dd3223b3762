"""The published bubble formulas against replays, and the conditions under which they hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.program.schedule import Costs, Uniform, build_table, find_schedule, replay

SIZES = [(4, 8), (8, 20), (16, 120)]
cost = st.floats(0.1, 4.0)


def run(name, pp, microbatches, c):
    return replay(build_table(name, pp, microbatches), Costs(c.f, c.i, c.w, c.fb))


def published(name, pp, c):
    """The formulas as DeepSeek-V3's table 2 prints them."""
    b = c.i + c.w
    fb = c.f + b if c.fb is None else c.fb
    return {
        "1f1b": (pp - 1) * (c.f + b),
        "zb1p": (pp - 1) * (c.f + b - 2 * c.w),
        "dualpipe": (pp / 2 - 1) * (fb + b - 3 * c.w),
    }[name]


@pytest.mark.parametrize(("pp", "microbatches"), SIZES)
@pytest.mark.parametrize("name", ["1f1b", "zb1p", "dualpipe"])
@pytest.mark.parametrize(
    "c", [Uniform(1, 1, 1), Uniform(2, 2, 1), Uniform(4, 4, 3, 8), Uniform(1, 1, 1, 2)]
)
def test_closed_forms_hold_exactly(name, pp, microbatches, c):
    form = find_schedule(name).closed
    spans = run(name, pp, microbatches, c)
    bubble = published(name, pp, c)
    assert form.unmet(pp, microbatches, c) == ()
    assert form.bubble(pp, c) == bubble
    assert form.makespan(pp, microbatches, c) == spans.makespan
    assert spans.idle.max() == bubble
    if name != "dualpipe" or c.pair == c.f + c.b:
        assert (spans.idle == bubble).all()
        assert spans.makespan == microbatches * (c.f + c.b) + bubble


@given(c=st.builds(Uniform, cost, cost, cost), pp=st.integers(1, 9), more=st.integers(0, 12))
def test_1f1b_and_zb1p_hold_for_every_rank(c, pp, more):
    for name in ("1f1b", "zb1p"):
        form = find_schedule(name).closed
        microbatches = 1 + more if name == "1f1b" else pp + more
        idle = run(name, pp, microbatches, c).idle
        if not form.unmet(pp, microbatches, c):
            assert idle == pytest.approx(np.full(pp, published(name, pp, c)), abs=1e-9)
        if name == "zb1p":  # what becomes of the form when W is not the shortest
            least = (pp - 1) * (c.f + c.i - min(c.f, c.i, c.w))
            assert idle == pytest.approx(np.full(pp, least), abs=1e-9)


@given(
    f=cost,
    w_part=st.floats(0, 1),
    gain=st.floats(0, 1),
    half=st.integers(1, 5),
    more=st.integers(0, 8),
)
def test_dualpipe_form_is_the_idle_time_of_the_middle_ranks(f, w_part, gain, half, more):
    pp, microbatches = 2 * half, 4 * half + 2 * more
    alone = Uniform(f, f, w_part * f)
    c = Uniform(f, f, w_part * f, alone.pair - gain * f)
    spans = run("dualpipe", pp, microbatches, c)
    bubble = published("dualpipe", pp, c)
    middle = spans.idle[[half - 1, half]]
    assert middle == pytest.approx([bubble, bubble], abs=1e-9)
    assert spans.idle.max() == pytest.approx(bubble, abs=1e-9)
    form = find_schedule("dualpipe").closed
    assert spans.makespan == pytest.approx(form.makespan(pp, microbatches, c))


def test_dualpipe_form_fails_where_its_conditions_do():
    form = find_schedule("dualpipe").closed
    for c, broken in (
        (Uniform(1, 1.5, 1), "F = I"),
        (Uniform(1, 1, 1.5), "W <= I"),
        (Uniform(1, 1, 1, 1.5), "F&B >= B"),
    ):
        assert form.unmet(8, 20, c) == (broken,)
        assert run("dualpipe", 8, 20, c).idle[3] != pytest.approx(form.bubble(8, c))
    assert form.condition_text.startswith("equal stages, free transfers, F = I")


def test_zb1p_form_needs_enough_microbatches():
    form = find_schedule("zb1p").closed
    c = Uniform(1, 1, 1)
    assert form.unmet(8, 7, c) == ("M >= PP",)
    assert run("zb1p", 8, 7, c).idle[0] > form.bubble(8, c)


@given(half=st.integers(1, 6), more=st.integers(0, 8))
def test_activation_forms_hold_rank_by_rank(half, more):
    pp = 2 * half
    for name, microbatches in (
        ("1f1b", 1 + more),
        ("zb1p", 1 + more),
        ("dualpipe", 2 * pp + 2 * more),
    ):
        form = find_schedule(name).closed
        table = build_table(name, pp, microbatches)
        for freed, peaks in replay(table).peak_activations.items():
            expected = [form.activations(pp, microbatches, rank, freed) for rank in range(pp)]
            assert list(peaks) == expected
        assert table.param_copies == form.param_copies


def forms(pp, c, vpp):
    """Bubbles of the other schedules: published, of a rank over the makespan or its own span."""
    b = c.i + c.w
    fb = c.f + b if c.fb is None else c.fb
    return {
        "gpipe": (pp - 1) * (c.f + b),
        "interleaved-1f1b": (pp - 1) * (c.f + b),
        "interleaved-1f1b-overlap": (pp - 1) * (c.f + b),
        "interleaved-zb": (pp - 1) * (c.f + b - 2 * c.w),
        "zb-h2": (pp - 1) * (c.f + c.i - 2 * c.w),
        "zb-v": 0.0,
        "v-half": (3 * pp - (4 if pp % 2 else 3)) * c.f,
        "v-min": (4 * pp - (3 if pp % 3 == 0 else 5)) * c.f,
        "dualpipev": (pp - 1) * (fb + b - 3 * c.w),
    }


COSTS = [Uniform(1, 1, 1), Uniform(2, 2, 1), Uniform(2, 3, 2), Uniform(4, 4, 3, 8)]


@pytest.mark.parametrize(("pp", "more"), [(2, 0), (3, 4), (4, 0), (5, 7), (6, 4), (8, 4), (9, 9)])
@pytest.mark.parametrize("c", COSTS)
@pytest.mark.parametrize("name", list(forms(4, COSTS[0], 2)))
def test_other_closed_forms_hold_where_their_conditions_do(name, c, pp, more):
    entry = find_schedule(name)
    form, vpp, microbatches = entry.closed, entry.default_vpp, 2 * pp + more
    if form.unmet(pp, microbatches, c):
        assert c != COSTS[0]
        return
    spans = replay(build_table(name, pp, microbatches, vpp), Costs(c.f, c.i, c.w, c.fb))
    idle = spans.rank_span - spans.busy if form.own_span else spans.idle
    assert form.bubble(pp, c) == pytest.approx(forms(pp, c, vpp)[name])
    assert idle.max() == pytest.approx(form.bubble(pp, c), abs=1e-9)
    assert spans.makespan == pytest.approx(form.makespan(pp, microbatches, c, vpp))


def test_zero_is_the_span_of_a_rank_not_the_makespan():
    for name, vpp in (("zb-h2", 1), ("zb-v", 2)):
        form = find_schedule(name).closed
        spans = replay(build_table(name, 8, 20, vpp))
        assert form.own_span
        assert (spans.rank_span == spans.busy).all()
        assert spans.makespan == spans.longest_rank_span + 7


@settings(deadline=None)
@given(
    name=st.sampled_from(list(forms(4, COSTS[0], 2))),
    pp=st.integers(1, 8),
    more=st.integers(0, 12),
    vpp=st.integers(2, 4),
)
def test_other_activation_forms_hold(name, pp, more, vpp):
    entry = find_schedule(name)
    form = entry.closed
    vpp = vpp if name.startswith("inter") else entry.default_vpp
    microbatches = 2 * pp + more
    peaks = replay(build_table(name, pp, microbatches, vpp)).peak_activations
    for freed, peak in peaks.items():
        expected = [form.activations(pp, microbatches, r, freed, vpp) for r in range(pp)]
        if name in ("v-half", "v-min"):
            assert freed == "I" or peak.max() == expected[0]
            assert (peak <= expected).all()
        else:
            assert list(peak) == expected
