"""What is predicted and how it is compared, without running anything: no torch needed."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

from simdeep.errors import InputError
from simdeep.program.schedule import Act, Costs, acts_of, replay
from simdeep.spec.model import load_model
from simdeep.validate.pipeline import Ordering, Point, Setup, make_grid, order, predict, refuse
from simdeep.validate.pipeline.calibration import (
    RESTED,
    Calibration,
    CopyCosts,
    MessageCosts,
    Overheads,
    RuntimeCosts,
    StageCosts,
)
from simdeep.validate.pipeline.calm import Try, calm_turns
from simdeep.validate.pipeline.compare import midmean
from simdeep.validate.pipeline.measured import RankStep, bubble_of, spans_of
from simdeep.validate.pipeline.points import SCHEDULES
from simdeep.validate.pipeline.run import Waits
from simdeep.validate.pipeline.runtimes import operations
from simdeep.validate.timing import Foreigners, Notes, Span

POINTS = [Point(name, p, 2 * p + 2) for name in SCHEDULES for p in (2, 4)]


# --- points


def problems(points, setup=None, cores=2, model="tiny-moe", layers=None):
    found = load_model(model)
    if layers:
        found = dataclasses.replace(found, layers=found.layers[:layers])
    with pytest.raises(InputError) as caught:
        refuse(points, setup or Setup(), found, cores)
    return [str(problem) for problem in caught.value.problems]


def test_a_grid_has_every_combination_once():
    grid = make_grid(["gpipe", "1f1b"], [2, 4, 2], [8])
    assert [*map(str, grid)] == [
        f"{name}, {p} ranks, 8 micro-batches" for p in (2, 4) for name in ("gpipe", "1f1b")
    ]
    assert Point("zb-v", 4, 8).n_stages == 8
    assert Point("dualpipe", 4, 8).n_stages == 4


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (Point("1f1B", 2, 4), "'1f1B' is not run by torch or simdeep here; did you mean 1f1b?"),
        (Point("zb1p", 2, 4), "'zb1p' is not run by torch or simdeep here"),
        (Point("1f1b", 40, 4), "40 processes on this machine; allowed: 1 to 16"),
        (Point("1f1b", 4, 4), "4 ranks would share 2 cores; add --emulate"),
        (Point("1f1b", 2, 1), "torch's 1f1b needs at least 2 micro-batches on 2 ranks"),
        (Point("dualpipe", 2, 5), "microbatches is 5"),
    ],
)
def test_points_that_cannot_be_run(point, words):
    (problem,) = problems([point])
    assert words in problem


def test_every_problem_at_once():
    found = problems([Point("1f1b", 2, 1), Point("dualpipe", 2, 2)])
    assert len(found) == 2


def test_models_that_cannot_be_split():
    assert "8 layers do not split into 6" in problems([Point("zb-v", 3, 6)], Setup(emulate=True))[0]
    assert "4 stages, must be at most its 2 layers" in problems([Point("zb-v", 2, 4)], layers=2)[0]


# --- what runtimes do


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_every_action_runs_once_and_every_message_has_two_ends(point):
    table, ops = point.table, operations(point.table)
    sends, receives, waits = [], [], []
    for rank, row in enumerate(ops):
        acts = [op.act for op in row if op.what == "run"]
        assert acts == [
            a for cell in table.rows[rank] for a in (cell if len(cell) == 2 else (cell,))
        ]
        sends += [op.message for op in row if op.what == "send"]
        receives += [op.message for op in row if op.what == "recv"]
        waits += [op.message for op in row if op.what == "wait"]
        opened = set()
        for op in row:
            if op.what in ("send", "recv"):
                opened.add(op.message)
            elif op.what == "wait":
                assert op.message in opened
        assert all(op.message.source == rank for op in row if op.what == "send")
        assert all(op.message.target == rank for op in row if op.what == "recv")
    assert len(sends) == len({*sends})
    assert {*sends} == {*receives}
    assert {*waits} == {*sends}


def test_1f1b_waits_for_a_send_together_with_the_next_receive():
    shown = []
    for op in operations(Point("1f1b", 2, 3).table)[0]:
        if op.act:
            shown.append(str(op.act))
        else:
            way = "B" if op.message.slot.gradient else "F"
            shown.append(f"{op.what} {way}{op.message.slot.mb}")
    assert shown == [
        *("0F0", "send F0", "0F1", "wait F0", "send F1", "recv B0", "wait F1", "wait B0", "0B0"),
        *("0F2", "send F2", "recv B1", "wait F2", "wait B1", "0B1"),
        *("recv B2", "wait B2", "0B2"),
    ]


# --- predictions


def calibration(point, seconds, *, between=0.0, message=0.0, **more):
    """Equal stages: seconds by kind."""
    seconds = {**{kind + RESTED: seconds[kind] for kind in "FBI"}, **seconds}
    costs = StageCosts(
        samples={what: ((s,),) for what, s in seconds.items()},
        disturbed=(0.0,),
        pace_s=(2e-3,),
        saved_bytes=1,
        parameter_bytes=1,
    )
    n = point.n_stages
    held = [(r, s, n) for r, stages in enumerate(point.table.stages_of) for s in stages]
    overheads = Overheads(
        runtimes={point.schedule: RuntimeCosts(between, dict.fromkeys("FBIW", 0.0), 0.0, 0.0)},
        messages=dict.fromkeys((True, False), MessageCosts(4, passing_s=(message,))),
        **{"copies": {}, "late_s": 0.0, "shared_cores": 0, **more},
    )
    return Calibration(dict.fromkeys(held, costs), overheads, at_once=point.ranks)


def with_overheads(given, **changes):
    return dataclasses.replace(given, overheads=dataclasses.replace(given.overheads, **changes))


SECONDS = {"F": 1.0, "B": 2.0, "I": 1.2, "W": 0.8, "scale": 0.0, "optimizer": 0.0}


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_without_overheads_a_step_is_what_replay_says(point):
    predicted = predict(point, calibration(point, SECONDS), Setup(), draws=1)
    wanted = replay(point.table, Costs(f=1.0, i=1.2, w=0.8))
    assert predicted.step_s == pytest.approx(wanted.makespan, abs=1e-6)
    assert predicted.bubble == pytest.approx(wanted.bubble_over_makespan, abs=1e-6)
    for ours, theirs in zip(predicted.spans.start, wanted.start, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_both_engines_predict_the_same():
    point = Point("zb-v", 2, 6)
    given = calibration(point, SECONDS, between=0.01, message=0.05)
    one, two = (
        predict(point, given, Setup(), draws=1, engine=engine)
        for engine in ("reference", "compiled")
    )
    assert one.step_times_s == two.step_times_s


def test_the_closed_form_of_1f1b_with_messages():
    # By hand: F0 travels, rank 1 then takes F + B a micro-batch and waits once between two for a
    # message out and one in, which go at the same time; the last gradient travels back.
    point = Point("1f1b", 2, 6)
    free = predict(point, calibration(point, SECONDS), Setup(), draws=1).step_s
    step = predict(point, calibration(point, SECONDS, message=0.1), Setup(), draws=1).step_s
    assert free == pytest.approx(7 * 3.0)
    assert step == pytest.approx(free + 0.1 * (1 + 5 + 1))


def test_overheads_add_up_on_one_rank():
    point = Point("gpipe", 1, 4)
    given = calibration(point, {**SECONDS, "scale": 0.25, "optimizer": 0.5}, between=0.125)
    runtime = RuntimeCosts(0.125, {"F": 0.01, "B": 0.02}, before_s=0.3, after_s=0.2)
    given = with_overheads(given, runtimes={"gpipe": runtime})
    step = predict(point, given, Setup(), draws=1).step_s
    assert step == pytest.approx(4 * (3.0 + 0.25 + 0.03) + 0.5 + 0.75)
    emulated = with_overheads(given, late_s=0.1)
    step = predict(point, emulated, Setup(emulate=True), draws=1).step_s
    assert step == pytest.approx(4 * (3.0 + 0.25) + 8 * 0.1 + 0.5 + 0.5 + 0.1)


def test_what_moves_a_message_takes_time_of_both_cores():
    # By hand, two ranks of GPipe and one micro-batch: F, then 0.25 of opening, 0.125 of the
    # sender's threads, 0.5 on the way, 0.125 of the receiver's; the gradient comes back likewise.
    # Rank 1 has opened its receives before.
    point = Point("gpipe", 2, 1)
    costs = MessageCosts(4, 0.25, 0.0625, (0.75,), 0.125, 0.125)
    given = with_overheads(calibration(point, SECONDS), messages={True: costs})
    assert predict(point, given, Setup(), draws=1).step_s == pytest.approx(6.0 + 2 * 1.0)


def test_a_message_slows_what_its_cores_compute():
    # The second F of rank 0 runs while the sender's threads take 0.25 s of its core.
    point = Point("gpipe", 2, 2)
    costs = MessageCosts(4, passing_s=(0.25,), sender_s=0.25)
    given = with_overheads(calibration(point, SECONDS), messages={True: costs})
    spans = predict(point, given, Setup(), draws=1).spans
    assert (spans.end[0] - spans.start[0]).tolist() == pytest.approx([1.0, 1.25, 2.0, 2.0])
    assert spans.start[1][0] == pytest.approx(1.5)  # both had half of the core for 0.5 s


def test_emulated_ranks_share_cores():
    # Four ranks whose stand-ins compute for all of their waits, on two cores: as if there were
    # two. With cores enough, or stand-ins that are nearly free, it is the waits that count.
    point = Point("gpipe", 4, 8)
    waits = calibration(point, SECONDS, shared_cores=2)
    busy = {kind: seconds for kind, seconds in SECONDS.items() if kind in "FB"}
    runtimes = {"gpipe": RuntimeCosts(0.0, busy, 0.0, 0.0)}
    free = predict(point, waits, Setup(emulate=True), draws=1)
    shared = predict(point, with_overheads(waits, runtimes=runtimes), Setup(emulate=True), draws=1)
    alone = with_overheads(waits, runtimes=runtimes, shared_cores=4)
    assert free.step_s == pytest.approx(11 * 3.0)
    assert predict(point, alone, Setup(emulate=True), draws=1).step_s == pytest.approx(11 * 3.0)
    assert shared.step_s >= 4 * 8 * 3.0 / 2
    both = [
        predict(point, waits, Setup(emulate=True), draws=1, engine=engine).step_times_s
        for engine in ("reference", "compiled")
    ]
    assert both[0] == both[1]


def test_copies_are_added_up_by_pairs_of_ranks():
    # Both ranks of a pair wait for each other, compute, and wait for the rest; not for other pairs.
    point = Point("dualpipe", 2, 4)
    given = calibration(point, SECONDS)
    free = predict(point, given, Setup(), draws=1).step_s
    copies = {rank: CopyCosts(0.5, 0.25) for rank in range(2)}
    added = predict(point, with_overheads(given, copies=copies), Setup(), draws=1).step_s
    assert added == pytest.approx(free + 0.75)


def test_an_action_after_a_wait_is_slower():
    # GPipe, two ranks, two micro-batches: rank 1 waits before its first F, and at 0.9 s for the
    # second one not long enough; rank 0 before each of its B.
    point = Point("gpipe", 2, 2)
    seconds = {**SECONDS, "F" + RESTED: 1.5, "B" + RESTED: 2.25}
    predicted = predict(point, calibration(point, seconds), Setup(), draws=1)
    both = zip(predicted.spans.start, predicted.spans.end, strict=True)
    took = [(end - start).tolist() for start, end in both]
    assert took[1] == pytest.approx([1.5, 1.0, 2.0, 2.0])
    assert took[0] == pytest.approx([1.0, 1.0, 2.25, 2.0])
    emulated = predict(point, calibration(point, seconds), Setup(emulate=True), draws=1)
    assert emulated.step_s == pytest.approx(3 * 3.0)


def test_draws_take_neighbouring_samples():
    point = Point("1f1b", 2, 4)
    given = calibration(point, SECONDS)
    (costs, *_) = given.stages.values()
    slow = {what: (*turns, (3 * turns[0][0],)) for what, turns in costs.samples.items()}
    stages = {
        part: dataclasses.replace(costs, samples=slow, disturbed=(0.0, 2.0), pace_s=(2e-3, 3e-3))
        for part, costs in given.stages.items()
    }
    both = dataclasses.replace(given, stages=stages)
    steps = {round(s, 6) for s in predict(point, both, Setup(), draws=15).step_times_s}
    assert steps == {15.0, 45.0}  # a whole step of one turn or of the other, never a mixture
    assert {*predict(point, both.of_turns([0]), Setup(), draws=3).step_times_s} == {15.0}


# --- comparing


def test_the_order_of_pairs():
    assert order([1.0, 2.0, 3.0], [1.0, 1.04, 2.0]) == Ordering(2, 2)
    assert order([3.0, 2.0, 1.0], [1.0, 2.0, 3.0]) == Ordering(0, 3)
    assert order([1.0, 2.0], [1.0, 1.0]).share == 1.0


def test_calm_turns_are_kept_or_the_least_disturbed_ones():
    assert calm_turns([0.1, 2.0, 0.3, 0.4, 0.5], [0.2, 0.1, 1.5, 0.0, 0.9]) == [0, 3, 4]
    assert calm_turns([0.1, 0.2, 0.3, 0.4]) == [0, 1, 2, 3]
    assert calm_turns([5.0, 4.0, 0.5, 9.0, 3.0]) == [0, 1, 2, 4]
    assert calm_turns([2.0, 30.0, 2.5, 20.0, 3.0, 2.0]) == [0, 2, 4, 5]
    assert calm_turns([0.1, 0.2, 20.0, 30.0]) == [0, 1, 2]  # too few to do without the third
    assert calm_turns([5.0, 4.0]) == [0, 1]


def test_the_mean_of_the_middle_half():
    assert midmean([9.0, 1.0, 2.0, 3.0, -50.0, 2.5, 700.0, 4.0]) == pytest.approx(11.5 / 4)
    assert midmean([1.0, 2.0, 6.0]) == pytest.approx(3.0)


def test_signs_of_disturbance():
    def disturbed(*signs):
        return Try(None, *signs).disturbed

    assert disturbed(0.0, 0.0, 2e-3, 2e-3) == 0.0
    assert disturbed(0.1, 0.0, 2e-3, 2e-3) == pytest.approx(2.0)
    assert disturbed(0.0, 0.3, 2e-3, 2e-3) == pytest.approx(3.0)
    assert disturbed(0.0, 0.0, 2e-3, 2.5e-3) == disturbed(0.0, 0.0, 2.5e-3, 2e-3)
    assert disturbed(0.0, 0.0, 2e-3, 2.5e-3) == pytest.approx(2.5)


def test_spans_are_those_of_the_table():
    point = Point("dualpipev", 2, 4)
    by_rank = []
    for row in point.table.rows:
        acts = [act for cell in row for act in acts_of(cell)]
        by_rank.append([Span(act, i, i + 0.5) for i, act in enumerate(acts)])
    spans = spans_of(point.table, by_rank, 0.0)
    assert [*map(len, spans.start)] == [*map(len, point.table.rows)]
    assert 0.0 < bubble_of(spans) < 0.5
    by_rank[1][0], by_rank[1][1] = by_rank[1][1], by_rank[1][0]
    with pytest.raises(ValueError, match="dualpipev ran"):
        spans_of(point.table, by_rank, 0.0)


def test_a_wait_lasts_as_long_as_it_says(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(
        perf_counter=lambda: clock.now,
        thread_time=lambda: 0.0,
        sleep=lambda s: setattr(clock, "now", clock.now + s),
    )
    monkeypatch.setattr("simdeep.validate.timing.time", fake)
    waits = Waits({(1, 0, 2): {"F": (2.0,)}, (0, 0, 2): {"F": (7.0,)}}, {})
    notes = Notes(waits.of_rank(1, 2))
    with notes.taking(Act("F", 0, 0)):
        clock.now += 0.5
    with notes.taking(Act("F", 0, 1)):
        clock.now += 3.0  # longer than the wait: nothing is left to wait for
    assert [(s.start, s.end) for s in notes.take()] == [(0.0, 2.0), (2.0, 5.0)]
    assert notes.take() == []


def test_time_the_thread_did_not_run_is_noted(monkeypatch):
    clock = SimpleNamespace(now=0.0, ran=0.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now, thread_time=lambda: clock.ran)
    monkeypatch.setattr("simdeep.validate.timing.time", fake)
    notes = Notes()
    with notes.taking(Act("F", 1, 0)):
        clock.now, clock.ran = 1.0, 0.75
    with notes.extending():
        clock.now, clock.ran = 1.5, 1.25
    (span,) = notes.take()
    assert span == Span(Act("F", 1, 0), 0.0, 1.5, pytest.approx(0.25))


def test_foreign_cores_are_never_negative():
    assert Foreigners().cores(math.inf) == 0.0


def test_a_rank_step_is_data():
    step = RankStep(0.0, 1.0, ())
    assert "spans" not in repr(step)
